import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from study.errors import UserError
from study.metrics.definitions import Direction
from study.metrics.goals import Objective
from study.metrics.reports import CONTROL, TrialStatus
from study.pareto.points import losses_of_trainings
from study.results.front import Mark
from study.results.objectives import parse_objectives
from study.results.report import collect
from study.results.views.report_table import counts_of, networks
from study.results.views.sections import Terminal
from study.tracking.study_record import TrialRecord
from tests.support.records import STUDY, marks, measured, projection, sought, trial


def test_the_front_admits_only_what_is_real() -> None:
    best: dict[str, Any] = {
        "val_accuracy": 1.0,
        "block_lipschitz_upper_bound": 0.01,
        "inverse_steps": 1,
    }
    report = collect(
        STUDY,
        [
            measured(0, 0.9),
            measured(1, 0.8, 0.5),
            measured(2, 0.7),
            trial(3, **{**best, "block_lipschitz_upper_bound": 1.0}),
            trial(4, **{**best, "block_lipschitz_upper_bound": math.inf}),
            trial(5, TrialStatus.STOPPED_EARLY, **best),
            trial(6, TrialStatus.FAILED, **best),
            trial(7, TrialStatus.RUNNING, **best),
            trial(8, TrialStatus.INTERRUPTED, **best),
            trial(9, **{**best, "val_accuracy": math.nan}),
            replace(trial(10, **best), metrics={}),
            measured(11, 0.9),
        ],
    )
    assert list(marks(report).values()) == [
        "front", "front", "dominated", "infeasible", "infeasible", "stopped_early", "failed",
        "running", "interrupted", "infeasible", "not_measured",
        "dominated",  # equal to another point of the front, which was trained before
    ]  # fmt: skip
    assert [point.label for point in report.front] == ["0000", "0001"]


def test_a_control_is_never_on_the_front_however_good_it_is() -> None:
    """And leaves nobody else off it."""
    records = [
        trial(0, val_accuracy=0.5, block_lipschitz_upper_bound=0.5, inverse_steps=5.0),
        replace(
            trial(0, val_accuracy=1.0, block_lipschitz_upper_bound=0.0, inverse_steps=1.0),
            run_id="control",
            variant=CONTROL,
        ),
    ]
    report = collect(STUDY, records)
    assert {point.label: point.mark for point in report.points} == {
        "0000": Mark.FRONT, "0000@0": Mark.CONTROL,
    }  # fmt: skip
    assert [point.label for point in report.front] == ["0000"]
    assert report.hypervolume == collect(STUDY, records[:1]).hypervolume


def test_what_networks_add_to_their_controls_is_said() -> None:
    """Of two networks one is dominated by a control, which its recommendation begins with."""
    bounds = (0.5, 0.0), (0.9, 0.6)
    records = [
        record
        for n, (accuracy, of_control) in enumerate(bounds)
        for record in (
            trial(n, val_accuracy=accuracy, block_lipschitz_upper_bound=0.2 + 0.3 * n,
                  inverse_steps=5.0 + n),
            replace(
                trial(n, val_accuracy=of_control, block_lipschitz_upper_bound=0.1,
                      inverse_steps=1.0),
                run_id=f"control {n}",
                variant=CONTROL,
            ),
        )
    ]  # fmt: skip
    report = collect(STUDY, records)
    networks, controls = records[::2], records[1::2]
    assert report.added_to_controls == pytest.approx(
        volume_of([*networks, *controls]) - volume_of(controls)
    )
    sentences = {one.point.label: one.sentence for one in report.recommended}
    handle = f"{STUDY.name}/0001@0"
    assert sentences["0000"].startswith(f"{handle}, a classifier alone, is no worse in any obj")
    assert "alone" not in sentences["0001"]
    assert collect(STUDY, networks).added_to_controls is None


