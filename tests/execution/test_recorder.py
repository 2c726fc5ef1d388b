import os
from collections import deque
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from mlflow.tracking import MlflowClient
from ray.tune.experiment import Trial

from study.execution.callbacks.recorder import Recorder
from study.metrics.reports import TrialReport, TrialStatus
from study.search.stopping import Stopping
from study.tracking.records import Records
from study.tracking.study_record import StudyRecord, TrialRecord
from study.tracking.tracker import Tracker
from tests.support.studies import epoch_report, failed, running
from tests.support.tune import SAMPLE, fake_trial


def started(tracker: Tracker, study: StudyRecord) -> Recorder:
    uri = tracker.client.tracking_uri
    made = Recorder(study, uri, deque[str](), Stopping(study.config))
    made.setup()
    return made


@pytest.fixture(autouse=True)
def without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.execution.callbacks.recorder.provenance", dict)


@pytest.fixture
def recorder(tracker: Tracker, study: StudyRecord) -> Recorder:
    return started(tracker, study)


def begun(recorder: Recorder, trials: list[Any]) -> list[Any]:
    """Trials that are started."""
    for trial in trials:
        recorder.on_trial_start(1, trials, trial)
    return trials


def sent(recorder: Recorder) -> None:
    """Wait until the outbox is empty."""
    assert recorder._outbox.wait(30) == 0


def trials_of(recorder: Recorder) -> list[TrialRecord]:
    return Records(recorder._tracker.client).trials(recorder.study)


def states(recorder: Recorder) -> dict[str, TrialStatus]:
    return {trial.trial_id: trial.state for trial in trials_of(recorder)}


@pytest.mark.slow
@pytest.mark.parametrize("has_file", [False, True])
def test_a_trial_whose_worker_never_started_is_failed_with_the_reason(
    recorder: Recorder, tmp_path: Path, has_file: bool
) -> None:
    """Read from the file that Tune has just written; what it is copied to may be half of it."""
    error = "Traceback ...\nOSError: no data here\n"
    trial = fake_trial(0, Trial.ERROR, {}, "half of wh" if has_file else error)
    if has_file:
        trial.error_file = str(tmp_path / "error.txt")
        (tmp_path / "error.txt").write_text(error)
    trial.status = Trial.PENDING
    recorder.on_step_begin(1, [trial])
    trial.status = Trial.ERROR
    recorder.on_step_end(1, [trial])
    sent(recorder)
    (record,) = trials_of(recorder)
    assert (record.state, record.reason) == (TrialStatus.FAILED, "OSError: no data here")


def test_what_had_ended_before_a_resume_that_takes_no_step_is_settled(recorder: Recorder) -> None:
    """As after a kill between Tune's last snapshot and the last word to MLflow."""
    ended = (failed("diverged"), running())
    trials = [fake_trial(n, Trial.TERMINATED, last) for n, last in enumerate(ended)]
    recorder.on_experiment_end(begun(recorder, trials))
    assert states(recorder) == {
        "0000": TrialStatus.FAILED,
        "0001": TrialStatus.STOPPED_EARLY,
    }


def test_what_runs_when_the_study_is_left_is_interrupted(recorder: Recorder) -> None:
    trials = begun(recorder, [fake_trial(n, Trial.RUNNING, running()) for n in range(2)])
    recorder.on_step_begin(1, trials)
    for trial in trials:
        trial.status = Trial.TERMINATED  # as Tune does when it cleans up
    recorder.on_experiment_end(trials)
    assert set(states(recorder).values()) == {TrialStatus.INTERRUPTED}


def test_a_run_that_no_snapshot_knows_is_deleted_when_the_study_ends(recorder: Recorder) -> None:
    trials = begun(recorder, [fake_trial(n, Trial.TERMINATED, running()) for n in range(2)])
    sent(recorder)
    assert set(states(recorder)) == {"0000", "0001"}
    recorder.on_experiment_end(trials[:1])
    assert states(recorder) == {"0000": TrialStatus.STOPPED_EARLY}


def test_a_run_that_was_cut_off_as_it_was_made_is_begun_before_it_is_settled(
    tracker: Tracker, study: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between two requests, when Tune knows already how the trial ended."""

    class Killed(BaseException):
        pass

    def killed(*args: Any, **kwargs: Any) -> None:
        raise Killed

    config = study.config.resolve(SAMPLE, 0)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", killed)
        with pytest.raises(Killed):
            tracker.start_trial("0000", SAMPLE, config)
    recorder = started(tracker, study)
    recorder.on_experiment_end([fake_trial(0, Trial.TERMINATED, running())])
    (record,) = trials_of(recorder)
    assert record.state is TrialStatus.STOPPED_EARLY
    assert record.params["coeff"] == str(SAMPLE["coeff"])


def test_a_number_that_means_another_sample_by_now_is_not_settled_by_the_run_of_the_first(
    tracker: Tracker, study: StudyRecord
) -> None:
    other = {**SAMPLE, "coeff": 0.75}
    tracker.start_trial("0000", other, study.config.resolve(other, 0))
    tracker.end_trial("0000", TrialStatus.FAILED, "diverged")
    recorder = started(tracker, study)
    recorder.on_experiment_end([fake_trial(0, Trial.TERMINATED, running())])
    (record,) = trials_of(recorder)
    assert (record.state, record.sample) == (TrialStatus.STOPPED_EARLY, SAMPLE)


def test_the_reports_of_a_moment_go_in_one_request(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trial,) = begun(recorder, [fake_trial(0, Trial.RUNNING, {})])
    recorder.on_step_begin(1, [trial])
    sent(recorder)
    log_batch = Mock(side_effect=MlflowClient.log_batch)
    monkeypatch.setattr(MlflowClient, "log_batch", lambda *args, **more: log_batch(*args, **more))
    for epoch in (1, 2, 3):
        report = TrialReport(TrialStatus.RUNNING, epoch_report(epoch, val_accuracy=epoch / 10))
        trial.last_result = {**report.to_result(), "node_ip": "192.0.2.1"}
        recorder.on_trial_result(epoch, [trial], trial, trial.last_result)
    trial.status = Trial.TERMINATED
    recorder.on_step_end(3, [trial])
    sent(recorder)
    assert log_batch.call_count == 1  # with the end
    (record,) = trials_of(recorder)
    assert (record.state, record.n_epochs) == (TrialStatus.STOPPED_EARLY, 3)
    assert record.metrics["val_accuracy"] == 0.3


def test_no_request_is_repeated_by_mlflows_own_client(
    tracker: Tracker, study: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could make a run twice."""
    n_repeats: dict[str, set[str | None]] = {}

    def note(request: str) -> None:
        own = getattr(MlflowClient, request)

        def noted(*args: Any, **kwargs: Any) -> Any:
            repeats = os.environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
            n_repeats.setdefault(request, set()).add(repeats)
            return own(*args, **kwargs)

        monkeypatch.setattr(MlflowClient, request, noted)

    requests = ("search_runs", "create_run", "log_batch", "set_terminated")
    for request in requests:
        note(request)
    recorder = started(tracker, study)
    recorder.on_experiment_end([fake_trial(0, Trial.TERMINATED, failed("diverged"))])
    assert n_repeats == {request: {"0"} for request in requests}
    assert not recorder._outbox._thread.is_alive()
