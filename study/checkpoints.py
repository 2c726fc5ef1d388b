"""Which checkpoints of a trial stay in the storage.

While a trial runs Tune keeps its latest few. When a study goes on after its driver died, Tune's
state may be older than what is stored: the checkpoint that it would have a trial go on from may
have made room for later ones, and the last may have been cut off as it was written. Of a trial that
has ended the last is all that anybody needs, once no state may come back that takes it for running.
"""

import math
import time
from collections import deque
from pathlib import PurePosixPath
from typing import Any

from pyarrow.fs import FileSelector
from ray.tune import Callback, Checkpoint
from ray.tune.experiment import Trial

from study.ended import Ended
from study.snapshots import Snapshots

_PREFIX = "checkpoint_"


class Checkpoints(Callback):
    """At the first step, leaves each unfinished trial the checkpoint that it goes on from, and no
    other: what Tune knows of the others is not true any more. Leaves a trial that has ended its
    last. Has to come after the snapshots, whose latest copies it looks at.

    Raises:
        OSError: in the driver, where an unfinished trial cannot be left that one.
    """

    def __init__(self, n_kept: int, snapshots: Snapshots, news: deque[str]) -> None:
        """
        Args:
            n_kept: checkpoints that Tune keeps of a trial that runs, at least 2.
            snapshots: those of the study, which say what a restart will know.
            news: gets a line for whoever watches where a checkpoint cannot be deleted.
        """
        self._n_kept = n_kept
        self._snapshots = snapshots
        self._news = news

    def __getstate__(self) -> dict[str, Any]:
        return {"_n_kept": self._n_kept, "_snapshots": self._snapshots, "_news": self._news}

    def setup(self, *args: object, **info: object) -> None:
        self._ended: Ended | None = None  # before the first step
        # Ended trials whose folders have not been looked at, and when they were seen to have ended,
        # in this order; -inf if a driver before this one saw it.
        self._untidy = deque[tuple[float, Trial]]()

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: object) -> None:
        if self._ended is not None:
            return
        for trial in trials:
            if not trial.is_finished() and trial.checkpoint is not None:
                self._tidy(trial)
        self._ended = Ended()
        # That driver may have died before it came to them.
        self._untidy += ((-math.inf, trial) for trial in self._ended.look(trials))

    def on_step_end(self, iteration: int, trials: list[Trial], **info: object) -> None:
        assert self._ended is not None
        for trial in self._ended.look(trials):
            self._untidy.append((time.time(), trial))
            _forget_all_but_last(trial)
        # One at a step, which does not keep Tune long where the storage is a bucket.
        if self._untidy and self._untidy[0][0] < self._snapshots.in_both:
            self._keep_last(self._untidy.popleft()[1])

    def on_experiment_end(self, trials: list[Trial], **info: object) -> None:
        # By now Tune has ended those that were interrupted too: what counts is the last step. Where
        # all had ended by themselves, the state that Tune has written since is the last there is.
        is_done = self._ended is not None and len(self._ended) == len(trials)
        for seen, trial in self._untidy:
            if seen > -math.inf and (is_done or seen < self._snapshots.in_both):
                self._keep_last(trial)

    def _keep_last(self, trial: Trial) -> None:
        """Delete all checkpoints of an ended trial but its last."""
        last = trial.checkpoint
        if last is None:
            return
        try:
            _delete_all_but(PurePosixPath(last.path).name, trial, _stored(trial))
        except OSError as error:
            # It takes room and harms nobody, so the study goes on.
            self._news.append(f"a checkpoint that nobody needs cannot be deleted: {error}")

    def _tidy(self, trial: Trial) -> None:
        storage, known = trial.storage, trial.latest_checkpoint_result
        assert storage is not None
        assert known is not None
        assert known.checkpoint is not None
        files, folder, stored = storage.storage_filesystem, storage.trial_fs_path, _stored(trial)
        name = choose(PurePosixPath(known.checkpoint.path).name, stored, self._n_kept)
        _forget(trial)
        if name is not None:
            # Where it is another than Tune knew, what it reported is in its own file of reports.
            checkpoint = Checkpoint(f"{folder}/{name}", files)
            trial.on_checkpoint(type(known)(checkpoint, known.metrics))
            # The worker counts on from here.
            storage.current_checkpoint_index = int(name.removeprefix(_PREFIX))
        _delete_all_but(name, trial, stored)


def _delete_all_but(name: str | None, trial: Trial, stored: list[str]) -> None:
    """Delete the stored checkpoints of a trial, by name, but for one."""
    storage = trial.storage
    assert storage is not None
    for other in stored:
        if other != name:
            storage.storage_filesystem.delete_dir(f"{storage.trial_fs_path}/{other}")


def _stored(trial: Trial) -> list[str]:
    """The checkpoints of a trial that are in the storage, by name, in their order."""
    storage = trial.storage
    assert storage is not None
    folder = FileSelector(storage.trial_fs_path, allow_not_found=True)
    names = (PurePosixPath(i.path).name for i in storage.storage_filesystem.get_file_info(folder))
    return sorted(name for name in names if name.startswith(_PREFIX))


def _forget_all_but_last(trial: Trial) -> None:
    """Have Tune know of the last checkpoint of a trial alone, so that its state has less to hold;
    what was written of the trial in this very step keeps the others."""
    last = trial.latest_checkpoint_result
    if last is not None and last.checkpoint is not None:
        _forget(trial)
        trial.on_checkpoint(last)


def _forget(trial: Trial) -> None:
    """Have Tune know of no checkpoint of a trial, and delete none."""
    manager = trial.run_metadata.checkpoint_manager
    assert manager is not None
    trial.run_metadata.checkpoint_manager = type(manager)(manager.checkpoint_config)


def choose(known: str, stored: list[str], n_kept: int) -> str | None:
    """The checkpoint that a trial goes on from, by name.

    Args:
        known: the one that Tune's state names.
        stored: those that are there, in their order.
        n_kept: how many Tune keeps; it begins to delete the one before when these are written.

    Returns:
        The known one, unless it is gone or being deleted when the driver died; then the newest but
        one, since each is whole before the next is begun; None if there is none at all.
    """
    if known in stored[-n_kept:]:
        return known
    return stored[-2:][0] if stored else None
