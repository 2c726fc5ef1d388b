"""A study whose folder was copied elsewhere, with the first folder gone: everything works in the
copy, and nothing is looked for, or put, where it came from."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from study import report, verify
from study.tracking.client import Client
from study.tracking.records import Records
from tests.support.launched import Books


def copied(folder: Path, copy: Path) -> Path:
    """A copy of a folder, which is then out of the way; where it was."""
    shutil.copytree(folder, copy)
    folder.rename(folder.with_name("gone"))
    return folder


def contents(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*")}


@pytest.fixture
def moved(finished: Path, tmp_path: Path) -> Path:
    """A finished study at its second place, as nobody has opened it there."""
    shutil.copytree(finished, tmp_path / "first")
    Client(f"sqlite:///{tmp_path}/first/mlflow.db").relocate()
    copied(tmp_path / "first", tmp_path / "second" / "copy")
    return tmp_path / "second" / "copy"


def locations(folder: Path) -> set[str]:
    """Of all artifacts that MLflow has."""
    books = Books(folder)
    return {
        str(value)
        for table, column in (
            ("experiments", "artifact_location"), ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
        )
        for (value,) in books.query(f"SELECT {column} FROM {table} WHERE experiment_id > 0")
    }  # fmt: skip


def test_report_page_verify_and_load_work_where_a_study_was_copied_to(
    moved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = moved.parents[1] / "first"
    before = contents(first.with_name("gone"))
    monkeypatch.chdir(moved)
    for arguments in (["tiny", "--html", "page.html"], ["--all", "--format", "csv"]):
        done = CliRunner().invoke(report.app, arguments)
        assert done.exit_code == 0, done.output
    assert (moved / "page.html").stat().st_size > 100_000
    assert len(report.load("tiny")) >= 6
    done = CliRunner().invoke(verify.app, ["tiny@knee"])
    assert done.exit_code == 0, done.output
    assert all(place.startswith(f"{moved}/mlruns/") for place in locations(moved))
    # By MLflow itself, in a process that knows nothing of this project.
    (run_id,) = Books(moved).query("SELECT run_uuid FROM runs WHERE name LIKE '0000:%'")[0]
    code = f"""
import mlflow
mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.pyfunc.load_model("runs:/{run_id}/model").get_raw_model()
"""
    subprocess.run([sys.executable, "-c", code], cwd=moved, check=True, capture_output=True)
    assert not first.exists()
    assert contents(first.with_name("gone")) == before


def test_what_was_moved_is_said_once(moved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(moved)
    done = CliRunner().invoke(report.app, ["--format", "json"])
    first = moved.parents[1] / "first"
    assert done.stderr == f"moved from {first}, read and written in {moved} from now on: tiny\n"
    Client(f"sqlite:///{moved}/mlflow.db").relocate()
    assert Records(Client(f"sqlite:///{moved}/mlflow.db")).find_study("tiny") is not None
