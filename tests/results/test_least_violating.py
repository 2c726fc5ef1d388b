import json
import math
import random
from dataclasses import replace

import pytest

from study.metrics.goals import INVERTIBLE, Constraint
from study.metrics.reports import TrialStatus
from study.results.report import Report, collect
from study.results.views.page import page
from study.results.views.report_view import view
from study.results.views.sections import as_json
from tests.support.records import STUDY, Kept, printed, trial
from tests.support.report_page import content_of

CONSTRAINTS = (
    INVERTIBLE,
    Constraint("block_lipschitz_upper_bound", "<", 0.5),
    Constraint("val_accuracy", ">=", 0.9),
)


def infeasible(seed: int, repeats: int = 1) -> Report:
    """A study of eight samples none of which meets the constraints."""
    rng = random.Random(seed)
    records = []
    for of in range(8):
        broken = rng.randint(1, 7)
        for again in range(repeats):
            one = trial(
                10 * of + again,
                inverse_lipschitz_upper_bound=math.inf if broken & 1 else 3.0,
                block_lipschitz_upper_bound=rng.uniform(0.5, 2) if broken & 2 else 0.4,
                val_accuracy=rng.uniform(0, 0.89) if broken & 4 else 0.95,
            )
            records.append(replace(one, repeat_of=f"{of}"))
    return collect(STUDY, records, constraints=CONSTRAINTS)


@pytest.mark.parametrize("repeats", [1, 3])
def test_the_three_that_violate_least_are_shown_and_are_on_no_front(repeats: int) -> None:
    for seed in range(20):
        report = infeasible(seed, repeats)
        violations = {}
        for point in report.points:
            trainings = [record.metrics for record in point.records]
            bound = max(m["block_lipschitz_upper_bound"] for m in trainings)
            accuracy = min(m["val_accuracy"] for m in trainings)
            violations[point.handle] = (
                any(math.isinf(m["inverse_lipschitz_upper_bound"]) for m in trainings)
                + max(0.0, (bound - 0.5) / 0.5)
                + max(0.0, (0.9 - accuracy) / 0.9)
            )
        least = sorted(violations, key=lambda handle: violations[handle])[:3]
        written = json.loads(as_json(report.content(every=False)))
        assert written["points"] == []
        assert [one["network"] for one in written["least_violating"]] == least
        for one in written["least_violating"]:
            assert one["violation"] == pytest.approx(violations[one["network"]])
            assert one["violation"] == pytest.approx(sum(one["broken"].values()))
            keys = {"invertible", "block_lipschitz_upper_bound", "val_accuracy"}
            assert set(one["broken"]) <= keys
        rows = [line.split() for line in printed(report, width=200).splitlines()[2:5]]
        assert [row[:2] for row in rows] == [[handle, "infeasible"] for handle in least]
        assert report.frame.head(len(report.front)).empty


def test_each_is_shown_with_what_it_breaks_and_by_how_much() -> None:
    worst = {"val_accuracy": 0.45, "inverse_lipschitz_upper_bound": math.inf}
    records = [
        trial(0, block_lipschitz_upper_bound=0.6, val_accuracy=0.95),
        trial(1, block_lipschitz_upper_bound=0.5, val_accuracy=0.95),
        trial(2, block_lipschitz_upper_bound=0.4, **worst),
    ]
    report = collect(STUDY, records, constraints=CONSTRAINTS)
    lines = [
        "no network meets the constraints; these violate them least:",
        "tiny/0001: block_lipschitz_upper_bound must be < 0.5, but is 0.5, 0.0% beyond",
        "tiny/0000: block_lipschitz_upper_bound must be < 0.5, but is 0.6, 20.0% beyond",
        "tiny/0002: no proven inverse; val_accuracy must be >= 0.9, but is 0.45, 50.0% beyond",
    ]
    for every in (False, True):
        text = " ".join(printed(report, every).split())
        assert " ".join(lines) in text
    filtered = replace(report, where="dropout > 0")
    assert (
        filtered.violations[0]
        == "none of these networks meets the constraints; these violate them least:"
    )
    shown = view(replace(report, records=Kept()))
    content = content_of(page(shown, shown.content()))
    assert content["violations"] == lines
    assert content["recommended"] == []
    assert "recommended" not in content["absent"]


def test_nothing_is_said_where_the_constraints_are_not_what_is_missed() -> None:
    broken = trial(0, block_lipschitz_upper_bound=0.6)
    for others in (
        [trial(1, block_lipschitz_upper_bound=0.1, val_accuracy=0.95)],
        # It meets the constraints, but an objective is not finite.
        [trial(1, block_lipschitz_upper_bound=0.1, val_accuracy=0.95, inverse_steps=math.inf)],
    ):
        report = collect(STUDY, [broken, *others], constraints=CONSTRAINTS)
        assert report.least_violating == []
        assert "violate" not in printed(report, every=True)
    failed = collect(STUDY, [trial(0, TrialStatus.FAILED)], constraints=CONSTRAINTS)
    assert failed.least_violating == []
