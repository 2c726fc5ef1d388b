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
    study = study_of(file, {"data.root": ("--data-root", "images")}).config
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
        ("training.max_epochs", "--epochs", 9, "has 3 here, but got 9"),
        ("data.root", "--data-root", "/other", "--data-root: .* but got '/other'$"),
        ("data.download", "--download", True, "has False here, but got True$"),
    ],
)
def test_what_a_study_has_otherwise_is_named(
    key: str, option: str, value: Any, says: str, file: Path
) -> None:
    study = study_of(file, {}).config
    with pytest.raises(LaunchError, match=says):
        check_same(study, {key: (option, value)})


def test_a_setting_that_is_searched_has_no_one_value(file: Path) -> None:
    space = {**RAW["space"], "max_epochs": {"type": "int", "low": 1, "high": 3}}
    training = {key: value for key, value in RAW["training"].items() if key != "max_epochs"}
    study = study_of({**RAW, "space": space, "training": training}, {}).config
    with pytest.raises(LaunchError, match="tiny has a searched value here, but got 3"):
        check_same(study, {"training.max_epochs": ("--epochs", 3)})


def test_an_edited_file_is_named_with_both_values(file: Path) -> None:
    study = study_of(
        file, {"name": ("--name", "other"), "data.root": ("--data-root", "/elsewhere")}
    ).config
    assert changed_in_file(study, str(file), ()) is None
    space = {**RAW["space"], "coeff": {"type": "float", "low": 0.3, "high": 0.9}}
    search = {**RAW["search"], "n_trials": 5, "notify": "true"}
    file.write_text(yaml.safe_dump({**RAW, "space": space, "search": search}))
    said = changed_in_file(study, str(file), ())
    assert said == (
        f"other goes on with its own settings; {file} has changed: search.n_trials 5, not 3, "
        "space.coeff.high 0.9, not 0.99"
    )
    assert "n_trials" not in str(changed_in_file(study, str(file), (), is_extended=True))


def test_what_options_gave_is_no_change_of_the_file(file: Path) -> None:
    asked = study_of(file, {"search.n_trials": ("--trials", 2), "search.seed": ("--seed", None)})
    assert asked.options == {"search.n_trials"}
    assert changed_in_file(asked.config, str(file), asked.options) is None
    edited = {**RAW, "data": {**RAW["data"], "shift": 1}}
    file.write_text(yaml.safe_dump(edited))
    said = str(changed_in_file(asked.config, str(file), asked.options))
    assert said.endswith(" has changed: data.shift 1, not 0")


def test_a_hyperparameter_that_is_searched_no_more_is_named(file: Path) -> None:
    study = study_of(file, {}).config
    space = {key: value for key, value in RAW["space"].items() if key != "dropout"}
    file.write_text(yaml.safe_dump({**RAW, "space": space}))
    said = str(changed_in_file(study, str(file), ()))
    assert said.endswith(" has changed: space.dropout nothing, not searched")


def test_a_hyperparameter_of_another_type_is_named_by_its_type(file: Path) -> None:
    study = study_of(file, {}).config
    space = {**RAW["space"], "coeff": {"type": "categorical", "choices": [0.7, 0.9]}}
    file.write_text(yaml.safe_dump({**RAW, "space": space}))
    said = str(changed_in_file(study, str(file), ()))
    assert said.endswith(" has changed: space.coeff.type categorical, not float")


def test_of_a_study_that_does_not_say_what_options_gave_neither_is_blamed(file: Path) -> None:
    study = study_of(file, {"search.seed": ("--seed", 7)}).config
    said = str(changed_in_file(study, str(file), None))
    assert said.endswith(" has changed, or options said otherwise: search.seed 0, not 7")


def test_a_file_that_is_gone_says_nothing_and_one_that_cannot_be_read_says_so(file: Path) -> None:
    asked = study_of(file, {})
    file.write_text("name: [")
    assert "its file cannot be read now: " in str(changed_in_file(asked.config, asked.source, ()))
    file.unlink()
    assert changed_in_file(asked.config, asked.source, ()) is None
    in_python = study_of(RAW, {})
    assert changed_in_file(in_python.config, in_python.source, ()) is None
