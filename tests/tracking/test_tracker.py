import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from mlflow.tracking import MlflowClient

from study.errors import TrackingError
from study.metrics.reports import TrialStatus
from study.tracking import studies
from study.tracking.records import Records
from study.tracking.server.client import Client
from study.tracking.study_record import StudyRecord
from study.tracking.tracker import Tracker
from tests.support.records import projections
from tests.support.studies import epoch_report, projection_report, tiny
from tests.support.tracked import SAMPLE, log_networks, start


def restarted(tracker: Tracker, study: StudyRecord) -> Tracker:
    """The tracker of another process, after a crash of the first."""
    return Tracker(Client(tracker.client.tracking_uri), study)


def test_a_study_is_found_again_with_all_that_it_was(tracker: Tracker, study: StudyRecord) -> None:
    records = Records(tracker.client)
    assert (records.is_taken("tiny"), records.is_taken("other")) == (True, False)
    assert (records.find_study("tiny"), records.find_study("other")) == (study, None)
    assert not study.finished
    studies.close(tracker.client, Records(tracker.client).read(study), TrialStatus.COMPLETED)
    assert records.find_study("tiny") == replace(study, finished=True)
    studies.create(tracker.client, replace(tiny(), name="later"), "/x/tiny.yaml", "/x/later")
    assert [record.name for record in records.studies()] == ["later", "tiny"]


def test_a_trial_as_it_is_written_is_read(tracker: Tracker, study: StudyRecord) -> None:
    start(tracker, study)
    for epoch in (1, 2):
        report = epoch_report(
            epoch, reconstruction_error=math.inf, timestamp=1_600_000_000.25 + epoch
        )
        tracker.log_reports("0000", [report])
    tracker.end_trial("0000", TrialStatus.FAILED, "diverged")
    (record,) = Records(tracker.client).trials(study)
    assert record.trial_id == "0000"
    assert record.state is TrialStatus.FAILED
    assert record.reason == "diverged"
    assert record.metrics == epoch_report(2, reconstruction_error=math.inf).metrics()
    assert record.params["coeff"] == "0.5"
    assert record.params["seed"] == "1"
    assert record.params["max_epochs"] == "3"
    assert record.params["data.name"] == "digits"
    points = tracker.client.api.get_metric_history(record.run_id, "val_loss")
    assert [(point.step, point.timestamp) for point in points] == [
        (1, 1_600_000_001_250), (2, 1_600_000_002_250),
    ]  # fmt: skip


def test_the_use_of_a_gpu_is_a_system_metric_of_the_run_and_no_metric_of_the_trial(
    tracker: Tracker, study: StudyRecord
) -> None:
    start(tracker, study)
    tracker.log_reports(
        "0000", [epoch_report(1, device_use={"gpu_0_utilization_percentage": 90.5})]
    )
    again = restarted(tracker, study)
    start(again, study)
    after_a_crash = epoch_report(1, device_use={"gpu_0_utilization_percentage": 80.0})
    again.log_reports("0000", [after_a_crash, epoch_report(2)])
    (record,) = Records(again.client).trials(study)
    assert record.metrics == epoch_report(2).metrics()
    client = tracker.client.api
    history = client.get_metric_history(record.run_id, "system/gpu_0_utilization_percentage")
    assert [(point.step, point.value) for point in history] == [(1, 90.5)]


def test_what_is_sent_twice_is_there_once_also_after_a_restart(
    tracker: Tracker, study: StudyRecord
) -> None:
    start(tracker, study)
    tracker.log_reports("0000", [epoch_report(1, reconstruction_error=math.inf)])
    again = epoch_report(1, reconstruction_error=math.inf, timestamp=9.0, epoch_seconds=7.0)
    tracker.log_reports("0000", [again])
    again = restarted(tracker, study)
    start(again, study)
    again.log_reports("0000", [epoch_report(1, reconstruction_error=math.inf, timestamp=99.0)])
    again.log_reports("0000", [epoch_report(2), epoch_report(2, timestamp=1.9e9)])
    (record,) = Records(again.client).trials(study)
    for name in epoch_report().metrics():
        points = tracker.client.api.get_metric_history(record.run_id, name)
        assert [point.step for point in points] == [1, 2], name
    # One that came out differently after a crash counts as it came out last.
    again.log_reports("0000", [epoch_report(2, val_accuracy=0.6, timestamp=2_000_000_000.0)])
    (record,) = Records(again.client).trials(study)
    assert record.metrics["val_accuracy"] == 0.6


