import pickle
from typing import Any

import pytest

from study.metrics.reports import TrialReport, TrialStatus
from study.search.observation import of_report
from study.search.stopping import Stopping
from tests.support.studies import epoch_report, projection_report, tiny


def ended(accuracy: float, bound: float = 0.5, *projections: Any) -> TrialReport:
    metrics = epoch_report(
        3, val_accuracy=accuracy, block_lipschitz_upper_bound=bound, inverse_steps=0.0
    )
    return TrialReport(TrialStatus.COMPLETED, metrics, projections=projections)


def stopping(**search: Any) -> Stopping:
    return Stopping(tiny(search={"n_trials": 50, **search}))


def observe(rule: Stopping, report: TrialReport | None) -> None:
    """Let it observe a report as the searcher does; None for an error."""
    outcome = of_report(report, tiny())
    if outcome is not None:
        rule.observe(outcome)


def test_hypervolume_grows_as_the_boxes_that_points_and_projections_add() -> None:
    """Reference point: accuracy 0, bound 1, 100 steps; all points at 0 steps."""
    rule = stopping()
    projection = projection_report(
        0.7, val_accuracy=0.4, block_lipschitz_upper_bound=0.1, inverse_steps=0.0
    )
    for report in (ended(0.5), None, ended(0.5, 1.5), ended(0.8, 0.9), ended(0.4, 0.6, projection)):
        observe(rule, report)
    # What did not complete could not have added anything, and does not count.
    three = 0.25 + 0.3 * 0.1
    expected = [0.25, 0.25, three, three + 0.4 * 0.4]
    assert rule.hypervolumes == pytest.approx([100 * volume for volume in expected])


def test_a_study_stops_when_the_last_trials_added_less_than_the_gain() -> None:
    rule = stopping(stop={"hypervolume_gain": 0.1, "over_trials": 3})
    told = []
    for accuracy in (0.5, 0.6, 0.7, 0.71, 0.72, 0.73, 0.73):
        observe(rule, ended(accuracy))
        told.append(rule.reason() is not None)
    # After the last but one: from 0.7 to 0.73 is 4 % of it.
    gains = [1, 1, 1, (0.71 - 0.5) / 0.71, (0.72 - 0.6) / 0.72, 0.03 / 0.73, 0.02 / 0.73]
    assert told == [gain < 0.1 for gain in gains]
    reason = rule.reason()
    assert reason is not None
    assert "grew by 2.74% over the last 3 completed trials, less than 10.00%" in reason


def test_without_a_rule_and_without_any_point_no_study_stops() -> None:
    rule, nothing = stopping(), stopping(stop={"over_trials": 1})
    for _ in range(30):
        observe(rule, ended(0.5))
        observe(nothing, None)
    assert rule.reason() is None
    assert nothing.reason() is None
    assert nothing.gain() is None


def test_hours_count_while_the_study_runs_and_over_restarts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr("study.search.stopping.time.monotonic", lambda: now[0])
    rule = stopping(max_hours=1)
    now[0] += 5000  # not started: it does not count
    assert rule.reason() is None
    rule.start_clock()
    now[0] += 3000
    rule.start_clock()
    assert rule.reason() is None
    again = stopping(max_hours=1)
    again.set_state(rule.get_state())
    now[0] += 9000  # between two launches
    again.start_clock()
    now[0] += 599
    assert again.reason() is None
    now[0] += 1
    assert again.reason() == "max_hours: 1 hours are over"


def test_state_goes_through_a_pickle_in_place() -> None:
    rule = stopping(stop={"over_trials": 2})
    for accuracy in (0.5, 0.5, 0.5):
        observe(rule, ended(accuracy))
    rule.end_of_search = "because"
    copied = pickle.loads(pickle.dumps(rule))
    other = stopping(stop={"over_trials": 2})
    other.set_state(rule.get_state())
    for each in (copied, other):
        assert each.hypervolumes == rule.hypervolumes
        assert each.reason() == rule.reason()
        assert each.end_of_search == "because"
        observe(each, ended(0.4, 0.1))
        assert len(rule.hypervolumes) == 3  # nothing shared
