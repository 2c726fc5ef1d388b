"""The folder or bucket in which Tune keeps a study: whether it is there, and ours alone."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow
import pyarrow.fs

from study.errors import LaunchError

_LOCK_FILE = "study.lock"


def filesystem(folder: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The file system of a folder or bucket, and the folder's path in it."""
    try:
        files, path = pyarrow.fs.FileSystem.from_uri(folder)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise LaunchError(
            f"--storage-path: a folder or bucket must be given, but got {folder}: {error}"
        ) from error
    return files, path


def exists(folder: str) -> bool:
    """Whether a folder is there. Raises LaunchError if its storage cannot be read."""
    files, path = filesystem(folder)
    try:
        return bool(files.get_file_info(path).type != pyarrow.fs.FileType.NotFound)
    except OSError as error:
        raise LaunchError(
            f"--storage-path: it must be readable, but {folder} cannot be looked for: {error}"
        ) from error


def make_folder(folder: str) -> None:
    """Make a folder unless it is there. Raises LaunchError if it cannot be made."""
    files, path = filesystem(folder)
    try:
        files.create_dir(path)
    except OSError as error:
        raise LaunchError(
            f"--storage-path: it must be writable, but {folder} cannot be made: {error}"
        ) from error


@contextmanager
def locked(folder: str) -> Iterator[None]:
    """Keep a second process from running the same study, where its storage is a local folder.

    The lock goes with the process, however it ends.

    Raises:
        LaunchError: if another process runs it, or there cannot be a lock.
    """
    if "://" in folder:
        yield
        return
    try:
        file = (Path(folder) / _LOCK_FILE).open("w")
    except OSError as error:
        raise LaunchError(
            f"--storage-path: it must be writable, but {folder} cannot be locked: {error}"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LaunchError(
                f"--resume: a study must not be running, but the one in {folder} is"
            ) from None
        yield
