"""A study as a YAML file: read, written, and found by its name."""

import contextlib
import re
from pathlib import Path

import pytest
import yaml

from study.config import file
from study.config.parser import parse
from study.errors import ConfigError
from study.metrics.definitions import VAL_ACCURACY
from tests.support.launched import ROOT
from tests.support.studies import RAW

TEXT = yaml.safe_dump(RAW, sort_keys=False)
SPACE_FOLDER = ROOT / "search_spaces"
SPACES = sorted(SPACE_FOLDER.glob("*.yaml"))
assert SPACES


@pytest.mark.parametrize("lr", ["1e-3", "1.0e-3", "0.001", "1E-3", "+1.e-3"])
def test_a_number_may_have_an_exponent_alone(lr: str) -> None:
    """YAML 1.1 takes it for text."""
    assert file.loads(TEXT.replace("lr: 0.1", f"lr: {lr}"), "x").training.lr == 0.001


@pytest.mark.parametrize(
    ("text", "value"), [("010", 10), ("0x10", 16), ("1_000", 1000), ("+7", 7), ("0", 0)]
)
def test_a_whole_number_is_what_it_looks_like(text: str, value: int) -> None:
    """YAML 1.1 reads 010 as 8."""
    study = file.loads(TEXT.replace("seed: 0", f"seed: {text}"), "x")
    assert study.search.seed == value


@pytest.mark.parametrize("text", ["1:30", "1:30:00", "1:30.5", "0b11", "0o10"])
def test_what_is_no_number_is_not_made_one(text: str) -> None:
    """YAML 1.1 reads 1:30 as 90."""
    with pytest.raises(ConfigError, match=f"must be a valid integer, but got '{text}'"):
        file.loads(TEXT.replace("seed: 0", f"seed: {text}"), "x")
    with pytest.raises(ConfigError, match=f"must be a valid number, but got '{text}'"):
        file.loads(TEXT.replace("lr: 0.1", f"lr: {text}"), "x")


@pytest.mark.parametrize(
    "text", ["1e5", "1.5e3", "1:30", "010", "1_000", "2020", "0x10", "null", "yes", "a: b", "é"]
)
def test_text_that_looks_like_something_else_stays_text(text: str) -> None:
    study = parse({**RAW, "data": {"root": text}}, "x")
    assert file.loads(file.to_yaml(study), "again").data.root == text
    assert file.loads(file.to_yaml(study, is_short=True), "again") == study


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a study file must be a mapping of keys, but got None"),
        ("a: b: c", "line 1, column 5: not valid YAML: mapping values are not allowed here"),
        ("name: 2024-02-30", "not valid YAML: day is out of range for month"),
        ("name: !!bool 1", "not valid YAML: '1'"),
        ("data: &a {x: *a}", "a study file must not contain itself"),
        ("training: {lr: 1e999}", "training.lr: must be a finite number, but got inf"),
        (
            "training:\n\tlr: 1",
            "line 2, column 1: not valid YAML: found character '\\t' that cannot start any token "
            "(a tab; YAML indents with spaces)",
        ),
        (
            "data: {size: 1, size: 2}",
            "line 1, column 17: not valid YAML: the key 'size' stands twice",
        ),
    ],
)
def test_what_is_no_study_is_said_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(f"x.yaml: {message}") + "$"):
        file.loads(text, "x.yaml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: there is no such file$"):
        file.load(tmp_path / "nowhere.yaml")
    (tmp_path / "mine.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"no such file; did you mean /.*/mine\.yaml\?$"):
        file.load(tmp_path / "min.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        file.load(tmp_path)


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_a_shipped_study_is_what_is_written_of_it(path: Path) -> None:
    study = file.load(path)
    assert study.name == path.stem
    # Its hypervolume counts networks that people would use.
    assert 0.5 <= {o.metric: o.reference for o in study.objectives}[VAL_ACCURACY] <= 0.9
    assert parse(study.to_dict(), "again") == study
    whole, short = file.to_yaml(study), file.to_yaml(study, is_short=True)
    assert yaml.safe_load(whole) == study.to_dict()
    assert file.loads(whole, "whole.yaml") == file.loads(short, "short.yaml") == study
    assert len(short) < len(whole)
    # What stands in it decides something: without any one of its settings it is another study.
    content = yaml.safe_load(short)
    for section in ("data", "model", "training", "search"):
        for key in content.get(section, {}):
            if key == "n_trials":  # which a grid has of itself
                continue
            less = {**content, section: {k: v for k, v in content[section].items() if k != key}}
            with contextlib.suppress(ConfigError):  # or none at all
                assert parse(less, "less.yaml") != study, (section, key)


def test_table1_on_cifar10_is_the_papers_network_and_recipe() -> None:
    study = file.load(SPACE_FOLDER / "table1_cifar10.yaml")
    assert study.model.blocks == (18, 18, 19)
    training = study.training
    assert (training.max_epochs, training.lr, training.lr_decay) == (200, 0.1, 0.2)
    assert [m * training.max_epochs for m in training.lr_milestones] == [60, 120, 160]
    assert study.resources.gpus > 0


@pytest.mark.parametrize("name", [path.stem for path in SPACES])
def test_a_shipped_study_is_found_by_its_bare_name_from_anywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert file.locate(name) == SPACE_FOLDER / f"{name}.yaml"
    assert file.locate(f"{name}.yaml") == Path(f"{name}.yaml")
    (tmp_path / name).write_text("")
    assert file.locate(name) == Path(name)


def test_a_bare_name_that_is_none_is_refused_with_those_that_may_be_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("")
    for typed, hint in (
        ("zzz", "shipped are .*digits, .*mnist"),
        ("digitz", r"did you mean digits\?"),
        ("mnst", r"did you mean mnist\?"),
        ("mine", r"did you mean mine\.yaml\?"),
    ):
        with pytest.raises(ConfigError, match=rf"^{typed}: there is no such file .*; {hint}"):
            file.locate(typed)
