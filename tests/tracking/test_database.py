"""A new database that several processes open at once."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from study.tracking.server import database
from study.tracking.server.database import is_whole, make_whole

# Processes that open a database at one moment: "ours", or with MLflow's own client; a "reader" does
# so as soon as there is a file. They are forked, so that MLflow is imported once.
PROCESSES = """
import multiprocessing, sys, time
from pathlib import Path
from mlflow.tracking import MlflowClient
from study.tracking.server.client import Client

folder, *kinds = sys.argv[1:]
file, uri = Path(folder, "mlflow.db"), f"sqlite:///{folder}/mlflow.db"

def use(kind, moment):
    while time.time() < moment or (kind == "reader" and not file.exists()):
        time.sleep(0.0005)
    api = Client(uri).api if kind == "ours" else MlflowClient(uri)
    api.create_experiment(str(time.time_ns()))

forking, moment = multiprocessing.get_context("fork"), time.time() + 0.2
processes = [forking.Process(target=use, args=(kind, moment)) for kind in kinds]
for process in processes:
    process.start()
for process in processes:
    process.join()
sys.exit(any(process.exitcode for process in processes))
"""


@pytest.mark.slow
def test_processes_that_open_a_new_database_at_once_all_use_it(tmp_path: Path) -> None:
    kinds = ["ours", "ours", "reader"]
    done = subprocess.run(
        [sys.executable, "-c", PROCESSES, str(tmp_path), *kinds],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        names = connection.execute("SELECT name FROM experiments").fetchall()
    assert len(names) == 1 + len(kinds)  # and MLflow's default one
    # Nothing is left of how it was made.
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


@pytest.mark.slow
def test_a_database_that_was_left_unfinished_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.touch()
    os.utime(path, (0, 0))
    make_whole(path)
    assert is_whole(path)


def test_a_database_that_is_being_created_is_waited_for(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, naps = tmp_path / "mlflow.db", list[float]()
    path.touch()

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            shutil.copy(empty_database, path)

    monkeypatch.setattr(database.time, "sleep", nap)
    make_whole(path)
    assert len(naps) == 3
    assert path.read_bytes() == empty_database.read_bytes()


def test_what_is_no_database_is_said_by_mlflow(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_text("no database" * 100)
    assert is_whole(path)


def test_a_folder_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    make_whole(tmp_path / "none" / "mlflow.db")
    assert list(tmp_path.iterdir()) == []
