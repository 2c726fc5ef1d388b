"""What resuming a study would do: a plan, for which nothing is started or changed."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from study.config.study import StudyConfig
from study.errors import LaunchError, quoted, some
from study.execution import storage
from study.execution.driver import Driver
from study.execution.preflight import check_trials
from study.metrics.definitions import HOURS
from study.metrics.reports import TrialStatus
from study.tracking.records import Records, StudyRecord

# What may be asked of a study beyond what it was begun with; all else must be as it was.
_TRIALS, _HOURS = "search.n_trials", "search.max_hours"


@dataclass(frozen=True)
class Resumption:
    """Which study goes on, and as what.

    Attributes:
        record: the study as MLflow has it.
        goes_on: the study as it is asked for now; `record` itself if nothing new is asked.
        n_completed: trials that have trained for all of their epochs.
        has_ended_trials: whether any trial has, or was stopped early.
    """

    record: StudyRecord
    goes_on: StudyRecord
    n_completed: int
    has_ended_trials: bool

    def __str__(self) -> str:
        return (
            f"would go on with {self.record.name}, of which {self.n_completed} of "
            f"{self.goes_on.config.n_trainings} trials have completed"
        )


@contextmanager
def planned_resume(
    driver: Driver, name: str | None, source: str, asked: Mapping[str, Any]
) -> Iterator[Resumption]:
    """Which study would go on, and as what: that of a name, or the latest of a file that is
    unfinished, or, where more is asked of it, done. No other process may run it until the plan is
    left.

    Args:
        source: path of the file; it does not count where a name is given.
        asked: settings by their keys in a study file: more trials or hours, and those that the
            study must have.

    Raises:
        UserError: if there is no such study, or it cannot go on.
    """
    records, may_be_done = driver.records, not asked.keys().isdisjoint((_TRIALS, _HOURS))
    found = _find(driver, name, source, may_be_done)
    records.check_files(found)
    if found.storage != driver.folder(found.name):
        # What is there is unpickled, so it is not for MLflow to say where that is.
        raise LaunchError(
            f"it must be where {found.name} is kept, which MLflow says is in "
            f"{found.storage.rpartition('/')[0]}, but got {driver.storage_path}",
            "storage_path",
        )
    if not storage.exists(found.storage):
        raise LaunchError(
            f"the state of {found.name} must be in {found.storage}, but there is none",
            "storage_path",
        )
    with storage.locked(found.storage):
        # Another process may have run it until now.
        record = _find(driver, found.name, source, may_be_done)
        check_same(record.config, asked)
        check_trials(record.config, record.name)
        states = [trial.state for trial in records.trials(record)]
        yield Resumption(
            record,
            extended(record, records, asked),
            states.count(TrialStatus.COMPLETED),
            not {TrialStatus.COMPLETED, TrialStatus.STOPPED_EARLY}.isdisjoint(states),
        )


def _find(driver: Driver, name: str | None, source: str, may_be_done: bool) -> StudyRecord:
    records = driver.records
    if name is not None:
        named = records.find_study(name)
        if named is None:
            raise LaunchError(records.absent(name), "name")
        found, key = [named], "name"
    else:
        found, key = records.of_file(source), None
        if not found:
            raise LaunchError(
                f"a study of {source} must be {driver.client.place}, but there is none"
                f"{_unfinished(records)}"
            )
    fitting = [record for record in found if may_be_done or not record.finished]
    if not fitting:
        raise LaunchError(
            f"a study must be unfinished, but '{found[0].name}' is done; it goes on if more trials "
            f"or hours are asked of it{_unfinished(records)}",
            key,
        )
    return fitting[0]


def _unfinished(records: Records) -> str:
    """For a message: the studies that could be resumed; empty if there are none."""
    names = [record.name for record in records.studies() if not record.finished]
    return f"; unfinished, by their names: {some(names)}" if names else ""


def check_same(study: StudyConfig, asked: Mapping[str, Any]) -> None:
    """Check that a study has these settings, but for its trials and hours.

    Raises:
        LaunchError: for the first setting that differs.
    """
    own = study.to_dict()
    for key, value in asked.items():
        if key in ("name", _TRIALS, _HOURS):  # by its name it was found
            continue
        if key == "data.root":
            value = str(Path(str(value)).resolve())
        section, _, name = key.partition(".")
        if name not in own[section]:
            raise LaunchError(f"must be left out, since {study.name} searches it", key, value)
        if own[section][name] != value:
            rule = f"must be {quoted(own[section][name])}, as {study.name} was begun with"
            raise LaunchError(rule, key, value)


def extended(record: StudyRecord, records: Records, asked: Mapping[str, Any]) -> StudyRecord:
    """A study with the trials and hours that are asked for now; the record itself if those are
    nothing new.

    Raises:
        UserError: in one line, if it cannot be that.
    """
    search, n_trials, max_hours = record.config.search, asked.get(_TRIALS), asked.get(_HOURS)
    if not record.finished:
        # The same command may be typed again after an interruption.
        n_trials = None if n_trials == search.n_trials else n_trials
        max_hours = None if max_hours == search.max_hours else max_hours
    if n_trials is None and max_hours is None:
        return record
    if n_trials is not None:
        _check_more(record, _TRIALS, n_trials, search.n_trials or 0)
        search = replace(search, n_trials=n_trials)
    if max_hours is not None:
        had = records.client.get_run(record.run_id).data.metrics.get(HOURS, 0.0)
        _check_more(record, _HOURS, max_hours, max(had, search.max_hours or 0.0))
        search = replace(search, max_hours=max_hours)
    if n_trials is None and record.finished and records.end_of_search(record) is None:
        raise LaunchError(
            f"a study must have samples left for more hours, but {record.name} has had all of its "
            f"{record.config.n_trials}; ask for more trials",
            _HOURS,
        )
    config = replace(record.config, search=search).completed()
    return replace(record, config=config, n_searches=record.n_searches + 1, finished=False)


def _check_more(record: StudyRecord, key: str, more: float, before: float) -> None:
    if not before < more < math.inf:  # NaN neither
        had = before if isinstance(before, int) else f"{before:.3g}"
        is_done = ", which is done," if record.finished else ""
        raise LaunchError(
            f"{record.name}{is_done} must get more than before, {had}, but got {more:g}", key
        )
