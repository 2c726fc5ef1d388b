"""Studies that were moved with their database: where their files are now.

MLflow keeps absolute paths, and has no call that changes them. So a database that was copied with
its `mlruns` would still read from the folder that it was copied from, and write there. Studies keep
their artifacts beside the database, in `mlruns`, so what is wrong can be seen: a study's location
is another folder, but its own run has a folder beside the database. Then every path of the study
that lay below the old place becomes the same path below the new one, by SQL in MLflow's tables.

Left as they are: locations in buckets and in other places; a folder that has two names; and a study
that is marked as running, as it may be running elsewhere, on a disk that machines share, until it
is resumed here.
"""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from study.metrics.reports import TrialStatus
from study.tracking import tags
from study.tracking.settings import DATA_ROOT, dataset_digest

ARTIFACTS = "mlruns"
"""Folder beside a database; MLflow's own name."""
PATIENCE = 30.0
"""How long another process may hold the database, seconds."""
# Columns with the location of artifacts, of the rows of an experiment.
_OF_EXPERIMENT = "experiment_id = :experiment"
_LOCATIONS = (
    ("experiments", "artifact_location", _OF_EXPERIMENT),
    ("runs", "artifact_uri", _OF_EXPERIMENT),
    ("logged_models", "artifact_location", _OF_EXPERIMENT),
    *(
        ("model_versions", column, f"run_id IN (SELECT run_uuid FROM runs WHERE {_OF_EXPERIMENT})")
        for column in ("source", "storage_location")
    ),
)


def database_file(tracking_uri: str) -> Path | None:
    """The file of a SQLite database, a resolved path; None of any other server or database."""
    scheme, _, path = tracking_uri.partition("?")[0].partition(":///")
    return Path(path).resolve() if scheme == "sqlite" and path else None


def artifact_location(tracking_uri: str, name: str) -> str | None:
    """Where a new study keeps its artifacts: beside a SQLite database; None leaves it to MLflow."""
    database = database_file(tracking_uri)
    return None if database is None else str(database.parent / ARTIFACTS / name)


@dataclass(frozen=True)
class Moved:
    """A study whose files are beside the database, and that the database looks for elsewhere.

    Attributes:
        old: folder in which the database says that they are below `mlruns`.
        new: the database's folder.
        is_running: whether it is marked so.
    """

    name: str
    experiment_id: int
    run_id: str
    old: Path
    new: Path
    is_running: bool

    def moved(self, path: str) -> str:
        """A path that lay below the old folder, in the new one if it is there; else as it is."""
        if not Path(path).is_relative_to(self.old):
            return path
        there = self.new / Path(path).relative_to(self.old)
        return str(there) if there.exists() else path


def relocate(database: Path, resumed: str | None = None) -> tuple[list[Moved], list[Moved]]:
    """Make the paths of all moved studies those of now.

    Args:
        database: a SQLite file of MLflow, a resolved path.
        resumed: name of a study that is to be resumed: it is moved though it is marked as running.

    Returns:
        The studies whose paths were changed, and those that may be running elsewhere.

    Raises:
        sqlite3.Error: if the database cannot be read or, where a study was moved, written. Nothing
            is changed then.
    """
    uri = f"file:{quote(str(database))}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=PATIENCE)) as connection:
        if not any(_moved(connection, database.parent)):
            return [], []
        # As it stands once nobody else writes: another process may have been here first.
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            moved = list(_moved(connection, database.parent))
            left = [study for study in moved if study.is_running and study.name != resumed]
            changed = [study for study in moved if study not in left]
            for study in changed:
                _change(connection, study)
    return changed, left


def _moved(connection: sqlite3.Connection, folder: Path) -> Iterator[Moved]:
    has_tables = "SELECT 1 FROM sqlite_master WHERE name = 'experiments'"
    if connection.execute(has_tables).fetchone() is None:
        return  # MLflow has not laid it out yet
    sql = "SELECT experiment_id, name, artifact_location FROM experiments"
    for experiment, name, location in connection.execute(sql).fetchall():
        there = Path(location or "")
        here = folder / ARTIFACTS / there.name
        if there == here or there.parent.name != ARTIFACTS or not there.is_absolute():
            continue
        sql = (
            "SELECT run_uuid, state.value FROM runs JOIN tags kind USING (run_uuid) "
            "JOIN tags state USING (run_uuid) WHERE experiment_id = ? AND kind.key = ? "
            "AND kind.value = ? AND state.key = ?"
        )
        for run_id, state in connection.execute(
            sql, [experiment, tags.KIND, tags.STUDY, tags.STATE]
        ).fetchall():
            if (here / run_id).is_dir() and not _is_same(there, here):
                running = state == TrialStatus.RUNNING
                yield Moved(name, experiment, run_id, there.parents[1], folder, running)


def _is_same(there: Path, here: Path) -> bool:
    """Whether two names mean one folder, by way of a link or of another mount."""
    try:
        return os.path.samefile(there, here)
    except OSError:
        return False


def _change(connection: sqlite3.Connection, study: Moved) -> None:
    """Change every path of a study, within the caller's transaction."""
    old, new = f"{study.old / ARTIFACTS}/", f"{study.new / ARTIFACTS}/"
    for table, column, condition in _LOCATIONS:
        connection.execute(
            f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "
            f"WHERE substr({column}, 1, length(:old)) = :old AND {condition}",
            {"old": old, "new": new, "experiment": study.experiment_id},
        )
    for key, change in (
        (tags.STORAGE, study.moved),
        (tags.SOURCE, study.moved),
        (tags.CONFIG, lambda text: _with_moved_data(text, study, "data")),
    ):
        where = "WHERE run_uuid = ? AND key = ?"
        sql = f"SELECT value FROM tags {where}"
        for (value,) in connection.execute(sql, [study.run_id, key]).fetchall():
            sql = f"UPDATE tags SET value = ? {where}"
            connection.execute(sql, [change(value), study.run_id, key])
    _change_data(connection, study)


def _change_data(connection: sqlite3.Connection, study: Moved) -> None:
    """The folder of the data, where each trial names it: as a parameter, which MLflow lets nobody
    change, and as a data set."""
    of_runs = f"run_uuid IN (SELECT run_uuid FROM runs WHERE {_OF_EXPERIMENT}) AND key = :key"
    given = {"experiment": study.experiment_id, "key": DATA_ROOT}
    sql = f"SELECT DISTINCT value FROM params WHERE {of_runs}"
    for (root,) in connection.execute(sql, given).fetchall():
        connection.execute(
            f"UPDATE params SET value = :new WHERE {of_runs} AND value = :old",
            {**given, "old": root, "new": study.moved(root)},
        )
    sql = "SELECT dataset_uuid, dataset_source FROM datasets WHERE experiment_id = ?"
    for dataset, source in connection.execute(sql, [study.experiment_id]).fetchall():
        moved = _with_moved_data(source, study)
        if moved != source:
            connection.execute(
                "UPDATE datasets SET dataset_source = ?, digest = ? WHERE dataset_uuid = ?",
                [moved, dataset_digest(moved), dataset],
            )


def _with_moved_data(text: str, study: Moved, section: str | None = None) -> str:
    """Settings as JSON with the folder of the data moved: their "root", or that of a section. What
    has none stays as it is: users may put runs beside ours."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return text
    settings = content.get(section) if section and isinstance(content, dict) else content
    if not isinstance(settings, dict) or not isinstance(settings.get("root"), str):
        return text
    settings["root"] = study.moved(settings["root"])
    return json.dumps(content, sort_keys=section is None)
