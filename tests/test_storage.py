import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from study import storage
from study.errors import LaunchError

SESSION = "2026-01-02_03-04-05"


def write_snapshot(folder: Path, session: str = SESSION) -> None:
    (folder / f"experiment_state-{session}.json").write_text(json.dumps({"trial_data": []}))
    (folder / f"search_gen_state-{session}.json").write_bytes(pickle.dumps({"counter": 0}))
    (folder / f"searcher-state-{session}.pkl").write_bytes(pickle.dumps((1, 2)))


def test_no_folder_and_an_empty_one_have_no_snapshot(tmp_path: Path) -> None:
    assert not storage.has_snapshot(str(tmp_path / "nowhere"))
    assert not storage.has_snapshot(str(tmp_path))


def test_a_whole_snapshot_is_one(tmp_path: Path) -> None:
    write_snapshot(tmp_path)
    assert storage.has_snapshot(str(tmp_path))


@pytest.mark.parametrize("name", ["experiment_state", "search_gen_state", "searcher-state"])
@pytest.mark.parametrize("harm", ["truncated", "missing"])
def test_a_torn_snapshot_is_refused_not_started_over(tmp_path: Path, name: str, harm: str) -> None:
    write_snapshot(tmp_path, "2025-01-01_00-00-00")
    write_snapshot(tmp_path)
    (path,) = tmp_path.glob(f"{name}-{SESSION}.*")
    if harm == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
        if name == "experiment_state":
            assert storage.has_snapshot(str(tmp_path))  # the session before is whole
            return
    with pytest.raises(LaunchError, match="is missing or torn"):
        storage.has_snapshot(str(tmp_path))


def test_two_processes_cannot_run_one_study(tmp_path: Path) -> None:
    code = f"""
from study import storage
from study.errors import LaunchError
try:
    with storage.locked({str(tmp_path)!r}):
        print("mine")
except LaunchError:
    print("taken")
"""

    def other_process() -> str:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent.parent,
        )
        return done.stdout.strip()

    with storage.locked(str(tmp_path)):
        assert other_process() == "taken"
    assert other_process() == "mine"


@pytest.mark.parametrize("folder", ["foo://bucket/x", "hdfs://nowhere/x"])
def test_a_place_that_is_none_is_said(folder: str) -> None:
    with pytest.raises(LaunchError, match="--storage-path: a folder or bucket must be given"):
        storage.exists(folder)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LaunchError, match="--storage-path: it must be writable"):
        storage.make_folder(str(tmp_path / "file" / "below"))
