"""What is asked of a study that goes on -> the study as it is then, and what is new in it."""

import math
from dataclasses import replace

from study.config.extension import Extension, MoreEpochs, Wanted
from study.config.study import SettingError, StudyConfig
from study.errors import LaunchError, quoted
from study.metrics.definitions import HOURS
from study.metrics.reports import TrialStatus
from study.tracking.handles import run_of
from study.tracking.records import Records, StudyRecord

# They stand in a tag of MLflow, which has some thousand letters.
_MOST_CONTINUED = 80


def extended(record: StudyRecord, records: Records, wanted: Wanted) -> StudyRecord:
    """A study as it is asked for now; the record itself where nothing new is asked of it.

    Raises:
        LaunchError: in one line, if it cannot be that.
        TrackingError: if a network is not there.
    """
    wanted = _new(record, wanted)
    if not wanted.is_something:
        return record
    config = _with_limits(record, records, wanted)
    before = record.extension
    more_epochs = (*before.more_epochs, *_more_epochs(record, records, wanted))
    if len(more_epochs) > _MOST_CONTINUED:
        raise LaunchError(
            f"--train: a study may go on with at most {_MOST_CONTINUED} trainings in all, but got "
            f"{len(more_epochs)}"
        )
    is_searched = wanted.n_trials is not None or wanted.max_hours is not None
    extension = Extension(before.n_searches + is_searched, more_epochs)
    return replace(record, config=config, extension=extension, finished=False)


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
        _check_more(record, "--trials", wanted.n_trials, search.n_trials or 0)
        search = replace(search, n_trials=wanted.n_trials)
    if wanted.max_hours is not None:
        had = records.run(record.run_id).data.metrics.get(HOURS, 0.0)
        _check_more(record, "--max-hours", wanted.max_hours, max(had, search.max_hours or 0.0))
        search = replace(search, max_hours=wanted.max_hours)
    hours_alone = wanted == Wanted(max_hours=wanted.max_hours)
    if hours_alone and record.finished and records.end_of_search(record) is None:
        raise LaunchError(
            f"--max-hours: a study must have samples left for more hours, but {record.name} has "
            f"had all of its {record.config.n_trials}; --trials asks for more"
        )
    try:
        return replace(record.config, search=search).completed()
    except SettingError as error:
        raise LaunchError(f"--trials: {error}") from error


def _check_more(record: StudyRecord, option: str, more: float, before: float) -> None:
    if not before < more < math.inf:  # NaN neither
        had = before if isinstance(before, int) else f"{before:.3g}"
        is_done = ", which is done," if record.finished else ""
        raise LaunchError(
            f"{option}: {record.name}{is_done} must get more than before, {had}, but got {more:g}"
        )


def _more_epochs(record: StudyRecord, records: Records, wanted: Wanted) -> tuple[MoreEpochs, ...]:
    """Which trainings go on. A network that was projected from a trial's means that trial."""
    networks = records.trials_and_projections(record) if wanted.networks else []
    trial_of_run = {network.run_id: network.trial_id for network in networks}
    trials = {network.trial_id: network for network in networks if network.projected_to is None}
    more = dict[str, MoreEpochs]()
    for text in wanted.networks:
        run_id = run_of(records, text)
        if run_id not in trial_of_run:
            raise LaunchError(
                f"--train: a network must be one of {record.name}, but got {quoted(text)}"
            )
        trial = trials[trial_of_run[run_id]]
        name = f"{record.name}/{trial.trial_id}"
        if trial.state not in (TrialStatus.COMPLETED, TrialStatus.STOPPED_EARLY):
            raise LaunchError(
                "--train: a training that goes on must have completed or been stopped early, but "
                f"{name} is {trial.state.value}"
            )
        assert wanted.max_epochs is not None
        if wanted.max_epochs <= trial.epoch:
            raise LaunchError(
                f"--epochs: a training that goes on must have more in all than the {trial.epoch} "
                f"that {name} has had, but got {wanted.max_epochs}"
            )
        goes_on = MoreEpochs(int(trial.trial_id), trial.epoch, wanted.max_epochs)
        if goes_on in record.extension.more_epochs:
            raise LaunchError(
                f"--train: a training goes on once to so many epochs, but that of {name} was asked "
                f"to before, to {wanted.max_epochs}; what is unfinished goes on with --resume alone"
            )
        more[trial.trial_id] = goes_on
    return tuple(more.values())
