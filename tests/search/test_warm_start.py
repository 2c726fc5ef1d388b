from dataclasses import replace
from typing import Any

import pytest

from study.config.parser import parse
from study.config.space import CategoricalParameter, FloatParameter, IntParameter
from study.metrics.reports import TrialStatus
from study.search.observation import Outcome
from study.search.warm_start import difference, is_inside, usable
from study.tracking.records import TrialRecord
from tests.support.studies import RAW, epoch_report, projection_report, tiny


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"training": {"max_epochs": 5}}, "training.max_epochs is 5 there and 3 here"),
        ({"model": {"blocks": [1]}}, "model.blocks is [1] there and [1, 1] here"),
        ({"data": {"split_seed": 1}}, "data.split_seed is 1 there and 0 here"),
        (
            {"evaluation": {"inverse_rtol": 1e-3}},
            "evaluation.inverse_rtol is 0.001 there and 1e-06 here",
        ),
        ({"objectives": {"reconstruction_error": "minimize"}}, "objectives is {"),
    ],
)
def test_what_would_give_other_numbers_is_named(sections: dict[str, Any], reason: str) -> None:
    found = difference(tiny(), tiny(**sections))
    assert found is not None
    assert found.startswith(reason)


def test_what_gives_the_same_numbers_is_no_difference() -> None:
    assert difference(tiny(), replace(tiny(), name="other")) is None
    assert difference(tiny(), tiny(data={"root": "/elsewhere", "download": True})) is None
    assert difference(tiny(), tiny(search={"seed": 7, "sampler": "random", "ladder": 3})) is None
    narrower = {"coeff": {"type": "float", "low": 0.5, "high": 0.6}}
    assert difference(tiny(), tiny(space={**RAW["space"], **narrower})) is None
    fewer = {key: value for key, value in RAW["space"].items() if key != "dropout"}
    assert difference(tiny(), parse({**RAW, "space": fewer}, "x")) is not None


def test_other_rungs_are_a_difference_where_the_sampler_observes_them() -> None:
    ladder = tiny(search={"ladder": [0.5, 0.4]})
    assert difference(ladder, tiny(search={"ladder": [0.5, 0.4], "seed": 7})) is None
    assert difference(ladder, tiny(search={"ladder": [0.5]})) == (
        "search.ladder is [0.5] there and [0.5, 0.4] here"
    )
    assert difference(ladder, tiny()) == "search.ladder is [] there and [0.5, 0.4] here"
    tuned = tiny(search={"ladder": [0.5, 0.4], "fine_tune_steps": 9})
    assert difference(ladder, tuned) == "search.fine_tune_steps is 9 there and 0 here"


def test_an_earlier_trial_has_the_networks_that_this_study_admits() -> None:
    sample = {"coeff": 0.9, "n_power_iterations": 1, "dropout": 0.1}
    own = TrialRecord(
        "0001", "run", TrialStatus.COMPLETED, {}, epoch_report(3).metrics(), sample, "0001"
    )
    records = [
        replace(own, metrics=epoch_report(3, lipschitz_upper_bound=1.5).metrics()),
        replace(own, metrics=projection_report(0.5).metrics(), projected_to=0.5),
        replace(own, metrics=projection_report(0.4).metrics(), projected_to=0.4),
        replace(own, trial_id="0002", state=TrialStatus.STOPPED_EARLY),
        replace(own, trial_id="0003", sample={**sample, "coeff": 0.2}),
    ]
    taken, n_left = usable(tiny(search={"ladder": [0.5, 0.4]}), records)
    assert n_left == {"stopped_early": 1, "outside this study's space": 1}
    (trial,) = taken
    assert trial.sample == sample
    assert trial.outcome == Outcome(
        epoch_report(3, lipschitz_upper_bound=1.5).metrics(),
        {0.5: projection_report(0.5).metrics(), 0.4: projection_report(0.4).metrics()},
    )


def test_a_sample_is_inside_if_the_study_could_have_proposed_it() -> None:
    space = (
        ("coeff", FloatParameter("float", 0.5, 0.9)),
        ("lr", FloatParameter("float", 0.1, 0.7, step=0.2)),
        ("n_power_iterations", IntParameter("int", 1, 9)),
        ("blocks", CategoricalParameter("categorical", ([1], [1, 1]))),
        ("dropout", CategoricalParameter("categorical", (0.0, 0.5))),
    )
    good = {"coeff": 0.7, "lr": 0.1 + 0.2 + 0.2, "n_power_iterations": 3, "blocks": [1, 1]}
    good = {**good, "dropout": 0.0}
    assert is_inside(space, good)
    for key, value in (
        ("coeff", 0.95), ("coeff", None), ("coeff", True), ("coeff", "0.7"), ("lr", 0.4),
        ("n_power_iterations", 0), ("blocks", [2]), ("dropout", 0),
    ):  # fmt: skip
        assert not is_inside(space, {**good, key: value}), (key, value)
    assert not is_inside(space, {"coeff": 0.7})
