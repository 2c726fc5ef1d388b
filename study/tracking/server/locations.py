"""Where the files of runs and models are: where MLflow says, or beside a database that was moved.

Studies keep their files in `mlruns` beside their SQLite database. MLflow stores absolute paths,
which are wrong once that folder was moved or copied as a whole. Such studies can be read: a file
whose folder is gone is looked up at the same path beside the database.
"""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from study.errors import TrackingError, printable

ARTIFACTS = "mlruns"
"""MLflow's name of the folder beside a database."""
ID = re.compile(r"[0-9a-f]{32}|m-[0-9a-f]{32}")
"""Id of a run or a model."""


def database_file(tracking_uri: str) -> Path | None:
    """The resolved path of a SQLite database; None for any other server or database."""
    scheme, _, path = tracking_uri.partition("?")[0].partition(":///")
    return Path(path).resolve() if scheme == "sqlite" and path else None


def artifact_location(tracking_uri: str, name: str) -> str | None:
    """Where a new study keeps its artifacts: beside a SQLite database; None leaves it to MLflow."""
    database = database_file(tracking_uri)
    return None if database is None else str(database.parent / ARTIFACTS / name)


def local_folder(location: str) -> Path | None:
    """The local folder of an artifact location, as MLflow reads it; None if it is not local."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return None
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
        return None
    # MLflow decodes %20 in a path without a scheme, too.
    return Path(url2pathname(parts.path if parts.scheme else location))


def moved(tracking_uri: str, location: str) -> Path | None:
    """The folder to which a location was moved: the same path below ARTIFACTS beside a SQLite
    database; None if there is no such folder, or if it is the location itself."""
    database, folder = database_file(tracking_uri), local_folder(location)
    if database is None or folder is None or ".." in folder.parts:
        return None
    for at, name in enumerate(folder.parts):
        there = database.parent.joinpath(*folder.parts[at:])
        if name == ARTIFACTS and os.path.isdir(there):
            is_same = os.path.exists(folder) and os.path.samefile(folder, there)
            return None if is_same else there
    return None


def current(tracking_uri: str, location: str) -> str:
    """An artifact location, or where its folder was moved to if it is gone."""
    folder = local_folder(location)
    # os.path.exists, since Path raises an error where a folder above may not be entered.
    is_there = folder is None or os.path.exists(folder)
    return location if is_there else str(moved(tracking_uri, location) or location)


def check_not_moved(tracking_uri: str, study: str, location: str) -> None:
    """Raise TrackingError if a study was moved or copied: it can be changed only where it was
    begun. `location`: where its run's artifacts are."""
    there, database = moved(tracking_uri, location), database_file(tracking_uri)
    if there is not None and database is not None:
        begun = location.removesuffix(f"/{there.relative_to(database.parent)}")
        raise TrackingError(
            f"{study} was begun in {printable(begun)}, and only there can it be changed; in "
            f"{database.parent} it can be read"
        )
