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


COEFF = RAW["space"]["coeff"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"search": {**RAW["search"], "n_trials": 5}}, "search.n_trials 5, not 3"),
        ({"data": {**RAW["data"], "shift": 1}}, "data.shift 1, not 0"),
        (
            {"space": {**RAW["space"], "coeff": {**COEFF, "high": 0.9}}},
            "space.coeff {'type': 'float', 'low': 0.3, 'high': 0.9, 'log': False, 'step': None}, "
            "not {'type': 'float', 'low': 0.3, 'high': 0.99, 'log': False, 'step': None}",
        ),
        (
            {"space": {"coeff": COEFF, "dropout": RAW["space"]["dropout"]}},
            "model.n_power_iterations 1, not nothing, space.n_power_iterations nothing, not {'type'"
            ": 'int', 'low': 1, 'high': 20, 'log': True, 'step': 1}",
        ),
    ],
)
def test_an_edited_file_is_named_with_both_values(
    change: dict[str, Any], says: str, file: Path
) -> None:
    """But not for its name and its data's folder, which options may give."""
    study = study_of(file, {"name": "other", "data.root": "/elsewhere"}).config
    assert changed_in_file(study, str(file), ()) is None
    file.write_text(yaml.safe_dump({**RAW, **change}))
    said = f"other goes on with its own settings; {file} has changed: {says}"
    assert changed_in_file(study, str(file), ()) == said


def test_what_options_gave_or_was_asked_for_since_is_no_change_of_the_file(file: Path) -> None:
    asked = study_of(file, {"search.n_trials": 2})
    assert asked.options == {"search.n_trials"}
    assert changed_in_file(asked.config, str(file), asked.options) is None
    assert changed_in_file(asked.config, str(file), (), is_extended=True) is None
    said = changed_in_file(asked.config, str(file), None)  # of a study that does not say
    assert str(said).endswith(f"{file} differs: search.n_trials 3, not 2")


def test_a_file_that_is_gone_says_nothing_and_one_that_cannot_be_read_says_so(file: Path) -> None:
    asked = study_of(file)
    file.write_text("name: [")
    assert "its file cannot be read now: " in str(changed_in_file(asked.config, asked.source, ()))
    file.unlink()
    assert changed_in_file(asked.config, asked.source, ()) is None
    in_python = study_of(RAW)
    assert changed_in_file(in_python.config, in_python.source, ()) is None
