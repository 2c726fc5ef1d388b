"""Plan a new study, or how one is resumed, without starting or changing anything."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from study.config.file import Asked, absolute
from study.config.study import StudyConfig
from study.errors import LaunchError, NameTakenError, count_of, quoted, some
from study.execution.driver.environment import Driver
from study.execution.driver.preflight import check_trials
from study.execution.files import storage
from study.metrics.reports import TrialStatus
from study.tracking.records import Records
from study.tracking.study_record import StudyRead, StudyRecord

# The only settings that may change when a study is resumed.
_TRIALS, _HOURS = "search.n_trials", "search.max_hours"


def plan_new(driver: Driver, asked: Asked) -> Asked:
    """Check that a new study can run, and give it a free name: if the name in its file is taken, a
    number is added, and the user is told.

    Raises:
        UserError: if a trial's data cannot be read, its network does not fit the images or cannot
            have the ladder that is asked for, or the name is taken and was given as an option.
    """
    config = asked.config
    check_trials(config, asked.source)
    free = _free_name(driver, config.name)
    if free == config.name:
        return asked
    if "name" in asked.options:
        raise NameTakenError.of(config.name)
    taken = driver.records.find_study(config.name)
    if taken is not None and taken.source == asked.source and taken.finished:
        n_completed = count_of(driver.records.n_completed(taken), "completed trial")
        driver.say(
            f"{taken.name} is there already, with {n_completed}; this study trains again, as {free}"
        )
        driver.say(f"to show {taken.name} instead: {driver.how_to_show(taken.name)}")
        driver.say(
            f"to extend it instead, with more trials or hours: {driver.how_to_resume(taken.name)}"
        )
    else:
        driver.say(f"the name {config.name} is taken; this study is {free}")
    of_file = driver.records.of_file(asked.source)
    unfinished = next((record for record in of_file if not record.finished), None)
    if unfinished is not None:
        driver.say_unfinished(unfinished.name)
    return replace(asked, config=replace(config, name=free))


def _free_name(driver: Driver, name: str) -> str:
    """The first of name, name-2, name-3, ... that no study or folder in the storage has."""
    free, number = name, 2
    while driver.records.is_taken(free) or storage.exists(driver.folder(free)):
        free, number = f"{name}-{number}", number + 1
    return free


@dataclass(frozen=True)
class Resumption:
    """The plan for resuming a study.

    Attributes:
        study: the study in MLflow, read while it is locked.
        goes_on: its record with the new trials or hours; `record` itself if there are none.
    """

    study: StudyRead
    goes_on: StudyRecord

    @property
    def record(self) -> StudyRecord:
        """The study's record, as the study was begun or last extended."""
        return self.study.record

    @property
    def has_ended_trials(self) -> bool:
        """Whether any trial has completed or was stopped early."""
        ended = {TrialStatus.COMPLETED, TrialStatus.STOPPED_EARLY}
        return not ended.isdisjoint(self.study.states)

    @property
    def only_publishes(self) -> bool:
        """Whether the study is done, and nothing but its results is missing."""
        return self.record.finished and self.goes_on is self.record

    def __str__(self) -> str:
        if self.only_publishes:
            return f"would publish the results of {self.record.name}, which is done"
        return (
            f"would go on with {self.record.name}, of which "
            f"{self.study.states.count(TrialStatus.COMPLETED)} of "
            f"{self.goes_on.config.n_trainings} trials have completed"
        )


@contextmanager
def planned_resume(
    driver: Driver, name: str | None, source: str, asked: Mapping[str, Any]
) -> Iterator[Resumption]:
    """Plan to resume the study of a name, or else the latest unfinished study of a file. A finished
    study is resumed only if more trials or hours are asked for, or if its name is given and its
    results were not published. The study is locked until the context is left.

    Args:
        source: path of the file; ignored if a name is given.
        asked: settings by their keys in a study file: more trials or hours, and settings that the
            study must have.

    Raises:
        UserError: if there is no such study, or it cannot be resumed.
    """
    key = None if name is None else "name"
    found = _first_to_go_on(driver, _found(driver, name, source), asked, key)
    driver.records.check_files(found)
    driver.check_kept_here(found.name, found.storage)
    if not storage.exists(found.storage):
        raise LaunchError(
            f"the state of {found.name} must be in {found.storage}, but there is none",
            "storage_path",
        )
    with storage.locked(found.storage):
        # Read again under the lock: until now another process may have run it, to its end or with
        # more trials.
        study = driver.records.read(found)
        record = _first_to_go_on(driver, [study.record], asked, key)
        check_same(record.config, asked)
        plan = Resumption(study, extended(record, asked))
        if not plan.only_publishes:
            check_trials(record.config, record.name)
        yield plan


