"""Takes snapshots of Tune's state of a study, and restores the newest whole one.

Tune overwrites the files of its state and copies them to the storage one by one. A crash in between
leaves torn files, or files of different ages, and from a torn file Tune silently starts over. So
after each write of Tune's state all its files are copied into an archive with checksums. There are
two archives, written in turn, so one is always whole.
"""

import io
import json
import math
import pickle
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile

from pyarrow.fs import FileSelector, FileSystem
from ray.tune.experiment import Trial

from study.errors import LaunchError
from study.execution.callback import StudyCallback
from study.execution.files.storage import said

_FOLDER = "snapshots"
_ABOUT = "about.json"
_STATE_PREFIX = "experiment_state-"
# Written once, when a study is started.
_TUNER = "tuner.pkl"
# Files that Tune needs whole -> how each is read. {} stands for the session.
_READERS: dict[str, Callable[[bytes], Any]] = {
    _STATE_PREFIX + "{}.json": json.loads,
    "search_gen_state-{}.json": pickle.loads,  # its name notwithstanding
    "searcher-state-{}.pkl": pickle.loads,
    _TUNER: pickle.loads,
}
# Largest share of the time to spend on copies.
_SHARE = 1 / 20
# Time between checks for a new state: there are many steps a second, but a state every few seconds.
_LOOK_SECONDS = 1.0


@dataclass(eq=False)
class Snapshots(StudyCallback):
    """Keeps two copies of Tune's state. Raises LaunchError in the driver if one cannot be written.

    Attributes:
        in_both: both copies contain all that Tune knew at this time, in seconds since 1970-01-01
            UTC by the clock of the driver's files; -inf until this driver has made two copies.
    """

    def setup(self, *args: Any, **info: Any) -> None:
        self._slot: int | None = None  # where the next copy goes
        self._copied: tuple[str, int] | None = None
        self._next = 0.0
        self._tuner: bytes | None = None
        self.in_both = self._in_one = -math.inf

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if trials and time.monotonic() >= self._next:
            self._next = time.monotonic() + _LOOK_SECONDS
            self._copy(trials)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        if trials:
            self._copy(trials)

    def _copy(self, trials: list[Trial]) -> None:
        storage = trials[0].storage
        assert storage is not None
        staging = Path(storage.experiment_driver_staging_path)
        states = sorted(staging.glob(f"{_STATE_PREFIX}*.json"))
        if not states:
            return
        newest = states[-1]
        version = (newest.name, newest.stat().st_mtime_ns)
        if version == self._copied:
            return
        start = time.monotonic()
        session = _session(newest.name)
        files, folder = storage.storage_filesystem, PurePosixPath(storage.experiment_fs_path)
        with said("it must be writable", str(folder), "written"):
            if self._tuner is None:
                self._tuner = _read_tuner(staging, files, folder)
            content = io.BytesIO()
            with ZipFile(content, "w", ZIP_DEFLATED, compresslevel=1) as copy:
                about = {"time": time.time(), "n_trials": len(trials)}
                copy.writestr(_ABOUT, json.dumps(about))
                copy.writestr(_TUNER, self._tuner)
                for path in sorted(staging.glob(f"*{session}*")):
                    copy.writestr(path.name, path.read_bytes())
            files.create_dir(str(folder / _FOLDER))
            if self._slot is None:
                copies, _ = _copies(files, str(folder))
                self._slot = 1 if copies and copies[-1].name == "0.zip" else 0
            target = folder / _FOLDER / f"{self._slot}.zip"
            with files.open_output_stream(str(target)) as stream:
                stream.write(content.getbuffer())
        self._slot = 1 - self._slot
        self._copied = version
        self.in_both, self._in_one = self._in_one, version[1] / 1e9
        took = time.monotonic() - start
        self._next = max(self._next, start + took / _SHARE)


def _read_tuner(staging: Path, files: FileSystem, folder: PurePosixPath) -> bytes:
    # In a resumed study the file is in the driver's folder too. From there a thread of Tune
    # overwrites the one in the storage, which is torn meanwhile.
    if (staging / _TUNER).exists():
        return (staging / _TUNER).read_bytes()
    return _content(files, str(folder / _TUNER))


