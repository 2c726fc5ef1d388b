"""Creation of a SQLite database for MLflow, once and completely, even if many processes open it.

MLflow creates the tables of a new database in a hundred small steps, with no lock. A process that
opens the file in the middle of them starts over, and breaks what both of them do.
"""

import os
import sqlite3
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock
from mlflow.tracking import MlflowClient

# A process that creates the tables writes many times a second: a file that was not written for this
# long was left unfinished, or is empty.
_IDLE_SECONDS = 5.0
_POLL_SECONDS = 0.1


def make_whole(database: Path) -> None:
    """Create a database, unless it is there with all of its tables; wait for one that another
    process of MLflow is creating. Raises OSError, sqlite3.Error or MlflowException if it cannot be
    created."""
    # MLflow says what is wrong with an address in a folder that does not exist.
    if is_whole(database) or not database.parent.is_dir():
        return
    lock = database.with_name(f".{database.name}.lock")
    with FileLock(lock):
        try:
            if not database.exists():
                _create(database)
            while not is_whole(database) and _is_being_written(database):
                time.sleep(_POLL_SECONDS)
            if not is_whole(database):
                MlflowClient(f"sqlite:///{database}").search_experiments(max_results=1)
        finally:
            lock.unlink(missing_ok=True)


def is_whole(database: Path) -> bool:
    """Whether a database has what MLflow writes last, its default experiment. True also if the file
    cannot be read as a database: then MLflow says why."""
    if not database.exists():
        return False
    try:
        return _has_row(database, "SELECT 1 FROM experiments")
    except sqlite3.Error as error:
        return "no such table" not in str(error)


def is_of_others(database: Path) -> bool:
    """Whether a database has tables, but not those of MLflow; MLflow would add its own to them."""
    # Does not wait for a locked one: whatever reads it next waits, and reports the lock.
    has_row = partial(_has_row, database, timeout=0.0)
    try:
        if has_row("SELECT 1 FROM sqlite_master WHERE type = 'table'"):
            # MLflow creates this table first.
            has_row("SELECT artifact_location, lifecycle_stage FROM experiments")
    except sqlite3.Error as error:
        return str(error).startswith(("no such table", "no such column"))
    return False


def _has_row(database: Path, query: str, timeout: float = 5.0) -> bool:
    uri = f"{database.as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, timeout=timeout, uri=True)) as connection:
        return connection.execute(query).fetchone() is not None


def _create(database: Path) -> None:
    """Create a database under another name, and move it to its place in one step."""
    with TemporaryDirectory(prefix=f".{database.name}-", dir=database.parent) as folder:
        made, whole = Path(folder, "made.db"), Path(folder, "whole.db")
        MlflowClient(f"sqlite:///{made}").search_experiments(max_results=1)
        # MLflow keeps its connection to the file that it made.
        with closing(sqlite3.connect(made)) as source, closing(sqlite3.connect(whole)) as target:
            source.backup(target)
        try:
            os.link(whole, database)
        except FileExistsError:
            pass  # A process of MLflow's own, which takes no lock, has begun to create it.
        except OSError:  # a file system without hard links
            whole.rename(database)


def _is_being_written(database: Path) -> bool:
    return time.time() - database.stat().st_mtime < _IDLE_SECONDS
