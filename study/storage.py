"""The folder or bucket in which Tune keeps a study: whether it is there, whole, and ours alone."""

import fcntl
import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow
import pyarrow.fs

from study.errors import LaunchError

_LOCK_FILE = "study.lock"
_STATE_PREFIX = "experiment_state-"


def absolute(storage_path: str) -> str:
    """A folder as an absolute path; the address of a bucket as it is."""
    return storage_path if "://" in storage_path else str(Path(storage_path).resolve())


def _filesystem(folder: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The file system of a folder or bucket, and the folder's path in it."""
    try:
        filesystem, path = pyarrow.fs.FileSystem.from_uri(folder)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise LaunchError(
            f"--storage-path: a folder or bucket must be given, but got {folder}: {error}"
        ) from error
    return filesystem, path


def exists(folder: str) -> bool:
    """Whether a folder is there. Raises LaunchError if it is none that can be looked for."""
    filesystem, path = _filesystem(folder)
    return bool(filesystem.get_file_info(path).type != pyarrow.fs.FileType.NotFound)


def make_folder(folder: str) -> None:
    """Make a folder unless it is there. Raises LaunchError if it cannot be made."""
    filesystem, path = _filesystem(folder)
    try:
        filesystem.create_dir(path)
    except OSError as error:
        raise LaunchError(
            f"--storage-path: it must be writable, but {folder} cannot be made: {error}"
        ) from error


@contextmanager
def locked(folder: str) -> Iterator[None]:
    """Keep a second process from running the same study, where its storage is a local folder.

    The lock goes with the process, however it ends.

    Raises:
        LaunchError: if another process runs it.
    """
    if "://" in folder:
        yield
        return
    with (Path(folder) / _LOCK_FILE).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LaunchError(
                f"--resume: a study must not be running, but the one in {folder} is"
            ) from None
        yield


def has_snapshot(folder: str) -> bool:
    """Whether Tune has a snapshot of the experiment to go on from.

    Raises:
        LaunchError: if the newest one is torn, from which Tune would silently start over.
    """
    filesystem, path = _filesystem(folder)
    selector = pyarrow.fs.FileSelector(path, allow_not_found=True)
    found = {Path(info.path).name: info.path for info in filesystem.get_file_info(selector)}
    sessions = sorted(
        name.removeprefix(_STATE_PREFIX).removesuffix(".json")
        for name in found
        if name.startswith(_STATE_PREFIX)
    )
    if not sessions:
        return False
    # A snapshot is three files of one session: trials, the search's place, the sampler.
    for name, read in (
        (f"{_STATE_PREFIX}{sessions[-1]}.json", json.loads),
        (f"search_gen_state-{sessions[-1]}.json", pickle.loads),  # its name notwithstanding
        (f"searcher-state-{sessions[-1]}.pkl", pickle.loads),
    ):
        try:
            with filesystem.open_input_stream(found[name]) as file:
                read(file.readall())
        except (KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
            raise LaunchError(
                f"--resume: the state of the study must be whole, but {name} in {folder} is "
                "missing or torn; bring it back from a copy, or start a new study"
            ) from error
    return True
