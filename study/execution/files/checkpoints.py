"""Deletes checkpoints of trials that are no longer needed.

Tune keeps the latest few checkpoints of a running trial. If the driver dies, Tune's state may be
older than the storage: a checkpoint that it names may be gone, and the latest half written.

An ended trial needs only its last checkpoint, once both snapshots of Tune's state record its end.
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
from study.execution.files.snapshots import Snapshots
from study.execution.trials import EndedTrials

N_KEPT = 5
"""Number of checkpoints kept of a running trial: Tune's state may be several epochs behind."""
_PREFIX = "checkpoint_"


@dataclass(eq=False)
class Checkpoints(StudyCallback):
    """Deletes checkpoints: at the first step, all of each unfinished trial but the one that it
    resumes from, since Tune's list may be out of date; later, all of each ended trial but its last.
    In Tune's list this must come after `snapshots`, whose age it reads.

    Attributes:
        n_kept: number of checkpoints that Tune keeps of a running trial, at least 2.
        messages: receives a line if a checkpoint of an ended trial cannot be deleted.

    Raises:
        OSError: in the driver, if the checkpoints of an unfinished trial cannot be listed or
            deleted.
    """

    n_kept: int
    snapshots: Snapshots
    messages: deque[str]

    def setup(self, *args: object, **info: object) -> None:
        self._ended = EndedTrials()
        # Ended trials still to be tidied, each behind the time at which its end was noticed (-inf:
        # by an earlier driver), in this order.
        self._untidy = deque[tuple[float, Trial]]()

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: object) -> None:
        if self._ended.is_begun:
            return
        for trial in trials:
            if not trial.is_finished() and trial.checkpoint is not None:
                self._tidy(trial)
        # An earlier driver may have died before it tidied them.
        self._untidy += ((-math.inf, trial) for trial in self._ended.begin_step(trials))

    def on_step_end(self, iteration: int, trials: list[Trial], **info: object) -> None:
        for trial in self._ended.update(trials):
            self._untidy.append((time.time(), trial))
            last = trial.latest_checkpoint_result
            if last is not None and last.checkpoint is not None:
                # Keeps Tune's state small. A state written in this step still names all of them.
                _forget(trial)
                trial.on_checkpoint(last)
        # One per step, so that a slow bucket does not hold up Tune.
        if self._untidy and self._untidy[0][0] < self.snapshots.in_both:
            self._keep_last(self._untidy.popleft()[1])

    def on_experiment_end(self, trials: list[Trial], **info: object) -> None:
        # By now Tune has ended interrupted trials too, so only trials that had ended by the last
        # step count. If all trials ended by themselves, no further state will be written.
        is_done = len(self._ended) == len(trials)
        for noticed, trial in self._untidy:
            if noticed > -math.inf and (is_done or noticed < self.snapshots.in_both):
                self._keep_last(trial)

    def _keep_last(self, trial: Trial) -> None:
        last = trial.checkpoint
        if last is None:
            return
        try:
            _delete_all_but(PurePosixPath(last.path).name, trial, _stored(trial))
        except OSError as error:
            # It only takes up space, so the study goes on.
            self.messages.append(f"a checkpoint that nobody needs cannot be deleted: {error}")

    def _tidy(self, trial: Any) -> None:
        storage, known = trial.storage, trial.latest_checkpoint_result
        files, folder, stored = storage.storage_filesystem, storage.trial_fs_path, _stored(trial)
        name = choose(PurePosixPath(known.checkpoint.path).name, stored, self.n_kept)
        _forget(trial)
        if name is not None:
            # Tune may have named another one: the reports up to this one are in its REPORTS file.
            checkpoint = Checkpoint(f"{folder}/{name}", files)
            trial.on_checkpoint(type(known)(checkpoint, known.metrics))
            # The worker counts on from here.
            storage.current_checkpoint_index = int(name.removeprefix(_PREFIX))
        _delete_all_but(name, trial, stored)


# Trials are Any below: in Tune's types their storage and checkpoints are optional, here they exist.


def _delete_all_but(name: str | None, trial: Any, stored: list[str]) -> None:
    for other in stored:
        if other != name:
            trial.storage.storage_filesystem.delete_dir(f"{trial.storage.trial_fs_path}/{other}")


def _stored(trial: Any) -> list[str]:
    """Names of a trial's checkpoints in the storage, oldest first."""
    files = trial.storage.storage_filesystem
    folder = FileSelector(trial.storage.trial_fs_path, allow_not_found=True)
    names = (PurePosixPath(info.path).name for info in files.get_file_info(folder))
    return sorted(name for name in names if name.startswith(_PREFIX))


def _forget(trial: Any) -> None:
    """Make Tune forget all checkpoints of a trial, without deleting any."""
    manager = trial.run_metadata.checkpoint_manager
    trial.run_metadata.checkpoint_manager = type(manager)(manager.checkpoint_config)


def choose(known: str, stored: list[str], n_kept: int) -> str | None:
    """The checkpoint that a trial resumes from; None if there is none.

    It is `known`, unless that is gone or was being deleted when the driver died; then the second
    newest, since each is complete before the next is begun.

    Args:
        known: the checkpoint named by Tune's state.
        stored: the checkpoints in the storage, oldest first.
        n_kept: how many Tune keeps; it deletes the oldest once that many newer ones are written.
    """
    if known in stored[-n_kept:]:
        return known
    return stored[-2:][0] if stored else None
