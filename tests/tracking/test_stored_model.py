import os
from pathlib import Path

import pytest

from study.tracking.manifest import manifest
from study.tracking.stored_model import share


def model(folder: Path, **files: str) -> Path:
    (folder / "code").mkdir(parents=True)
    for name, text in files.items():
        (folder / "code" / name).write_text(text)
    return folder


def n_files(*folders: Path) -> int:
    """How many there are on the disk."""
    return len({path.stat().st_ino for f in folders for path in f.rglob("*") if path.is_file()})


def test_what_models_have_in_common_is_there_once(tmp_path: Path) -> None:
    latest: dict[str, Path] = {}
    models = [model(tmp_path / str(n), same="s" * 99, own=f"{n}") for n in range(4)]
    before = [manifest(folder) for folder in models]
    for folder in models:
        share(folder, manifest(folder), latest)
    assert n_files(*models) == 1 + len(models)
    assert [manifest(folder) for folder in models] == before


def test_one_model_that_is_gone_or_was_changed_takes_nothing_of_another(tmp_path: Path) -> None:
    latest: dict[str, Path] = {}
    first, second, third, fourth = (model(tmp_path / str(n), same="text") for n in range(4))
    for folder in (first, second):
        share(folder, manifest(folder), latest)
    (first / "code" / "same").unlink()
    share(third, manifest(third), latest)
    (third / "code" / "same").write_text("other")
    share(fourth, manifest(fourth), latest)
    for folder in (second, fourth):
        assert (folder / "code" / "same").read_text() == "text"


def test_where_there_are_no_links_copies_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refused)
    latest: dict[str, Path] = {}
    models = [model(tmp_path / str(n), same="text") for n in range(3)]
    for folder in models:
        share(folder, manifest(folder), latest)
        assert manifest(folder)["code/same"]
    assert n_files(*models) == 3
