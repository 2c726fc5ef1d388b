"""The files of runs and models: the only place where they are read and written, and the digests by
which changes are found.

MLflow says where the files are, and its database may come from anybody. Their address decides which
files of this machine are read, and which host gets the user's password. See `allowed`.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import SplitResult, urlsplit

import mlflow.artifacts
from mlflow.entities import LoggedModel, Run

from study.errors import LocationError, printable
from study.tracking.server.client import Client
from study.tracking.server.locations import ID, current, local_folder

# MLflow's name of the folder of files, within the folder of a run or model.
_FILES = "artifacts"
_SERVER = ("http", "https")
_OF_SERVER = "mlflow-artifacts"
# MLflow's environment variable for the address of files, its server's --default-artifact-root.
_NAMED = "MLFLOW_DEFAULT_ARTIFACT_ROOT"


def allowed(tracking_uri: str, owner: str, location: str | None) -> str:
    """The address of the files of a run or model, which is one of these:

    * a local folder that MLflow makes for a run or model, `.../ID/artifacts`, after links are
      followed: so no other files of this machine are read, copied or overwritten. An id is random,
      so that nobody can name the folder of a run that they have not seen;
    * the tracking server itself;
    * an address below the one that the user names in MLFLOW_DEFAULT_ARTIFACT_ROOT: a bucket.

    Args:
        owner: id of the run or model.
        location: where its files are, as MLflow says; None if it says nothing.

    Raises:
        LocationError: for any other location. Nothing was read, and no host was asked.
    """
    place = current(tracking_uri, location or "")
    folder = local_folder(place) if location else None
    if folder is None:
        if _is_of(tracking_uri, place) or _is_named(place):
            return place
    elif "\0" not in str(folder):  # which is no path
        real = Path(os.path.realpath(folder))
        if real.name == _FILES and ID.fullmatch(real.parent.name):
            return real.as_uri()
    what = "model" if owner.startswith("m-") else "run"
    raise LocationError(
        f"the files of {what} {printable(owner)} must be {_rule(tracking_uri, place)}, but MLflow "
        f"says that they are in {printable(location or 'no place')}"
    )


def _is_of(tracking_uri: str, place: str) -> bool:
    """Whether a place is served by the tracking server."""
    server, parts = _split(tracking_uri), _split(place)
    if server is None or parts is None or server.scheme not in _SERVER:
        return False
    if parts.scheme == _OF_SERVER:
        return parts.netloc in ("", server.netloc)
    return (parts.scheme, parts.netloc) == (server.scheme, server.netloc)


def _is_named(place: str) -> bool:
    """Whether a place is below the address that the user names."""
    named, parts = _split(os.environ.get(_NAMED, "")), _split(place)
    if named is None or parts is None or not named.netloc:
        return False
    above = PurePosixPath(named.path or "/")
    return (
        (parts.scheme, parts.netloc) == (named.scheme, named.netloc)
        and ".." not in parts.path.split("/")
        and PurePosixPath(parts.path).is_relative_to(above)
    )


def _split(address: str) -> SplitResult | None:
    """The parts of an address; None if it cannot be read as one."""
    try:
        return urlsplit(address)
    except ValueError:
        return None


def _rule(tracking_uri: str, place: str) -> str:
    """Where files must be, for a message."""
    if place.startswith(f"{_OF_SERVER}:") and not tracking_uri.startswith(_SERVER):
        return "read through the server that keeps them, such as http://localhost:5000"
    return f"in a folder that MLflow made, on the tracking server, or below {_NAMED}"


def place_of(client: Client, run: Run) -> str:
    """The address of the files of a run. Raises LocationError as `allowed` does."""
    return allowed(client.tracking_uri, run.info.run_id, run.info.artifact_uri)


def names(client: Client, place: str) -> set[str]:
    """The names of the files of a run, at the address from `place_of`."""
    found = client.call(mlflow.artifacts.list_artifacts, place, tracking_uri=client.tracking_uri)
    return {PurePosixPath(file.path).name for file in found}


def content(client: Client, place: str, name: str) -> bytes:
    """The content of a file of a run, at the address from `place_of`."""
    uri = client.tracking_uri
    with tempfile.TemporaryDirectory() as folder:
        download = mlflow.artifacts.download_artifacts
        path = client.call(download, f"{place}/{name}", dst_path=folder, tracking_uri=uri)
        return client.call(Path(path).read_bytes)


def log_text(client: Client, run: Run, text: str, name: str) -> None:
    """Write a text as a file of a run."""
    place_of(client, run)
    client.call(client.api.log_text, run.info.run_id, text, name)


def log_file(client: Client, run: Run, path: Path) -> None:
    """Copy a file to the files of a run."""
    place_of(client, run)
    client.call(client.api.log_artifact, run.info.run_id, str(path))


def log_model(client: Client, model: LoggedModel, folder: Path) -> Path | None:
    """Copy the files of a folder to a model. Returns the model's folder if it is local."""
    place = allowed(client.tracking_uri, model.model_id, model.artifact_location)
    client.call(client.api.log_model_artifacts, model.model_id, str(folder))
    return local_folder(place)


