import pytest

from study.metrics.reports import TrialStatus
from study.results.front import collect
from study.results.growth import growth
from study.results.read import parse_objectives
from tests.support.records import STUDY, projection, trial

BEST = {"val_accuracy": 1.0, "lipschitz_upper_bound": 0.01, "inverse_steps": 1.0}


def test_the_volume_is_that_of_a_report_of_what_had_ended_by_then() -> None:
    records = [
        trial(0, val_accuracy=0.5, lipschitz_upper_bound=0.5),
        trial(1, val_accuracy=0.4, lipschitz_upper_bound=0.6),  # adds nothing
        trial(2, TrialStatus.STOPPED_EARLY, **BEST),
        trial(3, val_accuracy=0.9, lipschitz_upper_bound=0.8),
        projection(3, 0.3, val_accuracy=0.7, lipschitz_upper_bound=0.1),
        trial(4, **{**BEST, "lipschitz_upper_bound": 1.0}),  # breaks the constraint
    ]
    # In whatever order they are found.
    found = growth(collect(STUDY, records[::-1]))
    assert found is not None
    expected = [collect(STUDY, records[:n]).hypervolume for n in (1, 2, 3, 5, 6)]
    assert found.hypervolume == pytest.approx(expected)
    assert found.epochs == [3, 6, 9, 12, 15]
    # Each ran for 900 s, the next began 100 s later.
    assert found.hours == pytest.approx([900 * (n + 1) / 3600 for n in range(5)])


def test_there_is_none_without_a_reference_point_or_a_trial_that_ended() -> None:
    assert growth(collect(STUDY, [])) is None
    objectives = parse_objectives(["val_loss:minimize"], STUDY)
    assert growth(collect(STUDY, [trial(0)], objectives)) is None
