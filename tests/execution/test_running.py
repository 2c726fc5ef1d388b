import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from study.errors import FailedError, LaunchError, TrackingError
from study.execution.driver import running
from study.execution.driver.environment import Driver
from study.metrics.reports import TrialStatus
from study.tracking import studies
from study.tracking.study_record import StudyRead
from tests.support.drivers import Remembered, driver
from tests.support.records import STUDY, trial

COMPLETED, FAILED = TrialStatus.COMPLETED, TrialStatus.FAILED
THREE = (trial(0), trial(1, FAILED), trial(2))


def ran(
    of: Driver,
    n_trials: int = 0,
    error: BaseException | None = None,
    end_of_search: str | None = None,
) -> running.Outcome:
    """What a study comes to whose tuner ends with so many trials, or with an error."""

    def fit() -> Any:
        if error is not None:
            raise error
        return [None] * n_trials

    return running._run(of, replace(STUDY, end_of_search=end_of_search), fit)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How the study was closed."""
    done: list[str] = []

    def close(client: Any, study: StudyRead, status: TrialStatus) -> StudyRead:
        done.append(status.value)
        return study

    monkeypatch.setattr(studies, "close", close)
    return done


@pytest.mark.parametrize(
    ("trials", "n_started", "end_of_search", "is_done"),
    [
        (THREE, 3, None, True),
        (THREE[:2], 2, None, False),  # one was never started
        (THREE[:2], 2, "the front no longer grows", True),
        (THREE[:2], 3, None, False),  # one waited for its worker
        ((*THREE[:2], trial(2, TrialStatus.INTERRUPTED)), 3, None, False),
        ((*THREE[:2], trial(2, TrialStatus.RUNNING)), 3, "its hours are over", False),
    ],
)
def test_a_study_is_done_once_nothing_of_it_is_left(
    trials: tuple[Any, ...],
    n_started: int,
    end_of_search: str | None,
    is_done: bool,
    closed: list[str],
) -> None:
    said: list[str] = []
    outcome = ran(
        driver("/x", Remembered(STUDY, trials=trials), said), n_started, end_of_search=end_of_search
    )
    assert outcome.is_done is is_done
    assert outcome.n_completed == [t.state for t in trials].count(COMPLETED)
    assert closed == ["completed" if is_done else "interrupted"]
    assert said == ([] if is_done else ["tiny is unfinished; go on with it: resume tiny"])


@pytest.mark.parametrize(
    ("error", "becomes", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x"), FailedError, "in /x: the disk is"),
        (LaunchError("it must answer", "address"), FailedError, "^address: it must answer$"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
        (ZeroDivisionError("ours"), ZeroDivisionError, "^ours$"),
    ],
)
def test_a_study_that_fails_is_closed_as_interrupted(
    error: BaseException, becomes: type[BaseException], says: str | None, closed: list[str]
) -> None:
    said: list[str] = []
    with pytest.raises(becomes, match=says):
        ran(driver("/x", said=said), error=error)
    assert closed == ["interrupted"]
    assert said == ["tiny is unfinished; go on with it: resume tiny"]


def test_a_study_whose_mlflow_is_down_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, closed: list[str], tmp_path: Path
) -> None:
    def down(*_: Any) -> None:
        raise TrackingError("nothing answers")

    monkeypatch.setattr(studies, "close", down)
    said: list[str] = []
    of = driver(tmp_path, Remembered(STUDY, trials=THREE), said)
    with pytest.raises(FailedError, match=r"^nothing answers$"):
        ran(of, 3)
    with pytest.raises(KeyboardInterrupt):
        ran(of, error=KeyboardInterrupt())
    assert said == 2 * [
        "tiny is unfinished; go on with it: resume tiny",
        "MLflow at sqlite:///x still shows it as running",
    ]
