"""The figures of Table 1 of the paper beside those of a study of its networks."""

import math
from dataclasses import replace
from typing import Any

import pytest

from study.config import file, parser
from study.results.paper import figures, is_table1
from study.results.report import Report, collect
from study.results.views.report_view import view
from tests.results.test_page import drawn, parts
from tests.support.launched import ROOT
from tests.support.records import STUDY, Kept, printed, projection, trial
from tests.support.studies import tiny

SIX = [{"norm": norm, "coeff": 0.9} for norm in ("none", "batch", "spectral")]
SIX += [{"norm": "spectral", "coeff": coeff} for coeff in (0.7, 0.5, 0.3)]


def report(name: str, change: dict[str, dict[str, Any]] | None = None) -> Report:
    """Of the six networks of a shipped study, and a projection of the last."""
    raw = file.load(ROOT / "search_spaces" / f"{name}.yaml").to_dict()
    for section, values in (change or {}).items():
        raw[section] = {**raw[section], **values}
    study = replace(STUDY, name=name, config=parser.parse(raw, name))
    records = [
        trial(k, sample=sample, test_accuracy=0.99, reconstruction_error=math.inf)
        for k, sample in enumerate(SIX)
    ]
    return replace(collect(study, [*records, projection(0, 0.1)]), records=Kept())


@pytest.mark.parametrize("name", ["table1_digits", "table1_mnist", "table1_cifar10"])
def test_a_study_of_the_table_trains_its_six_networks_once(name: str) -> None:
    loaded = file.load(ROOT / "search_spaces" / f"{name}.yaml")
    assert [{key: one[key] for key in ("norm", "coeff")} for one in loaded.grid()[:6]] == SIX
    assert loaded.n_trainings == 6
    assert loaded.model.blocks == (18, 18, 19)


def test_the_papers_figures_stand_beside_ours() -> None:
    results = report("table1_mnist")
    # Paper, Table 1, MNIST: 1 - classification error, and reconstruction error; no projection.
    expected = [(1 - error / 100) for error in (0.61, 0.65, 0.64, 0.61, 1.12, 1.65)]
    found = figures(results.study.config, results.points)
    assert [float(text) for text in found["paper acc"][:6]] == pytest.approx(expected)
    assert [float(text) for text in found["paper rec"][:2]] == [2.5e-7, 1.0]
    assert [texts[6] for texts in found.values()] == ["", ""]
    lines = printed(results, every=True).splitlines()
    (row,) = [row.split() for row in lines if row.startswith("table1_mnist/0001 ")]
    assert row[row.index("0.9935") - 1 : row.index("0.9935") + 2] == ["inf", "0.9935", "1.0e+00"]
    content = parts(drawn(view(results)))[1]
    at = content["points"]["network"].index("table1_mnist/0004")
    assert [content["points"][head][at] for head in content["paper"]] == ["0.9888", "1.6e-07"]
    # Its Figures 2, 3 and 4 are of the six networks.
    assert len(content["networks"]) == content["n_chosen"] == 6


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("table1_digits", {}),
        ("table1_mnist", {"model": {"blocks": [1]}}),
        ("table1_mnist", {"data": {"size": 16}}),
        ("table1_mnist", {"data": {"max_train": 100}}),
    ],
)
def test_another_network_or_less_data_has_not_the_papers_figures(
    name: str, change: dict[str, dict[str, Any]]
) -> None:
    results = report(name, change)
    assert figures(results.study.config, results.points) == {}


def test_a_study_that_varies_more_is_not_the_table() -> None:
    config = report("table1_mnist").study.config
    more = replace(config, space=(*config.space, *tiny().space))
    assert [is_table1(one) for one in (config, more, tiny())] == [True, False, False]
