"""What Tune says of a trial, read in one place: number, folder, report, status, error, end."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ray.tune import Checkpoint
from ray.tune.experiment import Trial

from study.errors import StorageError
from study.metrics.artifacts import REPORTS, read_reports
from study.metrics.reports import EpochReport, TrialReport, TrialStatus
from study.search.suggestion import Suggestion


@dataclass(frozen=True)
class TrialView:
    """A trial as it stood at one moment.

    Attributes:
        suggestion: what it was made of.
        status: where it stands.
        report: its last; None if it has none.
        checkpoint: its last; None if it has none.
        error: why Tune gave it up, in one line; None if it did not.
    """

    suggestion: Suggestion
    status: TrialStatus
    report: TrialReport | None
    checkpoint: Checkpoint | None
    error: str | None


def view(trial: Trial) -> TrialView:
    """A trial as it stands now."""
    return TrialView(
        suggestion(trial),
        status(trial),
        report(trial),
        trial.checkpoint,
        _error(trial) if trial.status == Trial.ERROR else None,
    )


def suggestion(trial: Trial) -> Suggestion:
    """What a trial was made of."""
    return Suggestion.of_config(trial.config)


def folder_name(trial: Trial) -> str:
    """Name of a trial's folder in the storage. Tune pickles this function with the state of every
    trial: by its name, since it stands in a module; a function of the command would go whole."""
    # Tune's id as well: a number may be used again after a crash.
    return f"{suggestion(trial).trial_id}_{trial.trial_id}"


def report(trial: Trial) -> TrialReport | None:
    """The last report of a trial; None if it has none."""
    return TrialReport.from_result(trial.last_result or {})


def n_epochs(trial: Trial) -> int:
    """The epochs that a trial was trained for, by its reports."""
    last = report(trial)
    return last.epoch.epoch if last and last.epoch else 0


def reports_in(checkpoint: Checkpoint) -> list[EpochReport]:
    """All reports of a trial up to a checkpoint.

    Raises:
        StorageError: if it cannot be read.
    """
    path = PurePosixPath(checkpoint.path) / REPORTS
    assert checkpoint.filesystem is not None
    try:
        with checkpoint.filesystem.open_input_stream(str(path)) as file:
            return read_reports(file.readall())
    except OSError as error:
        raise StorageError(f"a checkpoint cannot be read: {error}") from error


def status(trial: Trial) -> TrialStatus:
    """Where a trial stands. Tune has no status for one that was stopped early."""
    last = report(trial)
    if not trial.is_finished():
        return TrialStatus.RUNNING
    if trial.status == Trial.ERROR:
        return TrialStatus.FAILED
    if last is None or last.status is TrialStatus.RUNNING:
        return TrialStatus.STOPPED_EARLY
    return last.status


def error_text(trial: Trial) -> str | None:
    """What Tune has written down of a trial's failures, in the driver's own file; None if there is
    no such file. The file in the storage may be older, or half written."""
    if trial.error_file is None or not Path(trial.error_file).exists():
        return None
    return Path(trial.error_file).read_text()


def _error(trial: Trial) -> str:
    """Why Tune gave a trial up: the last line of its error."""
    text = error_text(trial) or str(trial.get_error() or "unknown error")
    return text.strip().splitlines()[-1].strip()


class EndedTrials:
    """Which trials of a running study have ended.

    Tune passes all trials at each of its steps. A large study makes a hundred thousand steps, and
    nearly all of its trials have ended, so those are not looked at again.

    Attributes:
        running: those that had not ended at the last update.
    """

    def __init__(self) -> None:
        self.running: list[Trial] = []
        self._known: set[str] = set()
        self._ended: set[str] = set()

    def __len__(self) -> int:
        return len(self._ended)

    def __contains__(self, trial: Trial) -> bool:
        return trial.trial_id in self._ended

    def update(self, trials: list[Trial]) -> list[Trial]:
        """Take in how the trials stand now; returns those that have ended since the last update.

        Args:
            trials: all that there are. Tune adds to their end, and moves there what it tries again.
        """
        new = []
        for trial in reversed(trials):
            if len(self._known) == len(trials):
                break
            if trial.trial_id not in self._known:
                self._known.add(trial.trial_id)
                new.append(trial)
        self.running += reversed(new)
        just_ended = [trial for trial in self.running if trial.is_finished()]
        if just_ended:
            self._ended.update(trial.trial_id for trial in just_ended)
            self.running = [trial for trial in self.running if not trial.is_finished()]
        return just_ended
