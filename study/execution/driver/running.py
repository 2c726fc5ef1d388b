"""Run a study to its end and close its records."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

from ray import tune

from study.config.file import Asked
from study.errors import FailedError, TrackingError, UserError, reason
from study.execution.driver import tuner
from study.execution.driver.environment import Driver
from study.execution.driver.planning import Resumption
from study.execution.driver.starting import connected
from study.execution.files import storage
from study.execution.files.snapshots import restore
from study.execution.provenance import changes_of_code, own_code, provenance
from study.metrics.reports import TrialStatus
from study.tracking import studies
from study.tracking.study_record import StudyRead, StudyRecord


@dataclass(frozen=True)
class Outcome:
    """How a launch of a study ended.

    Attributes:
        study: the study in MLflow, read once no trial ran any more.
        n_of_tune: number of trials that Tune knows of. A trial that was interrupted while it waited
            for a worker has no MLflow run yet.
    """

    study: StudyRead
    n_of_tune: int = 0

    @property
    def n_started(self) -> int:
        """Number of trials that were begun."""
        return max(self.n_of_tune, len(self.study.states))

    @property
    def n_completed(self) -> int:
        """Number of trials that trained for all of their epochs."""
        return self.study.states.count(TrialStatus.COMPLETED)

    @property
    def is_done(self) -> bool:
        """Whether the study finished; if not, it was interrupted and can be resumed."""
        states, record = self.study.states, self.study.record
        is_left = {TrialStatus.INTERRUPTED, TrialStatus.RUNNING}.intersection(states)
        if is_left or self.n_started > len(states):
            return False
        return self.n_started >= record.config.n_trainings or record.end_of_search is not None


def begin(driver: Driver, asked: Asked) -> Outcome:
    """Run a new study under a free name.

    Raises:
        UserError: if it cannot begin; nothing was started.
        FailedError: if it fails after it has begun; it can be resumed.
    """
    study = asked.config
    folder, uri = driver.folder(study.name), driver.client.tracking_uri
    with ExitStack() as until_ray_is_left, connected(driver, study) as n_at_once:
        # The name was free, but another launch may have taken it since.
        with storage.new_folder(folder):
            of_run = {**provenance(), **own_code(study)}
            record = studies.create(driver.client, study, asked.source, folder, of_run)
        until_ray_is_left.enter_context(storage.locked(folder))
        return _run(driver, record, lambda: tuner.new(record, uri, n_at_once).fit())


def resume(driver: Driver, plan: Resumption) -> Outcome:
    """Resume a study as planned, unless only its results are missing. The plan holds the lock.

    Raises:
        UserError: if it cannot be resumed; nothing was started or changed.
        FailedError: if it fails after it was resumed; it can be resumed again.
    """
    if plan.only_publishes:
        return Outcome(plan.study)
    record = plan.record
    goes_on = plan.goes_on
    damage = restore(record.storage, is_needed=plan.has_ended_trials)
    driver.say(f"resuming {record.name}, with the settings that it was begun with")
    for line in (*changes_of_code(record), *(damage or ())):
        driver.say(line)
    # A study that ended before Tune wrote anything starts over.
    make = tuner.new if damage is None else tuner.restored
    with connected(driver, goes_on.config) as n_at_once:
        with storage.said("it must be readable and writable", record.storage, "restored"):
            made = make(goes_on, driver.client.tracking_uri, n_at_once)
        if goes_on is not record:
            # From here on the study counts as unfinished, whatever happens to this driver.
            studies.extend(driver.client, record, goes_on)
        return _run(driver, goes_on, made.fit)


def _run(driver: Driver, record: StudyRecord, fit: Callable[[], tune.ResultGrid]) -> Outcome:
    try:
        n_of_tune = len(fit())
        outcome = Outcome(driver.records.read(record), n_of_tune)
        status = TrialStatus.COMPLETED if outcome.is_done else TrialStatus.INTERRUPTED
        outcome = replace(outcome, study=studies.close(driver.client, outcome.study, status))
    except BaseException as error:
        # Before closing, since MLflow may be slow.
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
    if not outcome.is_done:
        driver.say_unfinished(record.name)
    return outcome


def _close_interrupted(driver: Driver, record: StudyRecord) -> None:
    # The study is still locked, so nobody else has resumed it.
    try:
        studies.close(driver.client, driver.records.read(record), TrialStatus.INTERRUPTED)
    except TrackingError:
        # MLflow may have ended the study; resuming repairs the records once MLflow is back.
        driver.say(f"MLflow at {driver.client.tracking_uri} still shows it as running")
