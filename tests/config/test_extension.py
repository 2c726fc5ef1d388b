from pathlib import Path
from typing import Any

import pytest
import yaml

from study.config.extension import check_same
from study.config.file import study_of
from study.errors import LaunchError
from tests.support.studies import RAW


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(RAW))
    return path


def test_what_a_study_has_may_be_said_again(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = study_of(file, {"data.root": "images"}).config
    check_same(study, {})
    check_same(study, {"search.seed": 0, "training.max_epochs": 3, "resources.cpus": 1.0})
    check_same(study, {"data.root": str(tmp_path / "images")})
    check_same(study, {"data.root": "images"})


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("search.seed", 3, "must be 0, as tiny was begun with"),
        ("data.root", "/other", "must be '.*/data', as tiny was begun with"),
        ("data.download", True, "must be False, as tiny was begun with"),
        ("model.coeff", 0.5, "must be left out, since tiny searches it"),
    ],
)
def test_what_a_study_has_otherwise_is_named(key: str, value: Any, rule: str, file: Path) -> None:
    with pytest.raises(LaunchError, match=f"^{key}: {rule}, but got {value!r}$"):
        check_same(study_of(file).config, {key: value})
