import math
from dataclasses import replace
from typing import Any

import pytest

from study.config import file, parser
from study.metrics.reports import TrialStatus
from study.results.report import collect
from study.results.table1 import as_rows, note
from study.tracking.records import StudyRecord, TrialRecord
from tests.support.launched import ROOT
from tests.support.records import STUDY, trial

SIX = [{"norm": norm, "coeff": 0.9} for norm in ("none", "batch", "spectral")]
SIX += [{"norm": "spectral", "coeff": coeff} for coeff in (0.7, 0.5, 0.3)]


def study(name: str) -> StudyRecord:
    loaded = file.load(ROOT / "search_spaces" / f"{name}.yaml")
    return replace(STUDY, name=name, config=loaded)


def network(
    number: int, sample: dict[str, Any], n_epochs: int = 3, **metrics: float
) -> TrialRecord:
    record = trial(number, sample=sample, **{"test_accuracy": 0.99, **metrics})
    return replace(record, n_epochs=n_epochs)


@pytest.mark.parametrize("name", ["table1_digits", "table1_mnist", "table1_cifar10"])
def test_a_study_of_the_table_trains_its_six_networks_once(name: str) -> None:
    loaded = file.load(ROOT / "search_spaces" / f"{name}.yaml")
    grid = loaded.grid()
    assert [{key: sample[key] for key in ("norm", "coeff")} for sample in grid[:6]] == SIX
    assert loaded.n_trainings == 6
    assert loaded.model.blocks == (18, 18, 19)


@pytest.mark.parametrize(
    ("bounds", "guaranteed"), [((0.9, 9.0), True), ((1.2, 9.0), True), ((1.2, math.inf), False)]
)
def test_an_inverse_is_guaranteed_with_a_contraction_or_without(
    bounds: tuple[float, float], guaranteed: bool
) -> None:
    names = ("lipschitz_upper_bound", "inverse_lipschitz_upper_bound")
    record = network(0, SIX[0], **dict(zip(names, bounds, strict=True)))
    (column, *_) = collect(study("table1_digits"), [record]).table1
    assert column.ours is not None
    assert column.ours.guaranteed == guaranteed


def test_ours_stands_above_the_papers_and_the_difference_is_between_them() -> None:
    unproven = {"inverse_lipschitz_upper_bound": math.inf}
    records = [
        network(0, SIX[0], **unproven, lipschitz_upper_bound=20.0, reconstruction_error=3e-7),
        network(1, SIX[1], **unproven, lipschitz_upper_bound=9.0, reconstruction_error=math.inf),
        network(2, SIX[2], lipschitz_upper_bound=0.9, test_accuracy=0.9),
        replace(network(3, SIX[3]), state=TrialStatus.FAILED),
        network(5, SIX[5], lipschitz_upper_bound=0.1, reconstruction_error=2e-7),
    ]
    table = collect(study("table1_mnist"), records).table1
    assert [c.name for c in table] == ["Vanilla", "BN", "c = 0.9", "c = 0.7", "c = 0.5", "c = 0.3"]
    assert [c.ours and c.ours.guaranteed for c in table] == [False, False, True, None, None, True]
    assert [c.paper and c.paper.guaranteed for c in table] == [False, False] + [True] * 4
    rows = dict(as_rows(table)[:3])
    # Paper, Table 1, MNIST.
    assert rows["  in the paper"] == ["0.61", "0.65", "0.64", "0.61", "1.12", "1.65"]
    assert rows["classification error, %"] == ["1.00", "1.00", "10.00", "", "", "1.00"]
    assert rows["  difference"] == ["+0.39", "+0.35", "+9.36", "", "", "-0.65"]
    rows = dict(as_rows(table)[3:6])
    assert rows["reconstruction error, l2"][:2] == ["3.0e-07", "inf"]
    assert rows["  in the paper"][1] == "1.0e+00"
    assert rows["  difference"][:2] == ["+5.0e-08", "+inf"]
    said = note(table)
    assert said.startswith("Ours after 3 epochs. The paper's after 200 epochs.")
    assert "no figures" not in said


@pytest.mark.parametrize(
    ("n_epochs", "start"),
    [([5, 3, 4], "Ours after 3 to 5 epochs. The paper's"), ([], "The paper's after 200 epochs.")],
)
def test_the_epochs_are_those_of_the_networks(n_epochs: list[int], start: str) -> None:
    records = [network(i, SIX[i + 2], n) for i, n in enumerate(n_epochs)]
    table = collect(study("table1_mnist"), records).table1
    assert note(table).startswith(start)


def test_of_several_recipes_for_a_network_the_table_has_the_best_on_validation_images() -> None:
    records = [
        network(0, {**SIX[0], "lr": 0.1}, val_accuracy=0.97, test_accuracy=0.99),
        network(1, {**SIX[0], "lr": 0.02}, val_accuracy=0.98, test_accuracy=0.96),
        network(2, {**SIX[0], "lr": 0.01}, val_accuracy=0.95, test_accuracy=0.95),
    ]
    table = collect(study("table1_mnist"), records).table1
    assert [c.ours and c.ours.error for c in table] == [pytest.approx(4.0), *[None] * 5]


def test_infinity_less_infinity_is_no_difference() -> None:
    record = network(1, SIX[1], reconstruction_error=math.inf)
    table = collect(study("table1_cifar10"), [record]).table1
    rows = dict(as_rows(table)[3:6])
    assert rows["reconstruction error, l2"][1] == rows["  in the paper"][1] == "inf"
    assert rows["  difference"][1] == ""


def test_where_the_paper_has_no_figures_ours_stand_alone() -> None:
    table = collect(study("table1_digits"), [network(0, SIX[0])]).table1
    assert [title for title, _ in as_rows(table)] == [
        "classification error, %", "reconstruction error, l2", "guaranteed inverse",
    ]  # fmt: skip
    assert "The paper has no figures for this network and data." in note(table)


@pytest.mark.parametrize(
    "change", [{"model": {"blocks": [1]}}, {"data": {"size": 16}}, {"data": {"max_train": 100}}]
)
def test_another_network_or_less_data_has_not_the_papers_figures(
    change: dict[str, dict[str, Any]],
) -> None:
    record = study("table1_mnist")
    raw = record.config.to_dict()
    raw = {k: {**v, **change.get(k, {})} if isinstance(v, dict) else v for k, v in raw.items()}
    changed = replace(record, config=parser.parse(raw, "changed"))
    table = collect(changed, [network(0, SIX[0])]).table1
    assert all(column.paper is None for column in table)


def test_no_other_study_is_the_table() -> None:
    assert collect(STUDY, [trial(0)]).table1 is None