def volume_of(records: list[TrialRecord]) -> float:
    """The hypervolume of records that are all trials of their own."""
    alone = [replace(r, variant=None, run_id=f"{n}", trial_id=f"{n:04d}", repeat_of=f"{n}")
             for n, r in enumerate(records)]  # fmt: skip
    volume = collect(STUDY, alone).hypervolume
    assert volume is not None
    return volume


def test_the_front_is_that_of_brute_force() -> None:
    generator = random.Random(0)
    tenths = [[generator.randint(1, 6) / 10 for _ in range(3)] for _ in range(60)]
    records = [measured(n, *of_one) for n, of_one in enumerate(tenths)]

    def loss(t: TrialRecord) -> tuple[float, ...]:
        m = t.metrics
        return -m["val_accuracy"], m["block_lipschitz_upper_bound"], m["inverse_steps"]

    def dominates(a: TrialRecord, b: TrialRecord) -> bool:
        return loss(a) != loss(b) and all(x <= y for x, y in zip(loss(a), loss(b), strict=True))

    expected = {
        t.trial_id
        for n, t in enumerate(records)
        if not any(dominates(o, t) for o in records)
        and not any(loss(o) == loss(t) for o in records[:n])
    }
    assert {point.label for point in collect(STUDY, records).front} == expected


def test_hypervolume_is_the_box_below_the_reference_point() -> None:
    report = collect(STUDY, [measured(0, 0.9, 0.4, 10.0)])
    # Reference: accuracy 0, bound 1, 100 steps.
    assert report.hypervolume == pytest.approx(0.9 * 0.6 * 90)
    assert collect(STUDY, []).hypervolume == 0


def test_other_objectives_can_be_asked_for() -> None:
    objectives = parse_objectives(["val_loss:minimize", "val_accuracy:maximize"], STUDY)
    assert objectives[1] == Objective("val_accuracy", Direction.MAXIMIZE, 0.0)
    assert math.isnan(objectives[0].reference)
    report = collect(STUDY, [trial(0), trial(1, val_loss=0.1)], objectives)
    assert marks(report) == {"0000": "dominated", "0001": "front"}
    assert report.hypervolume is None
    assert parse_objectives([], STUDY) is None
    (former,) = parse_objectives(["lipschitz_upper_bound:minimize"], STUDY)
    assert former.metric == "block_lipschitz_upper_bound"


def test_a_network_that_lacks_a_measurement_is_said_to_lack_it() -> None:
    """Attacks are made on networks as they were trained, not on their scaled-down copies, of which
    one breaks the constraint as well."""
    bound = "block_lipschitz_upper_bound"
    records = [
        trial(0, attacked_accuracy=0.5, val_accuracy=0.9),
        trial(1, attacked_accuracy=0.6, val_accuracy=0.8, **{bound: 1.5}),
        *(projection(0, rung, val_accuracy=1.0) for rung in (0.5, 0.3)),
        projection(1, 0.5, **{bound: 1.5}),
    ]
    texts = ["val_accuracy:maximize", "attacked_accuracy:maximize"]
    report = collect(STUDY, records, parse_objectives(texts, STUDY))
    assert marks(report) == {
        "0000": "front", "0000@0.5": "not_measured", "0000@0.3": "not_measured",
        "0001": "infeasible", "0001@0.5": "not_measured",
    }  # fmt: skip
    assert report.missing == {"attacked_accuracy": 3}
    assert counts_of(report) == "tiny: 1 front, 1 infeasible, 3 not_measured"
    texts = networks(report, Terminal()).texts
    assert "not measured: attacked_accuracy of 3 networks" in texts
    assert collect(STUDY, records).missing == {}


def test_what_is_said_of_the_only_network_of_a_front_holds_beside_a_better_one_that_is_not() -> (
    None
):
    report = collect(STUDY, [measured(0, 0.9), measured(1, 1.0, bound=1.5, steps=1.0)])
    (one,) = report.recommended
    assert "the only network on the front: no other that it admits is better" in one.sentence


