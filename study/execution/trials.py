"""Read Tune's trials: number, folder, report, status, error, end."""

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
    """The state of a trial at one moment: its last report and checkpoint, and the error, in one
    line, for which Tune gave the trial up. Each of these is None if there is none."""

    suggestion: Suggestion
    status: TrialStatus
    report: TrialReport | None
    checkpoint: Checkpoint | None
    error: str | None


def view(trial: Trial) -> TrialView:
    """The current state of a trial."""
    return TrialView(
        suggestion(trial),
        status(trial),
        report(trial),
        trial.checkpoint,
        _error(trial) if trial.status == Trial.ERROR else None,
    )


def suggestion(trial: Trial) -> Suggestion:
    """The suggestion that a trial was made from."""
    return Suggestion(**trial.config)


def folder_name(trial: Trial) -> str:
    """Name of a trial's folder in the storage. Tune pickles this function with the state of every
    trial: being a module's function, it is pickled by name, which is short."""
    # With Tune's id, since a number may be used again after a crash.
    return f"{suggestion(trial).trial_id}_{trial.trial_id}"


def report(trial: Trial) -> TrialReport | None:
    """The last report of a trial; None if there is none."""
    return TrialReport.from_result(trial.last_result or {})


def n_epochs(trial: Trial) -> int:
    """Number of epochs that a trial was trained for, by its last report."""
    last = report(trial)
    return last.epoch.epoch if last and last.epoch else 0


def reports_in(checkpoint: Checkpoint) -> list[EpochReport]:
    """All reports of a trial up to a checkpoint. Raises StorageError if it cannot be read."""
    path = PurePosixPath(checkpoint.path) / REPORTS
    assert checkpoint.filesystem is not None
    try:
        with checkpoint.filesystem.open_input_stream(str(path)) as file:
            return read_reports(file.readall())
    except OSError as error:
        raise StorageError(f"a checkpoint cannot be read: {error}") from error
    except ValueError as error:
        raise damaged(checkpoint.path, error) from error


def damaged(checkpoint: str, error: ValueError) -> StorageError:
    """The StorageError for a checkpoint, given by its path, in which a file is not whole."""
    return StorageError(
        f"every file of a checkpoint must be whole, but {error}, in {checkpoint}; delete that "
        "folder and resume the study: the trial then goes on from an earlier checkpoint"
    )


def status(trial: Trial) -> TrialStatus:
    """Status of a trial. Tune itself has no status for a trial that was stopped early."""
    last = report(trial)
    if not trial.is_finished():
        return TrialStatus.RUNNING
    if trial.status == Trial.ERROR:
        return TrialStatus.FAILED
    if last is None or last.status is TrialStatus.RUNNING:
        return TrialStatus.STOPPED_EARLY
    return last.status


def error_text(trial: Trial) -> str | None:
    """The trial's failures that Tune wrote to the driver's local file; None if there is none. The
    file in the storage may be older or half written."""
    if trial.error_file is None or not Path(trial.error_file).exists():
        return None
    return Path(trial.error_file).read_text()


def _error(trial: Trial) -> str:
    """The last line of the error for which Tune gave a trial up."""
    text = error_text(trial) or str(trial.get_error() or "unknown error")
    return text.strip().splitlines()[-1].strip()


class EndedTrials:
    """The trials of a running study that have ended.

    Tune passes all trials at every step. A large study has a hundred thousand steps, and nearly all
    of its trials have ended, so ended trials are not looked at again.

    Attributes:
        is_begun: whether this driver has begun its first step.
        running: trials that had not ended at the last update.
    """

    def __init__(self) -> None:
        self.is_begun = False
        self.running: list[Trial] = []
        self._known: set[str] = set()
        self._ended: set[str] = set()

    def __len__(self) -> int:
        return len(self._ended)

    def __contains__(self, trial: Trial) -> bool:
        return trial.trial_id in self._ended

    def begin_step(self, trials: list[Trial]) -> list[Trial]:
        """In the first step, return the trials that ended under an earlier driver, which `update`
        will not return; in later steps, none."""
        if self.is_begun:
            return []
        self.is_begun = True
        return self.update(trials)

    def update(self, trials: list[Trial]) -> list[Trial]:
        """Return the trials that have ended since the last update. `trials` are all trials: Tune
        appends new and retried ones."""
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