def _found(driver: Driver, name: str | None, source: str) -> list[StudyRecord]:
    """The study with a name, or all studies of a file, the latest first. Studies whose networks the
    user trains are left out; if named, such a study raises LaunchError, as an unknown name does."""
    records = driver.records
    if name is not None:
        named = records.find_study(name)
        if named is None:
            raise LaunchError(records.absent(name), "name")
        if named.is_told:
            rule = "must be a study that trains its networks, but those of this one were told to it"
            raise LaunchError(rule, "name", name)
        return [named]
    of_file = [record for record in records.of_file(source) if not record.is_told]
    if not of_file:
        raise LaunchError(
            f"a study of {source} must be {driver.client.place}, but there is none"
            f"{_unfinished(records)}"
        )
    return of_file


def _first_to_go_on(
    driver: Driver, found: Sequence[StudyRecord], asked: Mapping[str, Any], key: str | None
) -> StudyRecord:
    """The first study that is unfinished, is asked for more trials or hours, or, if the user gave
    its name (`key` is not None), lacks its published results. Raises LaunchError if none does."""
    asks_for_more = not asked.keys().isdisjoint((_TRIALS, _HOURS))
    for record in found:
        if asks_for_more or not record.finished or (key is not None and not record.is_published):
            return record
    raise LaunchError(
        f"a study must be unfinished, but '{found[0].name}' is done; it goes on if more trials "
        f"or hours are asked of it{_unfinished(driver.records)}",
        key,
    )


def _unfinished(records: Records) -> str:
    """The end of a message, which lists the unfinished studies; empty if there are none."""
    names = [record.name for record in records.studies() if not record.finished]
    return f"; unfinished, by their names: {some(names)}" if names else ""


def check_same(study: StudyConfig, asked: Mapping[str, Any]) -> None:
    """Raise LaunchError for the first setting that differs; only trials and hours may differ."""
    own = study.to_dict()
    for key, value in asked.items():
        if key in ("name", _TRIALS, _HOURS):  # the study was found by its name
            continue
        if key == "data.root":
            value = absolute(str(value))
        section, _, name = key.partition(".")
        if name not in own[section]:
            raise LaunchError(f"must be left out, since {study.name} searches it", key, value)
        if own[section][name] != value:
            rule = f"must be {quoted(own[section][name])}, as {study.name} was begun with"
            raise LaunchError(rule, key, value)


def extended(record: StudyRecord, asked: Mapping[str, Any]) -> StudyRecord:
    """The record with the trials and hours asked for; `record` itself if none are new. Raises
    LaunchError if they are no more than before, or the study has no samples left."""
    search, n_trials, max_hours = record.config.search, asked.get(_TRIALS), asked.get(_HOURS)
    if not record.finished:
        # The same command may be repeated after an interruption.
        n_trials = None if n_trials == search.n_trials else n_trials
        max_hours = None if max_hours == search.max_hours else max_hours
    if n_trials is None and max_hours is None:
        return record
    if n_trials is not None:
        _check_more(record, _TRIALS, n_trials, search.n_trials or 0)
        search = replace(search, n_trials=n_trials)
    if max_hours is not None:
        _check_more(record, _HOURS, max_hours, max(record.hours, search.max_hours or 0.0))
        search = replace(search, max_hours=max_hours)
    if n_trials is None and record.finished and record.end_of_search is None:
        raise LaunchError(
            f"a study must have samples left for more hours, but {record.name} has had all of its "
            f"{record.config.n_trials}; ask for more trials",
            _HOURS,
        )
    config = replace(record.config, search=search).completed()
    return replace(
        record,
        config=config,
        n_searches=record.n_searches + 1,
        finished=False,
        is_published=False,
        end_of_search=None,
    )


def _check_more(record: StudyRecord, key: str, more: float, before: float) -> None:
    if not before < more < math.inf:  # refuses NaN too
        had = before if isinstance(before, int) else f"{before:.3g}"
        is_done = ", which is done," if record.finished else ""
        raise LaunchError(
            f"{record.name}{is_done} must get more than before, {had}, but got {more:g}", key
        )
