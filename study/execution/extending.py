"""What is asked of a study that goes on -> the study as it is then, and what is new in it."""

from dataclasses import replace

from study.config.extension import Extension, MoreEpochs, Wanted
from study.config.study import SettingError, StudyConfig
from study.errors import LaunchError, quoted
from study.metrics import TrialStatus
from study.tracking.handles import run_of
from study.tracking.records import Records, StudyRecord, TrialRecord

# They stand in a tag of MLflow, which has some thousand letters.
_MOST_CONTINUED = 80


def extended(
    record: StudyRecord, records: Records, wanted: Wanted
) -> tuple[StudyConfig, Extension | None]:
    """The settings of a study as it is asked for now, and what is new in that; None if nothing is.

    Raises:
        LaunchError: in one line, if it cannot be that.
        TrackingError: if a network is not there.
    """
    if not wanted.is_something:
        return record.config, None
    trials = records.trials(record)
    config = _with_limits(record, trials, wanted)
    more_epochs = _more_epochs(record, records, wanted)
    n_continued = len(record.more_epochs) + len(more_epochs)
    if n_continued > _MOST_CONTINUED:
        raise LaunchError(
            f"--train: a study may go on with at most {_MOST_CONTINUED} trainings in all, but got "
            f"{n_continued}"
        )
    is_searched = wanted.n_trials is not None or wanted.max_hours is not None
    return config, Extension(len(trials), is_searched, more_epochs)


def _with_limits(record: StudyRecord, trials: list[TrialRecord], wanted: Wanted) -> StudyConfig:
    """The settings of a study with new limits of its search."""
    search = record.config.search
    limits = (
        ("--trials", wanted.n_trials, search.n_trials),
        ("--max-hours", wanted.max_hours, search.max_hours),
    )
    for option, more, before in limits:
        if more is not None and before is not None and more <= before:
            raise LaunchError(
                f"{option}: a study that goes on must have more than before, {before:g}, but got "
                f"{more:g}"
            )
    n_samples = len({trial.repeat_of for trial in trials if trial.continues is None})
    hours_alone = wanted == Wanted(max_hours=wanted.max_hours)
    if hours_alone and record.finished and n_samples >= record.config.n_trials:
        raise LaunchError(
            f"--max-hours: a study must have samples left for more hours, but {record.name} has "
            f"had all of its {n_samples}; --trials asks for more"
        )
    search = replace(
        search,
        n_trials=search.n_trials if wanted.n_trials is None else wanted.n_trials,
        max_hours=search.max_hours if wanted.max_hours is None else wanted.max_hours,
    )
    try:
        return replace(record.config, search=search).completed()
    except SettingError as error:
        raise LaunchError(f"--trials: {error}") from error


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
        more[trial.trial_id] = MoreEpochs(int(trial.trial_id), trial.epoch, wanted.max_epochs)
    return tuple(more.values())