def test_a_write_that_arrived_without_an_answer_is_found_and_stays_once(
    tracker: Tracker, study: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the outbox does it: try, learn what stands there, try again. The run is made twice."""
    create_run = MlflowClient.create_run

    def lost(*args: Any, **kwargs: Any) -> None:
        made.extend(create_run(*args, **kwargs).info.run_id for _ in range(2))
        raise MlflowException("the connection was lost", error_code=TEMPORARILY_UNAVAILABLE)

    made: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", lost)
        with pytest.raises(TrackingError):
            start(tracker, study)
    assert len(Records(tracker.client).trials(study)) == 2
    tracker.reread("0000")
    start(tracker, study)
    tracker.log_reports("0000", [epoch_report(1)])
    (record,) = Records(tracker.client).trials(study)
    assert record.run_id in made
    assert record.params["coeff"] == "0.5"
    assert record.metrics == epoch_report(1).metrics()


@pytest.mark.parametrize(
    ("status", "run_status", "bound", "certified"),
    [
        (TrialStatus.COMPLETED, "FINISHED", 9.5, "true"),
        (TrialStatus.COMPLETED, "FINISHED", math.inf, "false"),
        (TrialStatus.STOPPED_EARLY, "KILLED", 9.5, "true"),
        (TrialStatus.FAILED, "FAILED", 9.5, "false"),
        (TrialStatus.INTERRUPTED, "KILLED", math.inf, "false"),
    ],
)
def test_how_runs_end(
    tracker: Tracker,
    study: StudyRecord,
    status: TrialStatus,
    run_status: str,
    bound: float,
    certified: str,
) -> None:
    start(tracker, study)
    before = 9.5 if bound == math.inf else math.inf
    tracker.log_reports("0000", [epoch_report(1, inverse_lipschitz_upper_bound=before)])
    tracker.log_reports("0000", [epoch_report(2, inverse_lipschitz_upper_bound=bound)])
    (record,) = Records(tracker.client).trials(study)
    assert (record.n_epochs, record.ended) == (2, None)
    tracker.end_trial("0000", status)
    (record,) = Records(tracker.client).trials(study)
    assert record.n_epochs == (3 if status is TrialStatus.COMPLETED else 2)
    assert record.ended is not None
    assert record.ended >= record.started > 1e9
    run = tracker.client.api.get_run(record.run_id)
    assert run.info.status == run_status
    assert run.data.tags["study.certified"] == certified
    assert record.state is status


def test_a_run_says_what_it_is_on_mlflows_pages(
    tracker: Tracker, study: StudyRecord, tmp_path: Path
) -> None:
    start(tracker, study)
    tracker.log_reports("0000", [epoch_report(1, inverse_lipschitz_upper_bound=2.5)])
    log_networks(tracker, "0000", tmp_path, projection_report(0.3))
    tracker.end_trial("0000", TrialStatus.COMPLETED)
    client = tracker.client.api
    run, below = (
        client.get_run(record.run_id)
        for record in Records(tracker.client).trials_and_projections(study)
    )
    assert run.info.run_name == "0000: coeff=0.5 n_power_iterations=3 dropout=0.1"
    assert below.info.run_name == "0000@0.3"
    assert "Lipschitz constant is at most 2.5" in run.data.tags["mlflow.note.content"]
    assert "trial 0000" in below.data.tags["mlflow.note.content"]
    experiment = client.get_experiment(study.experiment_id)
    assert "python -m study.report tiny" in experiment.tags["mlflow.note.content"]


def test_records_are_those_of_the_study_whatever_else_users_put_there(
    tracker: Tracker, study: StudyRecord, tmp_path: Path
) -> None:
    start(tracker, study, "0001")
    start(tracker, study, "0000")
    log_networks(tracker, "0000", tmp_path, projection_report(0.45), projection_report(0.3))
    client = tracker.client.api
    client.create_run(study.experiment_id, tags={"mlflow.parentRunId": study.run_id})
    client.create_run(study.experiment_id, tags={"study.kind": "trial"})
    found = [
        (r.trial_id, r.projected_to) for r in Records(tracker.client).trials_and_projections(study)
    ]
    assert found == [("0000", None), ("0000", 0.45), ("0000", 0.3), ("0001", None)]


def test_what_still_runs_when_a_study_is_left_was_interrupted(
    tracker: Tracker, study: StudyRecord
) -> None:
    for trial_id in ("0000", "0001"):
        start(tracker, study, trial_id)
    tracker.end_trial("0001", TrialStatus.FAILED)
    studies.close(tracker.client, Records(tracker.client).read(study), TrialStatus.INTERRUPTED)
    states = [trial.state for trial in Records(tracker.client).trials(study)]
    assert states == [TrialStatus.INTERRUPTED, TrialStatus.FAILED]
    client = tracker.client.api
    runs = client.search_runs([study.experiment_id])
    assert {run.info.status for run in runs} == {"KILLED", "FAILED"}


@pytest.mark.slow
def test_projections_are_runs_below_their_trial_and_are_there_once(
    tracker: Tracker, study: StudyRecord, tmp_path: Path
) -> None:
    start(tracker, study)
    tracker.log_reports("0000", [epoch_report(2)])
    high, low = projection_report(0.45), projection_report(0.3, val_accuracy=0.4)
    log_networks(tracker, "0000", tmp_path, high, low)
    first = projections(tracker.client, study)
    assert [(r.trial_id, r.projected_to, r.state) for r in first] == [
        ("0000", 0.45, TrialStatus.COMPLETED), ("0000", 0.3, TrialStatus.COMPLETED),
    ]  # fmt: skip
    assert [r.metrics for r in first] == [high.metrics(), low.metrics()]
    assert [r.params["coeff"] for r in first] == ["0.5", "0.5"]  # of the training
    assert [r.params["projected_to"] for r in first] == ["0.45", "0.3"]
    assert [(r.params["seed"], r.n_epochs) for r in first] == [("1", 0), ("1", 0)]
    (trial,) = Records(tracker.client).trials(study)
    client = tracker.client.api
    tags = client.get_run(first[0].run_id).data.tags
    assert tags["mlflow.parentRunId"] == tags["study.projected_from"] == trial.run_id
    assert (tags["study.kind"], tags["study.certified"]) == ("projection", "true")

    # A crash cut one off, and then the training came out differently.
    client.set_tag(first[0].run_id, "study.state", "running")
    again = restarted(tracker, study)
    low = replace(low, val_accuracy=0.41)
    log_networks(again, "0000", tmp_path, high, low)
    anew = projections(again.client, study)
    assert [(r.metrics, r.state) for r in anew] == [
        (high.metrics(), TrialStatus.COMPLETED), (low.metrics(), TrialStatus.COMPLETED),
    ]  # fmt: skip


@pytest.mark.slow
def test_a_run_that_makes_room_or_is_stopped_after_all_keeps_no_projections(
    tracker: Tracker, study: StudyRecord, tmp_path: Path
) -> None:
    start(tracker, study)
    log_networks(tracker, "0000", tmp_path, projection_report(0.3))
    again = restarted(tracker, study)
    start(again, study, coeff=0.6)  # the number means another sample now
    (record,) = Records(again.client).trials(study)
    assert record.params["coeff"] == "0.6"
    assert projections(again.client, study) == []
    log_networks(again, "0000", tmp_path, projection_report(0.3))
    again.end_trial("0000", TrialStatus.STOPPED_EARLY)
    assert projections(again.client, study) == []
    # A crash in between leaves one whose trial is gone.
    start(again, study, "0001")
    log_networks(again, "0001", tmp_path, projection_report(0.3))
    (orphan,) = [t for t in Records(again.client).trials(study) if t.trial_id == "0001"]
    again.client.api.delete_run(orphan.run_id)
    restarted(tracker, study)
    assert projections(again.client, study) == []


def test_a_run_says_whose_repeat_it_is_and_that_its_sample_was_given(
    tracker: Tracker, study: StudyRecord, tmp_path: Path
) -> None:
    start(tracker, study)
    start(tracker, study, "0001")
    trial = study.config.resolve(SAMPLE, seed=1)
    # The run is there already: what is said of it is as it is said last.
    tracker.start_trial("0001", SAMPLE, trial, repeat_of="0000", is_given=True)
    tracker.log_reports("0001", [epoch_report(1)])
    log_networks(tracker, "0001", tmp_path, projection_report(0.3))
    twice = replace(study, config=tiny(search={"repeats": 2}))
    records = Records(tracker.client).trials_and_projections(twice)
    assert [(r.trial_id, r.projected_to, r.repeat_of, r.origin) for r in records] == [
        ("0000", None, "0000", ""), ("0001", None, "0000", "given"), ("0001", 0.3, "0000", "given"),
    ]  # fmt: skip
    assert all(r.sample == SAMPLE for r in records)


def test_a_study_that_is_extended_is_found_as_it_is_asked_for_then(
    tracker: Tracker, study: StudyRecord
) -> None:
    studies.note_end_of_search(tracker.client, study, "its time is over")
    tracker.client.api.log_metric(study.run_id, "hours", 2.5)
    studies.close(tracker.client, Records(tracker.client).read(study), TrialStatus.COMPLETED)
    studies.note_published(tracker.client, study)
    records = Records(tracker.client)
    published = records.find_study("tiny")
    ended = replace(study, finished=True, end_of_search="its time is over", hours=2.5)
    assert published == replace(ended, is_published=True)
    longer = tiny(search={"n_trials": 9})
    extended = replace(study, config=longer, n_searches=1, hours=2.5)
    studies.extend(tracker.client, study, extended)
    assert records.find_study("tiny") == extended
    note = tracker.client.api.get_experiment(study.experiment_id).tags["mlflow.note.content"]
    assert "9 trials" in note
    assert "3 trials" not in note


def test_what_is_logged_together_goes_in_one_request_with_the_state_last(
    tracker: Tracker, study: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[str] = []
    for name in ("create_run", "log_batch", "set_terminated"):
        own = getattr(MlflowClient, name)

        def noted(*args: Any, name: str = name, own: Any = own, **kwargs: Any) -> Any:
            requests.append(name)
            return own(*args, **kwargs)

        monkeypatch.setattr(MlflowClient, name, noted)
    with tracker.together():
        start(tracker, study)
        tracker.log_reports("0000", [epoch_report(1), epoch_report(2)])
        tracker.log_reports("0000", [epoch_report(3)])
        tracker.end_trial("0000", TrialStatus.STOPPED_EARLY)
    assert requests == ["create_run", "log_batch", "set_terminated"]
    (record,) = Records(tracker.client).trials(study)
    assert (record.state, record.n_epochs) == (TrialStatus.STOPPED_EARLY, 3)
    assert record.metrics == epoch_report(3).metrics()
    assert record.params["coeff"] == "0.5"


def test_a_run_that_a_crash_leaves_between_its_tag_and_its_status_is_ended(
    tracker: Tracker, study: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(tracker, study)

    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_terminated", killed)
        with pytest.raises(KeyboardInterrupt):
            tracker.end_trial("0000", TrialStatus.STOPPED_EARLY)

    def status() -> str:
        (record,) = Records(tracker.client).trials(study)
        assert record.state is TrialStatus.STOPPED_EARLY
        return str(tracker.client.api.get_run(record.run_id).info.status)

    assert status() == "RUNNING"
    restarted(tracker, study)
    assert status() == "KILLED"
