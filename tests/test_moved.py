"""A study whose folder was moved: it can be read there, and not be changed."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import study
from study import delete, launch, report, verify
from tests.support.commands import printed, refused
from tests.support.launched import twin


@pytest.fixture
def begun(finished: Path) -> Path:
    """Where a study was run."""
    return twin(finished)


@pytest.fixture
def moved(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it is now, which is the working directory."""
    folder = tmp_path / "moved"
    begun.rename(folder)
    monkeypatch.chdir(folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def ran(app: Any, *arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    return done.stdout


def test_report_page_verify_and_load_work_where_a_study_was_moved_to(
    finished: Path, begun: Path, moved: Path, tmp_path: Path
) -> None:
    before = contents(moved)
    page, first = str(tmp_path / "page.html"), f"sqlite:///{finished}/mlflow.db"
    there = ran(report.app, "--format", "json", "--tracking-uri", first)
    assert ran(report.app, "--format", "json") == there.replace(str(finished), str(begun))
    printed(report.app, "tiny", "--html", page)
    assert Path(page).stat().st_size > 100_000
    assert ": verified: " in ran(verify.app, "tiny@knee")
    images = torch.rand(2, 1, 8, 8)
    here, there = (
        study.open("tiny", tracking_uri=uri).load("tiny@knee")(images)
        for uri in (f"sqlite:///{moved}/mlflow.db", first)
    )
    assert torch.equal(here, there)
    assert contents(moved) == before


@pytest.mark.parametrize("is_copy", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [
        (launch.app, "tiny.yaml", "--resume", "--name", "tiny", "--trials", "9"),
        (delete.app, "tiny", "--yes"),
    ],
)
def test_it_is_changed_only_where_it_was_begun(
    begun: Path,
    moved: Path,
    is_copy: bool,
    arguments: tuple[Any, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also by the path of its storage; also where the first folder is still there."""
    if is_copy:
        shutil.copytree(moved, begun)
    before = contents(moved), contents(begun)
    app, *rest = arguments
    for storage in ("ray_results", f"{begun}/ray_results"):
        monkeypatch.setenv("STUDY_STORAGE_PATH", storage)
        assert refused(app, *rest) == (
            f"error: tiny was begun in {begun}, and only there can it be changed; in "
            f"{moved} it can be read\n"
        )
    assert (contents(moved), contents(begun)) == before
