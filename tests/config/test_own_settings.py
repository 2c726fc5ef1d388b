from pathlib import Path
from typing import Any

import pytest
import yaml

from study.config.file import study_of
from study.config.own_settings import changed_in_file, check_same
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
    study, _ = study_of(file, {"data.root": ("--data-root", "images")})
    check_same(study, {})
    check_same(
        study,
        {
            "search.seed": ("--seed", 0),
            "training.max_epochs": ("--epochs", 3),
            "data.root": ("--data-root", str(tmp_path / "images")),
            "resources.cpus": ("--cpus", 1.0),
        },
    )
    monkeypatch.chdir(tmp_path)
    check_same(study, {"data.root": ("--data-root", "images")})


@pytest.mark.parametrize(
    ("key", "option", "value", "says"),
    [
        ("search.seed", "--seed", 3, "--seed: .* and tiny has 0 here, but got 3$"),
        ("training.max_epochs", "--epochs", 9, "has 3 here, but got 9; --train says which"),
        ("data.root", "--data-root", "/other", "--data-root: .* but got '/other'$"),
        ("data.download", "--download", True, "has False here, but got True$"),
    ],
)
def test_what_a_study_has_otherwise_is_named(
    key: str, option: str, value: Any, says: str, file: Path
) -> None:
    study, _ = study_of(file, {})
    with pytest.raises(LaunchError, match=says):
        check_same(study, {key: (option, value)})


def test_a_setting_that_is_searched_has_no_one_value(file: Path) -> None:
    space = {**RAW["space"], "max_epochs": {"type": "int", "low": 1, "high": 3}}
    training = {key: value for key, value in RAW["training"].items() if key != "max_epochs"}
    study, _ = study_of({**RAW, "space": space, "training": training}, {})
    with pytest.raises(LaunchError, match="tiny has a searched value here, but got 3"):
        check_same(study, {"training.max_epochs": ("--epochs", 3)})


def test_an_edited_file_is_named_with_both_values(file: Path) -> None:
    study, _ = study_of(
        file, {"name": ("--name", "other"), "data.root": ("--data-root", "/elsewhere")}
    )
    assert changed_in_file(study, str(file)) is None
    space = {**RAW["space"], "coeff": {"type": "float", "low": 0.3, "high": 0.9}}
    search = {**RAW["search"], "n_trials": 5, "notify": "true"}
    file.write_text(yaml.safe_dump({**RAW, "space": space, "search": search}))
    said = changed_in_file(study, str(file))
    assert said is not None
    assert said.startswith(f"other goes on with its own settings; {file} says otherwise by now: ")
    assert "search.n_trials is 3 here and 5 there" in said
    assert "'high': 0.99, " in said
    assert "'high': 0.9, " in said
    assert said.count(" there") == 2
    assert "n_trials" not in str(changed_in_file(study, str(file), is_extended=True))


def test_a_file_that_is_gone_says_nothing_and_one_that_cannot_be_read_says_so(file: Path) -> None:
    study, source = study_of(file, {})
    file.write_text("name: [")
    assert "its file cannot be read now: " in str(changed_in_file(study, source))
    file.unlink()
    assert changed_in_file(study, source) is None
    in_python, source = study_of(RAW, {})
    assert changed_in_file(in_python, source) is None