def fetch_model(client: Client, model_id: str, folder: Path) -> Path:
    """Copy a model into a folder; returns its path there. Raises ValueError if its files are gone
    or there is a link among them; only a store that is a local folder shows links."""
    model = client.call(client.api.get_logged_model, model_id)
    there = local_folder(current(client.tracking_uri, model.artifact_location))
    if there is not None and os.path.islink(there):
        raise ValueError(f"model: {there} must be a folder of its own, but is a link")
    place = allowed(client.tracking_uri, model_id, model.artifact_location)
    if there is not None:
        if not there.is_dir():
            raise ValueError(f"model: {there} is not there")
        for problem in irregular(there):
            raise ValueError(f"model: {problem}")
    return Path(
        client.call(
            mlflow.artifacts.download_artifacts,
            artifact_uri=place,
            dst_path=str(folder),
            tracking_uri=client.tracking_uri,
        )
    )


def manifest(folder: Path) -> dict[str, str]:
    """Path below the folder, with slashes -> SHA-256 in hex, sorted by path. Raises ValueError for
    anything that `irregular` reports."""
    for problem in irregular(folder):
        raise ValueError(problem)
    paths = (path for path in folder.rglob("*") if path.is_file())
    return dict(sorted((path.relative_to(folder).as_posix(), sha256_of(path)) for path in paths))


def condensed(digests: Mapping[str, str], folders: Collection[str]) -> dict[str, str]:
    """A manifest in which one digest stands for all files below each of the folders: SHA-256 of the
    JSON of that part of the manifest. Folders are paths that end with a slash."""
    short = {name: digest for name, digest in digests.items() if not name.startswith((*folders,))}
    for folder in folders:
        if part := {name: digests[name] for name in sorted(digests) if name.startswith(folder)}:
            short[folder] = hashlib.sha256(json.dumps(part).encode()).hexdigest()
    return short


def irregular(folder: Path) -> Iterator[str]:
    """Yield a sentence for each entry below a folder that a logged model cannot contain: links,
    which are not followed, special files, folders without files, compiled code."""
    for at, folders, files in os.walk(folder):
        where = Path(at).relative_to(folder)
        for name in sorted([*folders, *files]):
            path = Path(at) / name
            shown = (where / name).as_posix()
            if path.is_symlink():
                yield f"{shown} must be a file of its own, but is a link"
            elif not path.is_dir() and not path.is_file():
                yield f"{shown} must be a file, but is none"
            elif name == "__pycache__":
                yield f"{shown} must not be there: it may hide other code than that beside it"
        if not folders and not files and where != Path():
            yield f"{where.as_posix()} must have files, but is empty"


def differences(folder: Path, expected: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each file, or each folder that the manifest condenses, that is missing,
    extra or changed compared with the manifest."""
    there = condensed(manifest(folder), [name for name in expected if name.endswith("/")])
    for name in sorted(there.keys() | expected.keys()):
        if name not in there:
            yield f"{name} is missing"
        elif name not in expected:
            yield f"{name} must not be there: the model was logged without it"
        elif there[name] != expected[name]:
            kind = "folder" if name.endswith("/") else "file"
            yield f"{name} is not the {kind} that was logged"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
