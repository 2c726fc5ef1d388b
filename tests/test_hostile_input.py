"""What somebody might send who means harm: refused in one line or made harmless, nothing run."""

import io
import json
import os
import pickle
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from models import read_network
from study import launch, report, verify
from study.config import file
from study.errors import ConfigError, TrackingError
from study.metrics.reports import TrialStatus
from study.tracking import studies
from study.tracking.records import Records
from study.tracking.server.client import Client
from study.tracking.study_record import StudyRecord
from study.tracking.tracker import Tracker
from tests.support.commands import refused
from tests.support.studies import RAW, epoch_report, tiny

NAMES = {
    "a path out": "../../etc/cron.d/x",
    "quotes": "x' OR '1'='1",
    "a command": "$(touch pwned)",
    "a line more": "x\ntouch pwned",
    "a tail": "x\n",
    "too long": "x" * 10_000,
    "another alphabet's a": "\N{CYRILLIC SMALL LETTER A}",
    "NUL": "x\0",
    "an escape sequence": "\x1b[2Jx",
    "an option": "--storage-path=/",
    "nothing": "",
}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory in which only what was put there is there afterwards."""
    folder = tmp_path / "deep" / "down"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    yield folder
    assert {path.name for path in tmp_path.rglob("*")} == {"deep", "down", "space.yaml"}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
@pytest.mark.parametrize("where", ["file", "option"])
def test_names_that_are_no_names_are_refused_in_one_line(
    elsewhere: Path, name: str, where: str
) -> None:
    space = elsewhere / "space.yaml"
    space.write_text(yaml.safe_dump({**RAW, "name": name if where == "file" else "x"}))
    refused(launch.app, str(space), *(["--name", name] if where == "option" else []))


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_names_that_are_looked_for_are_only_looked_for(client: Client, name: str) -> None:
    before = [e.name for e in client.api.search_experiments()]
    options = ["--tracking-uri", client.tracking_uri]
    for app, arguments in (
        (report.app, ["--", name]),
        (verify.app, ["--", name or "x"]),
        (launch.app, ["--resume", f"--name={name}"]),
    ):
        refused(app, *options, *arguments)
    assert [e.name for e in client.api.search_experiments()] == before


def aliases(depth: int) -> str:
    """9 ** depth values in a few hundred characters."""
    text = "&a0 [x, x, x, x, x, x, x, x, x]"
    for level in range(1, depth):
        text = f"&a{level} [{text}" + f", *a{level - 1}" * 8 + "]"
    return text


KEYS = (
    "name: BOMB",
    "model: {blocks: BOMB}",
    "search: {first: BOMB}",
    "objectives: BOMB",
    "space: {coeff: {type: categorical, choices: BOMB}}",
    "training: {lr: BOMB}",
    "BOMB: 1",
    "nonsense: BOMB",
)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("depth", [5, 9, 40])
def test_a_few_lines_that_stand_for_billions_are_refused(key: str, depth: int) -> None:
    with pytest.raises(ConfigError) as error:
        file.loads(key.replace("BOMB", aliases(depth)), "bomb.yaml")
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)


def test_as_many_values_as_may_be_are_read() -> None:
    def of(n_values: int) -> dict[str, Any]:
        values = [1 + n / n_values for n in range(n_values)]
        settings = {key: value for key, value in RAW["training"].items() if key != "lr"}
        space = {"lr": {"type": "categorical", "choices": values}}
        return {**RAW, "training": settings, "space": space}

    assert file.loads(json.dumps(of(9_900)), "many.yaml").space[0][0] == "lr"
    with pytest.raises(ConfigError, match="at most 10000 values"):
        file.loads(json.dumps(of(10_000)), "many.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch pwned']",
        "name: !!python/name:os.system",
        "name: !!python/object/new:os.system ['touch pwned']",
        "[" * 3000,
        "{a: " * 3000,
        "name: " + "x" * 1_000_000,
        "x" * 10_000 + ": 1",
        '"\\e[2J\\n\\0": 1',
    ],
    ids=["apply", "name", "new", "deep list", "deep mapping", "long", "long key", "escape key"],
)
def test_yaml_that_would_run_or_swell_is_refused(elsewhere: Path, text: str) -> None:
    (elsewhere / "space.yaml").write_text(text)
    refused(launch.app, "space.yaml")


class Harmful:
    """Unpickled it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_in_the_place_of_a_trials_network_is_not_run(tmp_path: Path, kind: str) -> None:
    pwned = tmp_path / "pwned"
    content = io.BytesIO()
    if kind == "pickle":
        pickle.dump(Harmful(pwned), content, protocol=2)  # torch's own
    else:
        torch.save({"weight": Harmful(pwned)}, content)
    (tmp_path / "weights.safetensors").write_bytes(content.getvalue())
    described = {
        "architecture": {
            "in_shape": [1, 8, 8], "n_classes": 10, "blocks": [1], "channel_multiplier": 4,
        }
    }  # fmt: skip
    (tmp_path / "network.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match=r"^weights.safetensors cannot be read"):
        read_network(tmp_path)
    assert not pwned.exists()


def test_mlflow_cannot_choose_the_folder_that_is_unpickled(client: Client, tmp_path: Path) -> None:
    evil = tmp_path / "evil" / "tiny"
    evil.mkdir(parents=True)
    (evil / "tuner.pkl").write_bytes(pickle.dumps(Harmful(tmp_path / "pwned")))
    studies.create(client, tiny(), str((tmp_path / "space.yaml").resolve()), str(evil))
    arguments = ["--resume", "--name", "tiny", "--tracking-uri", client.tracking_uri]
    assert "--storage-path: it must be where tiny is kept" in refused(launch.app, *arguments)
    assert not (tmp_path / "pwned").exists()


def test_a_filter_cannot_leave_its_study(tracker: Tracker, study: StudyRecord) -> None:
    sample = {"coeff": 0.5, "n_power_iterations": 3, "dropout": 0.1}
    tracker.start_trial("0000", sample, study.config.resolve(sample, seed=1))
    tracker.log_reports("0000", [epoch_report(1)])
    for where in (
        "metrics.val_loss < 9; DROP TABLE runs",
        "1 = 1) OR (1 = 1",
        "tags.x = '' UNION SELECT * FROM runs --",
    ):
        with pytest.raises(TrackingError):
            Records(tracker.client).trials_and_projections(study, where)
    for where, n_found in (("", 1), ("metrics.val_loss < 9", 1), ("params.coeff = '0.9'", 0)):
        assert len(Records(tracker.client).trials_and_projections(study, where)) == n_found


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("study.trial_id", "x"),
        ("study.trial_id", "9" * 5000),
        ("study.trial_id", "\x1b[2J\n0001"),
        ("study.state", "done"),
        ("study.sample", "{"),
        ("study.sample", "[" * 5000),
        ("study.sample", "[1]"),
        ("study.sample", '{"coef": 0.5}'),
        ("study.sample", '{"coeff": "half"}'),
        ("study.sample", '{"coeff": NaN}'),
        ("study.sample", '{"coeff": 1e999}'),
        ("study.sample", '{"n_power_iterations": 1.5}'),
        ("study.epoch", "x"),
        ("study.projected_to", "x"),
    ],
)
def test_a_run_whose_tags_were_changed_is_named_in_a_line(
    tracker: Tracker, study: StudyRecord, tag: str, value: str
) -> None:
    sample = {"coeff": 0.5, "n_power_iterations": 3, "dropout": 0.1}
    tracker.start_trial("0000", sample, study.config.resolve(sample, seed=1))
    (trial,) = Records(tracker.client).trials(study)
    run_id = trial.run_id
    tracker.client.api.set_tag(run_id, tag, value)
    for app, network in ((report.app, "tiny"), (verify.app, "tiny/0000")):
        line = refused(app, network, "--tracking-uri", tracker.client.tracking_uri)
        assert line.startswith(f"error: run {run_id}: {tag} must be as its study wrote it")


