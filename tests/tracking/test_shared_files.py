import os
from pathlib import Path

import pytest

from study.tracking.manifest import manifest
from study.tracking.shared_files import SharedFiles


def model(folder: Path, **files: str) -> Path:
    (folder / "code").mkdir(parents=True)
    for name, text in files.items():
        (folder / "code" / name).write_text(text)
    return folder


def n_files(*folders: Path) -> int:
    """How many there are on the disk."""
    return len({path.stat().st_ino for f in folders for path in f.rglob("*") if path.is_file()})


def test_what_models_have_in_common_is_there_once(tmp_path: Path) -> None:
    shared = SharedFiles()
    models = [model(tmp_path / str(n), same="s" * 99, own=f"{n}") for n in range(4)]
    before = [manifest(folder) for folder in models]
    for folder in models:
        shared.share(folder, manifest(folder))
    assert n_files(*models) == 1 + len(models)
    assert [manifest(folder) for folder in models] == before


def test_one_model_less_takes_nothing_of_another(tmp_path: Path) -> None:
    shared = SharedFiles()
    first, second = (model(tmp_path / name, same="text") for name in ("first", "second"))
    for folder in (first, second):
        shared.share(folder, manifest(folder))
    (first / "code" / "same").unlink()
    assert (second / "code" / "same").read_text() == "text"
    third = model(tmp_path / "third", same="text")  # the one that it would be is gone
    shared.share(third, manifest(third))
    assert (third / "code" / "same").read_text() == "text"


def test_a_file_that_was_changed_since_is_nobody_else_s(tmp_path: Path) -> None:
    shared = SharedFiles()
    first, second = (model(tmp_path / name, same="text") for name in ("first", "second"))
    shared.share(first, manifest(first))
    (first / "code" / "same").write_text("other")
    shared.share(second, manifest(second))
    assert (second / "code" / "same").read_text() == "text"


def test_where_there_are_no_links_copies_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refused)
    shared = SharedFiles()
    models = [model(tmp_path / str(n), same="text") for n in range(3)]
    for folder in models:
        shared.share(folder, manifest(folder))
        assert manifest(folder)["code/same"]
    assert n_files(*models) == 3
