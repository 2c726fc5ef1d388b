"""A new database that several processes open at once."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from study.tracking import database
from study.tracking.database import is_whole, make_whole

# Opens a database at a moment that it is told: "ours", or with MLflow's own client; a "reader" does
# so as soon as there is a file.
PROCESS = """
import sys, time
from pathlib import Path
from mlflow.tracking import MlflowClient
from study.tracking.client import Client

kind, folder = sys.argv[1:]
file, uri = Path(folder, "mlflow.db"), f"sqlite:///{folder}/mlflow.db"
print("ready", flush=True)
moment = float(sys.stdin.readline())
while time.time() < moment or (kind == "reader" and not file.exists()):
    time.sleep(0.0005)
api = Client(uri).api if kind == "ours" else MlflowClient(uri)
api.create_experiment(str(time.time_ns()))
"""


@pytest.mark.slow
def test_processes_that_open_a_new_database_at_once_all_use_it(tmp_path: Path) -> None:
    kinds = ["ours", "ours", "reader"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, kind, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for kind in kinds
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    moment = time.time() + 0.1
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(f"{moment}\n")
        process.stdin.flush()
    for process in processes:
        _, problem = process.communicate(timeout=300)
        assert process.returncode == 0, problem
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