def restore(folder: str, is_needed: bool) -> list[str] | None:
    """Write the newest whole copy of a study's state to where Tune reads it.

    Args:
        is_needed: whether trials have ended, in which case the study must not start over.

    Returns:
        Lines for the user: which files were torn, and what that costs. None if there is no state,
        since the study ended before anything was trained.

    Raises:
        LaunchError: if something was trained but neither the state nor a copy is whole, if the
            storage cannot be read or written, or if the state is of another version of the project.
    """
    try:
        with said("it must be readable and writable", folder, "restored"):
            return _restore(folder, is_needed)
    except (ImportError, AttributeError) as error:
        raise LaunchError(
            f"the state of the study in {folder} must be of this version of the project, "
            f"but: {error}"
        ) from error


def _restore(folder: str, is_needed: bool) -> list[str] | None:
    files, path = FileSystem.from_uri(folder)
    there = _names(files, path)
    copies, torn = _copies(files, path)
    torn_in_place = _torn(_newest(files, path, there))
    torn += [f"{folder}/{name}" for name in torn_in_place]
    if not copies:
        if not torn_in_place:
            return []
        if not is_needed and not _has_checkpoints(files, path):
            return None
        raise LaunchError(
            f"the state of the study must be whole, but {torn[0]} is missing or torn, and there is "
            "no copy; bring it back from one of yours, or start a new study"
        )
    copy = copies[-1]
    for name in there:
        files.delete_file(f"{path}/{name}")
    for name, content in copy.files.items():
        with files.open_output_stream(f"{path}/{name}") as stream:
            stream.write(content)
    if not torn:
        return []
    made = f"{datetime.fromtimestamp(copy.time):%H:%M:%S}"
    return [
        *(f"{name} is missing or torn" for name in torn),
        f"going on from the copy of {made}, with {copy.n_trials} trials; what came after it is "
        "trained again",
    ]


@dataclass(frozen=True)
class _Copy:
    """A whole copy, made at `time`, in seconds since 1970-01-01 UTC; `files`: name -> content."""

    name: str
    time: float
    n_trials: int
    files: dict[str, bytes]


def _copies(files: FileSystem, folder: str) -> tuple[list[_Copy], list[str]]:
    """The whole copies of a study, oldest first, and the paths of torn ones."""
    whole, torn = [], []
    for info in files.get_file_info(FileSelector(f"{folder}/{_FOLDER}", allow_not_found=True)):
        try:
            with ZipFile(io.BytesIO(_content(files, info.path))) as copy:
                contents = {name: copy.read(name) for name in copy.namelist()}
            about = json.loads(contents.pop(_ABOUT))
        except (BadZipFile, EOFError, KeyError, ValueError, zlib.error):
            torn.append(info.path)
            continue
        # Files may have been torn before they were copied.
        if _torn(contents):
            torn.append(info.path)
        else:
            name = PurePosixPath(info.path).name
            whole.append(_Copy(name, about["time"], about["n_trials"], contents))
    return sorted(whole, key=lambda copy: copy.time), torn


def _names(files: FileSystem, folder: str) -> list[str]:
    """Names of the files that make up Tune's state of a study, of all sessions."""
    infos = files.get_file_info(FileSelector(folder, allow_not_found=True))
    names = (PurePosixPath(info.path).name for info in infos)
    prefixes = ("callback-states-", *(pattern.partition("{")[0] for pattern in _READERS))
    return sorted(name for name in names if name.startswith(prefixes))


def _newest(files: FileSystem, folder: str, there: list[str]) -> dict[str, bytes]:
    """The state of the newest session: name -> content."""
    sessions = [_session(name) for name in there if name.startswith(_STATE_PREFIX)]
    return {
        name: _content(files, f"{folder}/{name}")
        for name in there
        if sessions and (name == _TUNER or sessions[-1] in name)
    }


def _session(name: str) -> str:
    """The session in the name of an experiment state file."""
    return name.removeprefix(_STATE_PREFIX).removesuffix(".json")


def _torn(state: Mapping[str, bytes]) -> list[str]:
    """Names of the torn or missing files in the state of one session."""
    session = next((_session(name) for name in state if name.startswith(_STATE_PREFIX)), None)
    if session is None:
        return [f"{_STATE_PREFIX}*.json"]
    torn = []
    for name, read in ((pattern.format(session), read) for pattern, read in _READERS.items()):
        try:
            read(state[name])
        except (ValueError, EOFError, LookupError, pickle.UnpicklingError):
            torn.append(name)
    return torn


def _content(files: FileSystem, path: str) -> bytes:
    with files.open_input_stream(path) as file:
        return bytes(file.readall())


def _has_checkpoints(files: FileSystem, folder: str) -> bool:
    selector = FileSelector(folder, recursive=True, allow_not_found=True)
    return any("/checkpoint_" in info.path for info in files.get_file_info(selector))