@pytest.mark.parametrize("place", ["http://127.0.0.1:9/x", "https://[x", 5000 * "x"])
def test_a_run_whose_files_are_nowhere_is_named_in_a_line(
    tracker: Tracker, study: StudyRecord, tmp_path: Path, place: str
) -> None:
    sample = {"coeff": 0.5, "n_power_iterations": 3, "dropout": 0.1}
    tracker.start_trial("0000", sample, study.config.resolve(sample, seed=1))
    tracker.log_reports("0000", [epoch_report(epoch) for epoch in (1, 2, 3)])
    (trial,) = Records(tracker.client).trials(study)
    tracker.client.set_state(trial.run_id, TrialStatus.COMPLETED)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE runs SET artifact_uri = ?", (place,))
    page = str(tmp_path / "x.html")
    line = refused(
        report.app, "tiny", "--html", page, "--tracking-uri", tracker.client.tracking_uri
    )
    assert f"the files of run {trial.run_id} must be in a folder that MLflow made" in line


def test_a_path_that_is_too_long_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    long = 400 * "x"
    for app, arguments in (
        (report.app, ["x", "--html", f"{long}/{long}"]),
        (report.app, ["x", "--tracking-uri", f"sqlite:///{long}.db"]),
        (report.app, [long]),
        (launch.app, ["--resume", "--storage-path", f"{long}/{long}"]),
        (launch.app, [long]),
        (launch.app, [f"{long}.yaml"]),
    ):
        refused(app, *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("config", ["", "{", "[" * 5000, "null"])
def test_a_study_whose_settings_were_changed_is_none_of_ours(
    tracker: Tracker, study: StudyRecord, config: str
) -> None:
    tracker.client.api.set_tag(study.run_id, "study.config", config)
    assert list(Records(tracker.client).studies()) == []


@pytest.mark.parametrize("given", ["option", "environment"])
@pytest.mark.parametrize(
    "uri",
    [
        "http://admin:hunter2@127.0.0.1:9",
        "https://hunter2@127.0.0.1:9",
        "postgresql://127.0.0.1:9/mlflow?sslmode=require&password=hunter2",
    ],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(
    uri: str, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri if given == "environment" else "sqlite:///x.db")
    options = ["--tracking-uri", uri] if given == "option" else []
    for app, arguments in ((report.app, []), (verify.app, ["x"]), (launch.app, ["--resume"])):
        line = refused(app, *options, *arguments)
        assert "an address must hold no password" in line
        assert "hunter2" not in line


def test_what_is_no_address_is_refused_in_a_line() -> None:
    line = refused(report.app, "--tracking-uri", "http://[x")
    assert line.startswith("error: --tracking-uri: must be an address, but got")
