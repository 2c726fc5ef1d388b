"""The folder or bucket in which Tune keeps a study: whether it is there, and ours alone."""

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
    """Errors of a storage as a LaunchError that says what could not be done with a folder."""
    try:
        yield
    except OSError as error:
        raise LaunchError(
            f"{rule}, but {folder} cannot be {what}: {reason(error)}", _KEY
        ) from error


def filesystem(folder: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The file system of a folder or bucket, and the folder's path in it. Raises LaunchError if it
    is none."""
    try:
        files, path = pyarrow.fs.FileSystem.from_uri(folder)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise LaunchError(
            f"a folder or bucket must be given, but got {folder}: {error}", _KEY
        ) from error
    return files, path


def exists(folder: str) -> bool:
    """Whether a folder is there. Raises LaunchError if its storage cannot be read."""
    files, path = filesystem(folder)
    with said("it must be readable", folder, "looked for"):
        return bool(files.get_file_info(path).type != pyarrow.fs.FileType.NotFound)


def check(folder: str) -> None:
    """Whether `make_folder` could make a local folder, and files could be written there; nothing
    stays. A bucket is not tried. Raises LaunchError if not."""
    if "://" in folder:
        return
    path = Path(folder)
    with said("it must be writable", folder, "made"):
        above = next(place for place in (path, *path.parents) if place.exists())
        with tempfile.TemporaryDirectory(dir=above):
            pass


def make_folder(folder: str) -> None:
    """Make a folder unless it is there. Raises LaunchError if it cannot be made."""
    files, path = filesystem(folder)
    with said("it must be writable", folder, "made"):
        files.create_dir(path)


@contextmanager
def new_folder(folder: str) -> Iterator[None]:
    """Make the folder of a study that begins. It is deleted again if the study fails to.

    Of two commands that make one local folder at the same time one alone succeeds. Buckets have no
    such guard, so nothing is deleted there: it may be the other command's.

    Raises:
        NameTakenError: if it is there.
        LaunchError: if it cannot be made.
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
    """Delete a folder, if it is there, with all that is in it. Raises LaunchError if that cannot
    be done."""
    files, path = filesystem(folder)
    with said("it must be writable", folder, "deleted"):
        if "://" not in folder and Path(folder).is_symlink():
            raise OSError("it is a link")
        if files.get_file_info(path).type != pyarrow.fs.FileType.NotFound:
            files.delete_dir(path)


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
    with said("it must be writable", folder, "locked"):
        file = (Path(folder) / _LOCK_FILE).open("a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LaunchError(f"a study must not be running, but the one in {folder} is") from None
        yield
