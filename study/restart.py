"""The checkpoints of a study that goes on after its driver died.

Tune's state may be older than what is stored by then. The checkpoint that it would have a trial go
on from may have made room for later ones, and the last may have been cut off as it was written.
"""

from pathlib import PurePosixPath

from pyarrow.fs import FileSelector
from ray.tune import Callback, Checkpoint
from ray.tune.experiment import Trial

_PREFIX = "checkpoint_"


class Restart(Callback):
    """At the first step, leaves each unfinished trial the checkpoint that it goes on from, and no
    other: what Tune knows of the others is not true any more."""

    def __init__(self, n_kept: int) -> None:
        """n_kept: checkpoints that Tune keeps of a trial, at least 2."""
        self._n_kept = n_kept

    def setup(self, *args: object, **info: object) -> None:
        self._is_done = False

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: object) -> None:
        if self._is_done:
            return
        self._is_done = True
        for trial in trials:
            if not trial.is_finished() and trial.checkpoint is not None:
                self._tidy(trial)

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
        manager = trial.run_metadata.checkpoint_manager
        assert manager is not None
        trial.run_metadata.checkpoint_manager = type(manager)(manager.checkpoint_config)
        if name is not None:
            # Where it is another than Tune knew, what it reported is in its own file of reports.
            checkpoint = Checkpoint(f"{folder}/{name}", files)
            trial.on_checkpoint(type(known)(checkpoint, known.metrics))
            # The worker counts on from here.
            storage.current_checkpoint_index = int(name.removeprefix(_PREFIX))
        for other in stored:
            if other != name:
                files.delete_dir(f"{folder}/{other}")


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
