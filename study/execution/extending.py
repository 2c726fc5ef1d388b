"""What is asked of a study that goes on -> the study as it is then."""

import math
from dataclasses import replace

from study.config.extension import Wanted
from study.config.study import StudyConfig
from study.errors import ConfigError, LaunchError
from study.metrics.definitions import HOURS
from study.tracking.records import Records, StudyRecord


def extended(record: StudyRecord, records: Records, wanted: Wanted) -> StudyRecord:
    """A study as it is asked for now; the record itself where nothing new is asked of it.

    Raises:
        LaunchError: in one line, if it cannot be that.
    """
    wanted = _new(record, wanted)
    if not wanted.is_something:
        return record
    config = _with_limits(record, records, wanted)
    return replace(record, config=config, n_searches=record.n_searches + 1, finished=False)


def _new(record: StudyRecord, wanted: Wanted) -> Wanted:
    """What is asked beyond what was asked of an unfinished study before: the same command may be
    typed again after an interruption."""
    if record.finished:
        return wanted
    search = record.config.search
    return replace(
        wanted,
        n_trials=None if wanted.n_trials == search.n_trials else wanted.n_trials,
        max_hours=None if wanted.max_hours == search.max_hours else wanted.max_hours,
    )


def _with_limits(record: StudyRecord, records: Records, wanted: Wanted) -> StudyConfig:
    """The settings of a study with new limits of its search."""
    search = record.config.search
    if wanted.n_trials is not None:
        _check_more(record, "trials", wanted.n_trials, search.n_trials or 0)
        search = replace(search, n_trials=wanted.n_trials)
    if wanted.max_hours is not None:
        had = records.run(record.run_id).data.metrics.get(HOURS, 0.0)
        _check_more(record, "max_hours", wanted.max_hours, max(had, search.max_hours or 0.0))
        search = replace(search, max_hours=wanted.max_hours)
    hours_alone = wanted == Wanted(max_hours=wanted.max_hours)
    if hours_alone and record.finished and records.end_of_search(record) is None:
        raise LaunchError(
            f"a study must have samples left for more hours, but {record.name} has had all of its "
            f"{record.config.n_trials}; ask for more trials",
            key="max_hours",
        )
    try:
        return replace(record.config, search=search).completed()
    except ConfigError as error:
        raise LaunchError(error.rule, "trials", error.value) from error


def _check_more(record: StudyRecord, key: str, more: float, before: float) -> None:
    if not before < more < math.inf:  # NaN neither
        had = before if isinstance(before, int) else f"{before:.3g}"
        is_done = ", which is done," if record.finished else ""
        raise LaunchError(
            f"{record.name}{is_done} must get more than before, {had}, but got {more:g}", key=key
        )
