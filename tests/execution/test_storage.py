import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from study.errors import LaunchError, NameTakenError
from study.execution.files import storage


def test_of_commands_that_begin_one_study_at_the_same_time_one_has_its_folder(
    tmp_path: Path,
) -> None:
    folder, together = tmp_path / "ray_results" / "mine", threading.Barrier(8)

    def begin(_: int) -> bool:
        together.wait(10)
        try:
            with storage.new_folder(str(folder)):
                return True
        except NameTakenError:
            return False

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(begin, range(8))) == 1
    assert folder.is_dir()


def test_a_study_that_fails_to_begin_leaves_no_folder(tmp_path: Path) -> None:
    def fail() -> None:
        with storage.new_folder(str(tmp_path / "mine")):
            (tmp_path / "mine" / "a_file").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


class Denied:
    def get_file_info(self, path: str) -> None:
        raise OSError(f"when getting information for {path}: ACCESS_DENIED")


def test_a_place_that_cannot_be_looked_into_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("foo://bucket/x", "hdfs://nowhere/x"):
        with pytest.raises(LaunchError, match=r"^storage_path: a folder or bucket must be given"):
            storage.exists(folder)
    monkeypatch.setattr(storage, "filesystem", lambda folder: (Denied(), "bucket/x"))
    with pytest.raises(LaunchError, match=r"^storage_path: it must be readable, but s3://bucket/x"):
        storage.exists("s3://bucket/x")


def test_a_folder_that_cannot_be_locked_is_said(tmp_path: Path) -> None:
    (tmp_path / "study.lock").mkdir()
    with (
        pytest.raises(LaunchError, match=r"^storage_path: it must be writable"),
        storage.locked(str(tmp_path)),
    ):
        pass


@pytest.mark.parametrize("below", ["file", "file/below", "file/below/it", "x" * 300])
def test_a_folder_that_could_not_be_made_is_said_and_none_is_made(
    below: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for ask in (storage.check, storage.make_folder):
        with pytest.raises(LaunchError, match=r"^storage_path: it must be writable"):
            ask(str(tmp_path / below))
    storage.check(str(tmp_path / "a" / "b"))
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
