import os
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from ray.tune.experiment import Trial

from study.execution.callbacks.recorder import Recorder
from study.metrics.reports import TrialReport, TrialStatus
from study.search.stopping import Stopping
from study.tracking import studies
from study.tracking.client import Client
from study.tracking.records import Records, StudyRecord
from study.tracking.tracker import Tracker
from tests.support.studies import epoch_report, failed, running, tiny
from tests.support.tune import SAMPLE, fake_trial


@pytest.fixture
def study(laid_out: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyRecord:
    monkeypatch.setattr("study.execution.callbacks.recorder.provenance", dict)  # which asks git
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    client = Client(f"sqlite:///{tmp_path}/mlflow.db")
    return studies.create(client, tiny(), "/x/tiny.yaml", "/x/tiny")


def started(study: StudyRecord) -> Recorder:
    uri = os.environ["MLFLOW_TRACKING_URI"]
    made = Recorder(study, uri, deque[str](), Stopping(study.config))
    made.setup()
    return made


@pytest.fixture
def recorder(study: StudyRecord) -> Recorder:
    return started(study)


def sent(recorder: Recorder) -> None:
    """Wait until the outbox is empty."""
    assert recorder._outbox.wait(30) == 0


def states(recorder: Recorder, study: StudyRecord) -> dict[str, TrialStatus]:
    return {
        trial.trial_id: trial.state for trial in Records(recorder._tracker.client).trials(study)
    }


@pytest.mark.parametrize("has_file", [False, True])
def test_a_trial_whose_worker_never_started_is_failed_with_the_reason(
    recorder: Recorder, study: StudyRecord, tmp_path: Path, has_file: bool
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
    (record,) = Records(recorder._tracker.client).trials(study)
    assert (record.state, record.reason) == (TrialStatus.FAILED, "OSError: no data here")


def test_what_had_ended_before_a_resume_that_takes_no_step_is_settled(
    recorder: Recorder, study: StudyRecord
) -> None:
    """As after a kill between Tune's last snapshot and the last word to MLflow."""
    trials = [
        fake_trial(0, Trial.TERMINATED, failed("diverged")),
        fake_trial(1, Trial.TERMINATED, running()),
    ]
    for trial in trials:
        recorder.on_trial_start(1, trials, trial)
    recorder.on_experiment_end(trials)
    assert states(recorder, study) == {
        "0000": TrialStatus.FAILED,
        "0001": TrialStatus.STOPPED_EARLY,
    }


def test_what_runs_when_the_study_is_left_is_interrupted(
    recorder: Recorder, study: StudyRecord
) -> None:
    trials = [fake_trial(n, Trial.RUNNING, running()) for n in range(2)]
    for trial in trials:
        recorder.on_trial_start(1, trials, trial)
    recorder.on_step_begin(1, trials)
    for trial in trials:
        trial.status = Trial.TERMINATED  # as Tune does when it cleans up
    recorder.on_experiment_end(trials)
    assert set(states(recorder, study).values()) == {TrialStatus.INTERRUPTED}


def test_a_run_that_no_snapshot_knows_is_deleted_when_the_study_ends(
    recorder: Recorder, study: StudyRecord
) -> None:
    trials = [fake_trial(n, Trial.TERMINATED, running()) for n in range(2)]
    for trial in trials:
        recorder.on_trial_start(1, trials, trial)
    sent(recorder)
    assert set(states(recorder, study)) == {"0000", "0001"}
    recorder.on_experiment_end(trials[:1])
    assert states(recorder, study) == {"0000": TrialStatus.STOPPED_EARLY}


def test_a_run_that_was_cut_off_as_it_was_made_is_begun_before_it_is_settled(
    study: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between two requests, when Tune knows already how the trial ended."""

    class Killed(BaseException):
        pass

    def killed(*args: Any, **kwargs: Any) -> None:
        raise Killed

    tracker = Tracker(Client(os.environ["MLFLOW_TRACKING_URI"]), study)
    config = study.config.resolve(SAMPLE, 0)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", killed)
        with pytest.raises(Killed):
            tracker.start_trial("0000", SAMPLE, config)
    recorder = started(study)
    recorder.on_experiment_end([fake_trial(0, Trial.TERMINATED, running())])
    (record,) = Records(recorder._tracker.client).trials(study)
    assert record.state is TrialStatus.STOPPED_EARLY
    assert record.params["coeff"] == str(SAMPLE["coeff"])


def test_a_number_that_means_another_sample_by_now_is_not_settled_by_the_run_of_the_first(
    study: StudyRecord,
) -> None:
    tracker = Tracker(Client(os.environ["MLFLOW_TRACKING_URI"]), study)
    other = {**SAMPLE, "coeff": 0.75}
    tracker.start_trial("0000", other, study.config.resolve(other, 0))
    tracker.end_trial("0000", TrialStatus.FAILED, "diverged")
    recorder = started(study)
    recorder.on_experiment_end([fake_trial(0, Trial.TERMINATED, running())])
    (record,) = Records(recorder._tracker.client).trials(study)
    assert (record.state, record.sample) == (TrialStatus.STOPPED_EARLY, SAMPLE)


def test_the_reports_of_a_moment_go_in_one_request(
    recorder: Recorder, study: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = fake_trial(0, Trial.RUNNING, {})
    recorder.on_step_begin(1, [trial])
    recorder.on_trial_start(1, [trial], trial)
    sent(recorder)
    n_requests = 0
    log_batch = MlflowClient.log_batch

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal n_requests
        n_requests += 1
        return log_batch(*args, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    for epoch in (1, 2, 3):
        report = TrialReport(TrialStatus.RUNNING, epoch_report(epoch, val_accuracy=epoch / 10))
        trial.last_result = {**report.to_result(), "node_ip": "192.0.2.1"}
        recorder.on_trial_result(epoch, [trial], trial, trial.last_result)
    trial.status = Trial.TERMINATED
    recorder.on_step_end(3, [trial])
    sent(recorder)
    assert n_requests == 1  # with the end
    (record,) = Records(recorder._tracker.client).trials(study)
    assert (record.state, record.n_epochs) == (TrialStatus.STOPPED_EARLY, 3)
    assert record.metrics["val_accuracy"] == 0.3


def test_no_request_is_repeated_by_mlflows_own_client(
    study: StudyRecord, monkeypatch: pytest.MonkeyPatch
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
    recorder = started(study)
    recorder.on_experiment_end([fake_trial(0, Trial.TERMINATED, failed("diverged"))])
    assert n_repeats == {request: {"0"} for request in requests}
    assert not recorder._outbox._thread.is_alive()
