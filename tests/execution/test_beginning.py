from collections.abc import Callable
from dataclasses import replace

import pytest

from study.config.file import Asked
from study.execution.driver import beginning
from study.execution.driver.environment import Driver
from study.metrics.reports import TrialStatus
from study.tracking import studies
from study.tracking.records import Records, StudyRecord
from study.tracking.tracker import Tracker

SAMPLE = {"coeff": 0.5, "n_power_iterations": 3, "dropout": 0.1}


@pytest.fixture
def planned(
    tracker: Tracker, study: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """Launches a file whose name the study has; gives what is said before anything is trained."""
    monkeypatch.setattr(beginning, "check_trials", lambda *_: None)

    def plan(source: str) -> list[str]:
        said: list[str] = []
        driver = replace(Driver.of(tracker.client.tracking_uri), say=said.append)
        asked = Asked(study.config, source, frozenset())
        assert beginning.plan_new(driver, asked).config.name == "tiny-2"
        return said

    for trial, status in (("0000", TrialStatus.COMPLETED), ("0001", TrialStatus.FAILED)):
        tracker.start_trial(trial, SAMPLE, study.config.resolve(SAMPLE, seed=1))
        tracker.end_trial(trial, status, None)
    return plan


def test_a_file_whose_study_is_done_is_said_to_be_trained_again(
    tracker: Tracker, study: StudyRecord, planned: Callable[..., list[str]]
) -> None:
    studies.close(tracker.client, Records(tracker.client).read(study), TrialStatus.COMPLETED)
    uri = tracker.client.tracking_uri
    again, show, extend = planned(study.source)
    assert again == (
        "tiny is there already, with 1 completed trial; this study trains again, as tiny-2"
    )
    assert show == (f"to show tiny instead: python -m study.report tiny --tracking-uri {uri}")
    assert extend.startswith("to extend it instead, with more trials or hours: study.open('tiny'")


def test_another_file_or_an_unfinished_study_is_not_trained_again(
    tracker: Tracker, study: StudyRecord, planned: Callable[..., list[str]]
) -> None:
    taken = "the name tiny is taken; this study is tiny-2"
    first, second = planned(study.source)
    assert first == taken
    assert second.startswith("tiny is unfinished; go on with it: ")
    studies.close(tracker.client, Records(tracker.client).read(study), TrialStatus.COMPLETED)
    assert planned("/x/another.yaml") == [taken]
