"""Which checkpoints of a trial stay in the storage.

While a trial runs Tune keeps its latest few. When a study goes on after its driver died, Tune's
state may be older than what is stored. The checkpoint that it names may have been deleted in favor
of later ones, and the last one may have been cut off as it was written.

A trial that has ended needs only its last checkpoint, as soon as both copies of Tune's state know
that it has ended.
"""

import math
import time
from collections import deque
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pyarrow.fs import FileSelector
from ray.tune import Checkpoint
from ray.tune.experiment import Trial

from study.execution.callback import StudyCallback
from study.execution.snapshots import Snapshots
from study.execution.trials import EndedTrials

_PREFIX = "checkpoint_"


@dataclass(eq=False)
class Checkpoints(StudyCallback):
    """Deletes checkpoints. At the first step an unfinished trial keeps only the one that it goes on
    from, since Tune's list of them may be out of date. Later a trial that has ended keeps only its
    last. Comes behind the snapshots, since it reads how old their copies are.

    Attributes:
        n_kept: checkpoints that Tune keeps of a trial that runs, at least 2.
        snapshots: those of the study, which say what a restart will know.
        messages: get a line where a checkpoint cannot be deleted.

    Raises:
        OSError: in the driver, where an unfinished trial cannot be left its checkpoint.
    """

    n_kept: int
    snapshots: Snapshots
    messages: deque[str]

    def setup(self, *args: object, **info: object) -> None:
        self._ended: EndedTrials | None = None  # before the first step
        # Ended trials whose folders have not been tidied, and when their end was noticed, in this
        # order; -inf if an earlier driver noticed it.
        self._untidy = deque[tuple[float, Trial]]()

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: object) -> None:
        if self._ended is not None:
            return
        for trial in trials:
            if not trial.is_finished() and trial.checkpoint is not None:
                self._tidy(trial)
        self._ended = EndedTrials()
        # The driver before may have died before it tidied them.
        self._untidy += ((-math.inf, trial) for trial in self._ended.update(trials))

    def on_step_end(self, iteration: int, trials: list[Trial], **info: object) -> None:
        assert self._ended is not None
        for trial in self._ended.update(trials):
            self._untidy.append((time.time(), trial))
            last = trial.latest_checkpoint_result
            if last is not None and last.checkpoint is not None:
                # So that Tune's state is smaller. One that it wrote in this very step still names
                # the others.
                _forget(trial)
                trial.on_checkpoint(last)
        # One at a step, which does not keep Tune long where the storage is a bucket.
        if self._untidy and self._untidy[0][0] < self.snapshots.in_both:
            self._keep_last(self._untidy.popleft()[1])

    def on_experiment_end(self, trials: list[Trial], **info: object) -> None:
        # By now Tune has ended the interrupted trials too, so the last step counts. If all trials
        # had ended by themselves, no state will be written any more.
        is_done = self._ended is not None and len(self._ended) == len(trials)
        for noticed, trial in self._untidy:
            if noticed > -math.inf and (is_done or noticed < self.snapshots.in_both):
                self._keep_last(trial)

    def _keep_last(self, trial: Trial) -> None:
        """Delete all checkpoints of an ended trial but its last."""
        last = trial.checkpoint
        if last is None:
            return
        try:
            _delete_all_but(PurePosixPath(last.path).name, trial, _stored(trial))
        except OSError as error:
            # It takes room and does no harm, so the study goes on.
            self.messages.append(f"a checkpoint that nobody needs cannot be deleted: {error}")

    def _tidy(self, trial: Any) -> None:
        storage, known = trial.storage, trial.latest_checkpoint_result
        files, folder, stored = storage.storage_filesystem, storage.trial_fs_path, _stored(trial)
        name = choose(PurePosixPath(known.checkpoint.path).name, stored, self.n_kept)
        _forget(trial)
        if name is not None:
            # It need not be the one that Tune named: its own REPORTS file has the reports up to it.
            checkpoint = Checkpoint(f"{folder}/{name}", files)
            trial.on_checkpoint(type(known)(checkpoint, known.metrics))
            # The worker counts on from here.
            storage.current_checkpoint_index = int(name.removeprefix(_PREFIX))
        _delete_all_but(name, trial, stored)


# Tune's types leave open whether a trial has a storage and checkpoints; those below do.


def _delete_all_but(name: str | None, trial: Any, stored: list[str]) -> None:
    """Delete the stored checkpoints of a trial, by name, but for one."""
    for other in stored:
        if other != name:
            trial.storage.storage_filesystem.delete_dir(f"{trial.storage.trial_fs_path}/{other}")


def _stored(trial: Any) -> list[str]:
    """Names of the checkpoints of a trial in the storage, the oldest first."""
    files = trial.storage.storage_filesystem
    folder = FileSelector(trial.storage.trial_fs_path, allow_not_found=True)
    names = (PurePosixPath(info.path).name for info in files.get_file_info(folder))
    return sorted(name for name in names if name.startswith(_PREFIX))


def _forget(trial: Any) -> None:
    """Let Tune know of no checkpoint of a trial. None is deleted."""
    manager = trial.run_metadata.checkpoint_manager
    trial.run_metadata.checkpoint_manager = type(manager)(manager.checkpoint_config)


def choose(known: str, stored: list[str], n_kept: int) -> str | None:
    """Name of the checkpoint that a trial goes on from.

    Args:
        known: the one that Tune's state names.
        stored: those that are there, the oldest first.
        n_kept: how many Tune keeps. When that many newer ones are written, it begins to delete the
            oldest.

    Returns:
        The known one, unless it is gone, or was being deleted when the driver died. Then the newest
        but one: each is whole before the next is begun. None if there is none at all.
    """
    if known in stored[-n_kept:]:
        return known
    return stored[-2:][0] if stored else None