@pytest.mark.parametrize("text", ["val_accuracy", "val_acc:maximize", "val_accuracy:up", ""])
def test_an_objective_that_cannot_be_read_is_said(text: str) -> None:
    with pytest.raises(UserError, match=f"^objectives: must be .* but got '{text}'"):
        parse_objectives([text], STUDY)


def repeated(number: int, of: int, **metrics: float) -> TrialRecord:
    return replace(trial(number, **metrics), repeat_of=f"{of:04d}")


def test_repeats_of_a_sample_are_one_point_with_their_mean_and_its_standard_error() -> None:
    accuracies = {0: (0.90, 0.92, 0.94), 3: (0.70, 0.74)}
    records = [
        repeated(of + index, of, val_accuracy=value, block_lipschitz_upper_bound=0.5)
        for of, values in accuracies.items()
        for index, value in enumerate(values)
    ]
    report = collect(STUDY, [*records, trial(9, val_accuracy=0.91)])
    first, second, third = report.points
    assert [len(p.records) for p in report.points] == [3, 2, 1]
    assert first.metrics["val_accuracy"] == pytest.approx(0.92)
    # Pooled: squares 0.0008 and 0.0008 over 2 + 1 degrees of freedom.
    deviation = math.sqrt(0.0016 / 3)
    for point in (first, second, third):
        expected = deviation / math.sqrt(len(point.records))
        assert point.standard_error["val_accuracy"] == pytest.approx(expected)
        assert point.standard_error["block_lipschitz_upper_bound"] == 0
    assert first.mark is Mark.FRONT
    assert second.mark is Mark.DOMINATED
    assert first.front_share == 1  # nothing comes near it
    assert second.front_share == 0


def test_repeats_of_a_bound_of_the_inverse_differ_by_ratios() -> None:
    """As much at every size: differences of the largest say nothing about the smallest."""
    objectives = sought(val_accuracy=0.0, inverse_lipschitz_upper_bound=1e8)
    networks = {0: (0.8, 2.0), 2: (0.8, 20.0), 4: (0.9, 2e6)}
    records = [
        repeated(of + again, of, val_accuracy=accuracy, inverse_lipschitz_upper_bound=bound * ratio)
        for of, (accuracy, bound) in networks.items()
        for again, ratio in enumerate((1.0, 1.1))
    ]
    report = collect(STUDY, records, objectives)
    assert [point.front_share for point in report.points] == [1, 0, 1]
    for point in report.points:
        # Of two values, the standard error of the mean is half of their distance.
        first, second = (r.metrics["inverse_lipschitz_upper_bound"] for r in point.records)
        error = point.standard_error["inverse_lipschitz_upper_bound"]
        assert error == pytest.approx((second - first) / 2, rel=0.01)


def test_trainings_lie_around_what_is_reported_of_their_point() -> None:
    objectives = sought(inverse_lipschitz_upper_bound=1e8)
    bounds = 10.0, 1000.0
    records = [
        repeated(k, 0, inverse_lipschitz_upper_bound=bound) for k, bound in enumerate(bounds)
    ]
    (point,) = collect(STUDY, records, objectives).points
    trained = [record.metrics for record in point.records]
    losses = losses_of_trainings(trained, point.metrics, objectives)
    # By hand: the mean of the bounds is 505, and each is a decade from that of their logarithms.
    middle = math.log10(505)
    np.testing.assert_allclose(losses, [[middle - 1], [middle + 1]])


def test_a_sample_one_of_whose_networks_breaks_the_constraint_is_infeasible() -> None:
    records = [repeated(0, 0), repeated(1, 0, block_lipschitz_upper_bound=1.5)]
    assert marks(collect(STUDY, records)) == {"0000": "infeasible"}


def test_a_repeat_that_did_not_complete_is_shown_by_itself() -> None:
    stopped = replace(repeated(1, 0), state=TrialStatus.STOPPED_EARLY)
    report = collect(STUDY, [repeated(0, 0), stopped])
    assert marks(report) == {"0000": "front", "0001": "stopped_early"}
    assert report.points[0].standard_error is None
