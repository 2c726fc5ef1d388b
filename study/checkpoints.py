"""Which checkpoints of a trial stay in the storage.

While a trial runs Tune keeps its latest few. When a study goes on after its driver died, Tune's
state may be older than what is stored: the checkpoint that it would have a trial go on from may
have made room for later ones, and the last may have been cut off as it was written. Of a trial that
has ended the last is all that anybody needs, once no state may come back that takes it for running.
"""

import time
from collections import deque
from pathlib import PurePosixPath
from typing import Any

from pyarrow.fs import FileSelector, FileSystem
from ray.tune import Callback, Checkpoint
from ray.tune.experiment import Trial

from study.ended import Ended
from study.snapshots import Snapshots

_PREFIX = "checkpoint_"
_Place = tuple[FileSystem, str]


class Checkpoints(Callback):
    """At the first step, leaves each unfinished trial the checkpoint that it goes on from, and no
    other: what Tune knows of the others is not true any more. Leaves a trial that has ended its
    last. Has to come after the snapshots, whose latest copies it looks at."""

    def __init__(self, n_kept: int, snapshots: Snapshots) -> None:
        """
        Args:
            n_kept: checkpoints that Tune keeps of a trial that runs, at least 2.
            snapshots: those of the study, which say what a restart will know.
        """
        self._n_kept = n_kept
        self._snapshots = snapshots

    def __getstate__(self) -> dict[str, Any]:
        return {"_n_kept": self._n_kept, "_snapshots": self._snapshots}

    def setup(self, *args: object, **info: object) -> None:
        self._is_done = False
        self._ended = Ended()
        # Checkpoints of ended trials, and when those were seen to have ended, in this order.
        self._spare = deque[tuple[float, _Place]]()

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: object) -> None:
        if self._is_done:
            return
        self._is_done = True
        for trial in trials:
            if not trial.is_finished() and trial.checkpoint is not None:
                self._tidy(trial)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: object) -> None:
        for trial in self._ended.look(trials):
            now = time.time()
            self._spare += ((now, place) for place in _keep_last(trial))
        self._make_room(self._snapshots.in_both)

    def on_experiment_end(self, trials: list[Trial], **info: object) -> None:
        # Without another look: Tune has by now ended those that were interrupted.
        self._make_room(self._snapshots.in_one)

    def _make_room(self, known_until: float) -> None:
        """Delete the checkpoints of trials of which a restart will know that they ended."""
        while self._spare and self._spare[0][0] < known_until:
            _, (files, path) = self._spare.popleft()
            try:
                files.delete_dir(path)
            except FileNotFoundError:
                continue  # deleted before a crash, and still in the state of then

    def _tidy(self, trial: Trial) -> None:
        storage, known = trial.storage, trial.latest_checkpoint_result
        assert storage is not None
        assert known is not None
        assert known.checkpoint is not None
        files, folder = storage.storage_filesystem, storage.trial_fs_path
        stored = sorted(
            PurePosixPath(info.path).name
            for info in files.get_file_info(FileSelector(folder, allow_not_found=True))
            if PurePosixPath(info.path).name.startswith(_PREFIX)
        )
        name = choose(PurePosixPath(known.checkpoint.path).name, stored, self._n_kept)
        _forget(trial)
        if name is not None:
            # Where it is another than Tune knew, what it reported is in its own file of reports.
            checkpoint = Checkpoint(f"{folder}/{name}", files)
            trial.on_checkpoint(type(known)(checkpoint, known.metrics))
            # The worker counts on from here.
            storage.current_checkpoint_index = int(name.removeprefix(_PREFIX))
        for other in stored:
            if other != name:
                files.delete_dir(f"{folder}/{other}")


def _keep_last(trial: Trial) -> list[_Place]:
    """Have Tune know the last checkpoint of a trial alone, so that its state has less to hold;
    returns the others, which are still there."""
    manager, last = trial.run_metadata.checkpoint_manager, trial.latest_checkpoint_result
    if manager is None or last is None or last.checkpoint is None:
        return []
    known = [result.checkpoint for result in manager.best_checkpoint_results]
    others = [c for c in known if c is not None and c.path != last.checkpoint.path]
    if others:
        _forget(trial)
        trial.on_checkpoint(last)
    return [(c.filesystem, c.path) for c in others]


def _forget(trial: Trial) -> None:
    """Have Tune know no checkpoint of a trial, and delete none."""
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
