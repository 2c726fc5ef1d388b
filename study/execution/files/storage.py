"""The folder or bucket in which Tune keeps a study: made, checked, locked and deleted."""

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow
import pyarrow.fs

from study.errors import LaunchError, NameTakenError, reason

_KEY = "storage_path"
_LOCK_FILE = "study.lock"


@contextmanager
def said(rule: str, folder: str, what: str) -> Iterator[None]:
    """Turn an OSError into a LaunchError that names the folder and what cannot be done with it."""
    try:
        yield
    except OSError as error:
        raise LaunchError(
            f"{rule}, but {folder} cannot be {what}: {reason(error)}", _KEY
        ) from error


def filesystem(folder: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """(file system, path in it) of a folder or bucket. Raises LaunchError if it is invalid."""
    try:
        files, path = pyarrow.fs.FileSystem.from_uri(folder)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise LaunchError(
            f"a folder or bucket must be given, but got {folder}: {error}", _KEY
        ) from error
    return files, path


def exists(folder: str) -> bool:
    """Whether a folder exists. Raises LaunchError if its storage cannot be read."""
    files, path = filesystem(folder)
    with said("it must be readable", folder, "looked for"):
        return bool(files.get_file_info(path).type != pyarrow.fs.FileType.NotFound)


def check(folder: str) -> None:
    """Raise LaunchError if a local folder could not be made or written to. Leaves nothing behind;
    buckets are not checked."""
    if "://" in folder:
        return
    path = Path(folder)
    with said("it must be writable", folder, "made"):
        above = next(place for place in (path, *path.parents) if place.exists())
        with tempfile.TemporaryDirectory(dir=above):
            pass


def make_folder(folder: str) -> None:
    """Make a folder unless it exists. Raises LaunchError if it cannot be made."""
    files, path = filesystem(folder)
    with said("it must be writable", folder, "made"):
        files.create_dir(path)


@contextmanager
def new_folder(folder: str) -> Iterator[None]:
    """Make the folder of a new study, and delete it if the context raises.

    If two commands make the same local folder, only one succeeds. Buckets have no such guard, so
    nothing is deleted there: it may be the other command's.

    Raises:
        NameTakenError: if the local folder exists.
        LaunchError: if the folder cannot be made.
    """
    if "://" in folder:
        make_folder(folder)
        yield
        return
    with said("it must be writable", folder, "made"):
        try:
            Path(folder).mkdir(parents=True)
        except FileExistsError as error:
            raise NameTakenError.of(Path(folder).name) from error
    try:
        yield
    except BaseException:
        delete(folder)
        raise


def delete(folder: str) -> None:
    """Delete a folder and its content, if it exists. Raises LaunchError if it cannot be deleted."""
    files, path = filesystem(folder)
    with said("it must be writable", folder, "deleted"):
        if "://" not in folder and Path(folder).is_symlink():
            raise OSError("it is a link")
        if files.get_file_info(path).type != pyarrow.fs.FileType.NotFound:
            files.delete_dir(path)


@contextmanager
def locked(folder: str) -> Iterator[None]:
    """Lock a study against a second process, if its storage is a local folder; a process that dies
    releases it. Raises LaunchError if another process runs the study, or it cannot be locked."""
    if "://" in folder:
        yield
        return
    with said("it must be writable", folder, "locked"):
        file = (Path(folder) / _LOCK_FILE).open("a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LaunchError(f"a study must not be running, but the one in {folder} is") from None
        yield
