"""A study is run to its end, and its records are closed."""

from collections.abc import Callable
from dataclasses import dataclass

import ray
from ray import tune

from study.config.file import Asked
from study.errors import FailedError, LaunchError, TrackingError, UserError, reason
from study.execution import storage, tuner
from study.execution.driver import Driver
from study.execution.provenance import provenance
from study.execution.resuming import Resumption, no_state
from study.execution.snapshots import restore
from study.execution.starting import start_ray
from study.metrics.reports import TrialStatus
from study.tracking import studies
from study.tracking.records import StudyRecord


@dataclass(frozen=True)
class Outcome:
    """How a study was left.

    Attributes:
        is_done: whether it came to its end; if not, it was interrupted and can be resumed.
        n_started: trials that were started.
        n_completed: trials that trained for all of their epochs.
        end_of_search: why it ended before its last possible trial; None if it did not.
    """

    record: StudyRecord
    is_done: bool
    n_started: int
    n_completed: int
    end_of_search: str | None


def begin(driver: Driver, asked: Asked) -> Outcome:
    """Run a new study, whose name is free.

    Raises:
        UserError: if it cannot begin; nothing was started then.
        FailedError: if it began and cannot go on; it can be resumed.
    """
    study = asked.config
    n_at_once = start_ray(driver, study)
    folder = driver.folder(study.name)
    try:
        # Free a moment ago, the name may be another launch's by now.
        with storage.new_folder(folder):
            record = studies.create(driver.client, study, asked.source, folder, provenance())
    except UserError:
        ray.shutdown()
        raise
    with storage.locked(folder):
        uri = driver.client.tracking_uri
        return _run(driver, record, lambda: tuner.new(record, uri, n_at_once))


def resume(driver: Driver, plan: Resumption) -> Outcome:
    """Go on with a study, as it is planned; nobody else runs it.

    Raises:
        UserError: if it cannot go on; nothing was started or changed then.
        FailedError: if it went on and failed; it can be resumed again.
    """
    record = plan.record
    goes_on = plan.goes_on
    damage = restore(record.storage)
    # Ended before Tune wrote anything, it has nothing to go on from.
    is_new = damage is None
    if is_new and _has_ended_trials(driver, record):
        raise no_state(record)
    driver.say(f"resuming {plan.name}, with the settings that it was begun with")
    for line in damage or ():
        driver.say(line)
    n_at_once = start_ray(driver, goes_on.config)
    uri = driver.client.tracking_uri
    try:
        make = tuner.new if is_new else tuner.restored
        made = make(goes_on, uri, n_at_once)
        if goes_on is not record:
            # From here on the study has not ended, whatever happens to this driver.
            studies.extend(driver.client, record, goes_on)
    except OSError as error:  # of Tune
        ray.shutdown()
        raise LaunchError(
            f"the state of {record.name} must be readable and writable in {record.storage}, but: "
            f"{reason(error)}",
            "storage_path",
        ) from error
    except UserError:
        ray.shutdown()
        raise
    return _run(driver, goes_on, lambda: made)


def _has_ended_trials(driver: Driver, record: StudyRecord) -> bool:
    ended = (TrialStatus.COMPLETED, TrialStatus.STOPPED_EARLY)
    return any(trial.state in ended for trial in driver.records.trials(record))


def _run(driver: Driver, record: StudyRecord, make_tuner: Callable[[], tune.Tuner]) -> Outcome:
    """Run the study to its end, and close its records."""
    try:
        n_started = len(make_tuner().fit())
    except BaseException as error:
        # First, since MLflow may take its time.
        driver.say_unfinished(record.name)
        _close_interrupted(driver, record)
        if isinstance(error, OSError):  # of Tune, on the driver's own disk
            place = f" in {error.filename}" if error.filename else ""
            raise FailedError(
                f"the state of the study cannot be kept{place}: {reason(error)}"
            ) from error
        if isinstance(error, UserError):
            raise FailedError(error.rule, error.key, error.value) from error
        raise
    finally:
        ray.shutdown()
    try:
        outcome = _close(driver, record, n_started)
    except TrackingError as error:
        driver.say_unfinished(record.name)
        raise FailedError(error.rule, error.key, error.value) from error
    if not outcome.is_done:
        driver.say_unfinished(record.name)
    return outcome


def _close_interrupted(driver: Driver, record: StudyRecord) -> None:
    # While the study is locked: nobody else has resumed it yet.
    try:
        studies.close(driver.client, record, TrialStatus.INTERRUPTED)
    except TrackingError:
        # MLflow may be what ended the study; resuming it mends the records once MLflow is back.
        driver.say(f"MLflow at {driver.client.tracking_uri} still shows it as running")


def _close(driver: Driver, record: StudyRecord, n_started: int) -> Outcome:
    """Close the records of a study of which so many trials were started."""
    records = driver.records
    states = [trial.state for trial in records.trials(record)]
    n_left = states.count(TrialStatus.INTERRUPTED) + states.count(TrialStatus.RUNNING)
    # One that was interrupted as it waited for its worker has no run yet.
    n_left += max(0, n_started - len(states))
    end_of_search = records.end_of_search(record)
    is_done = not n_left and (n_started >= record.config.n_trainings or end_of_search is not None)
    status = TrialStatus.COMPLETED if is_done else TrialStatus.INTERRUPTED
    studies.close(driver.client, record, status)
    n_completed = states.count(TrialStatus.COMPLETED)
    return Outcome(record, is_done, n_started, n_completed, end_of_search)
