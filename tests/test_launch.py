"""The command from the outside: real Ray, real SQLite, real signals, no network."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pytest
import ray
import torch
import yaml
from typer.testing import CliRunner

from study import launch, report
from study.config import file
from study.errors import TrackingError
from study.execution.driver import running, starting
from study.execution.files.storage import locked
from study.metrics.definitions import as_reported
from study.tracking.records import Records
from study.tracking.server.client import Client
from study.tracking.study_record import TrialRecord
from tests.benchmarks import segments
from tests.support.commands import printed, refused
from tests.support.launched import (
    CLOCKED,
    LADDER,
    METRICS,
    ROOT,
    Books,
    Launch,
    check_books,
    check_projections,
    epochs_logged,
    twin,
    write_finished,
    write_space,
)
from tests.support.one_ray import launch_here
from tests.support.studies import RAW

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


def test_a_study_runs_from_one_command(finished: Path) -> None:
    """Each trial is there with its projections, and one checkpoint of it stays."""
    check_books(Books(finished), "tiny", n_trials=3, n_epochs=3)
    assert check_projections(Books(finished), LADDER) >= 3
    stored = [path.parent for path in finished.glob("ray_results/tiny/*/checkpoint_*")]
    assert len(stored) == len(set(stored)) == 3


def test_every_projection_is_found_as_it_was_certified(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As MLflow sets it, but for this test alone.
    monkeypatch.setattr(
        mlflow, "set_tracking_uri", lambda uri: monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    )
    monkeypatch.setattr(sys, "argv", ["segments", f"sqlite:///{finished}/mlflow.db"])
    assert segments.main() == 0
    n_projections = len(Books(finished).runs(("projection",)))
    assert f"{n_projections} projections, 0 wrong" in capsys.readouterr().out


def test_the_report_reads_the_front_from_mlflow(finished: Path) -> None:
    uri = f"sqlite:///{finished}/mlflow.db"
    content = json.loads(
        printed(report.app, "tiny", "--format", "json", "--all", "--tracking-uri", uri)
    )
    assert content["finished"] is True
    books = Books(finished)
    assert sum(content["n_trials"].values()) == 3
    n_projections = len(books.runs(("projection",)))
    assert sum(content["n_projections"].values()) == n_projections
    assert len(content["points"]) == 3 + n_projections
    for point in (p for p in content["points"] if p["projected_to"] is None):
        for metric in METRICS:
            last = books.points(metric)[point["trial_id"]][-1][1]
            assert point["metrics"][metric] == as_reported({metric: last})[metric]


def test_a_logged_model_loads_in_a_fresh_process_and_inverts(finished: Path) -> None:
    """From elsewhere, without this project on the path: the model brings its own code."""
    (run_id,) = Books(finished).query("SELECT run_uuid FROM runs WHERE name LIKE '0000:%'")[0]
    code = f"""
import mlflow.pyfunc, torch
mlflow.set_tracking_uri("sqlite:///{finished}/mlflow.db")
predictor = mlflow.pyfunc.load_model("runs:/{run_id}/model")
model = predictor.get_raw_model()
assert "ray_results" in __import__("os").getcwd() and "/code/" in __import__("models").__file__
x = torch.rand(4, 1, 8, 8) - 0.5
with torch.no_grad():
    assert torch.equal(torch.from_numpy(predictor.predict(x.numpy())), model(x))
    assert model(x).shape == (4, 10)
    solution = model.inverse(model.features(x))
assert solution.converged.all()
print(float((solution.value - x).norm() / x.norm()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=finished / "ray_results",
        capture_output=True,
        text=True,
        check=False,
        env={
            **{k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        },
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-5


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_an_explicit_name_that_is_taken_is_an_error(
    options: list[str], finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    before = Books(finished).runs()
    assert refused(launch.app, "tiny.yaml", "--name", "tiny", *options) == (
        "error: --name: the name of a new study must be free, but 'tiny' is taken; take another, "
        "or resume that study\n"
    )
    assert Books(finished).runs() == before


@pytest.mark.parametrize("has", ["folder", "experiment"])
@pytest.mark.usefixtures("laid_out")
def test_a_name_that_another_launch_takes_meanwhile_is_an_error_that_leaves_nothing(
    has: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other launch has as much of its study as it makes by one call."""
    client = Client(f"sqlite:///{tmp_path}/mlflow.db")

    @contextmanager
    def other_launch(*_: object) -> Iterator[int]:
        if has == "folder":
            (tmp_path / "ray_results" / "mine").mkdir(parents=True)
        else:
            client.api.create_experiment("mine", str(tmp_path / "mlruns"))
        yield 1

    monkeypatch.setattr(running, "connected", other_launch)
    monkeypatch.chdir(tmp_path)
    space = str(write_space(tmp_path, RAW))
    assert "--name: the name of a new study must be free, but 'mine' is taken; " in refused(
        launch.app, space, "--name", "mine"
    )
    assert Books(tmp_path).runs() == {}
    assert (client.api.get_experiment_by_name("mine") is not None) == (has == "experiment")
    assert (tmp_path / "ray_results" / "mine").exists() == (has == "folder")


def test_a_file_that_ends_too_early_is_no_abort_by_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(*_: object) -> None:
        raise EOFError("Ran out of input")

    monkeypatch.setattr(file, "load", torn)
    done = CliRunner().invoke(launch.app, ["tiny.yaml"])
    assert isinstance(done.exception, RuntimeError)
    assert isinstance(done.exception.__cause__, EOFError)


@pytest.mark.usefixtures("laid_out", "one_ray")
def test_a_study_stops_when_its_front_no_longer_grows_and_counts_as_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its first sample was trained with two seeds: the second adds little. MLflow is away as
    the results are published, which a resume makes up for."""

    def unanswered(report: object) -> None:
        raise TrackingError("MLflow must answer")

    rule = {"hypervolume_gain": 0.9, "over_trials": 1}
    path = write_space(tmp_path, RAW, n_trials=6, repeats=2, stop=rule)
    with monkeypatch.context() as away:
        away.setattr("study.api.launched.publish", unanswered)
        out = launch_here(tmp_path, str(path))
    assert "its results were not put into MLflow: MLflow must answer" in out
    assert "publish them with python -m study.launch --resume --name tiny" in out
    assert "2 of 12 trials: stop: the hypervolume grew by" in out
    books = Books(tmp_path)
    assert books.runs() == dict.fromkeys(["tiny", "0000", "0001"], "FINISHED")
    seeds, coeffs = books.params("seed"), books.params("coeff")
    assert len(seeds) == 2 == len(set(seeds.values()))
    assert len(set(coeffs.values())) == 1
    assert "+-" in out
    resume = "tiny.yaml", "--resume", "--name", "tiny"
    assert [trial.mark for trial in trials_of(tmp_path)] == [None, None]
    assert "publish the results of tiny" in launch_here(tmp_path, *resume, "--dry-run")
    with monkeypatch.context() as away:
        away.setattr("study.execution.driver.running.connected", unanswered)  # nothing is run
        assert "2 of 12 trials: stop" in launch_here(tmp_path, *resume)
    assert [trial.mark for trial in trials_of(tmp_path)] == ["front", "repeat"]
    assert "must be unfinished, but 'tiny' is done" in launch_here(tmp_path, *resume, exit_code=2)


def trials_of(folder: Path) -> list[TrialRecord]:
    records = Records(Client(f"sqlite:///{folder}/mlflow.db"))
    study = records.find_study("tiny")
    assert study is not None
    return sorted(records.trials(study), key=lambda trial: trial.trial_id)


def figures(folder: Path) -> dict[str, dict[str, Any]]:
    """Every figure of a study's trials that does not depend on the clock: name -> trial -> it."""
    books = Books(folder)
    found: dict[str, dict[str, Any]] = {}
    for key in ("coeff", "n_power_iterations", "dropout", "seed"):
        found[key] = books.params(key)
    for metric in (*METRICS, "test_accuracy", "test_certified_accuracy"):
        if metric not in CLOCKED:
            found[metric] = books.points(metric)
    return found


def results(folder: Path) -> dict[str, object]:
    """The front and its hypervolume as they are reported, without what runs are called."""
    uri = f"sqlite:///{folder}/mlflow.db"
    content = json.loads(printed(report.app, "tiny", "--format", "json", "--tracking-uri", uri))
    assert content["finished"]
    front = {
        point["network"]: [v for k, v in point["metrics"].items() if k not in CLOCKED]
        for point in content["points"]
    }
    return {"hypervolume": content["hypervolume"], "front": front}


@pytest.fixture(scope="module")
def longer(one_ray: None, empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the study of `finished`, with five trials from the start."""
    folder = tmp_path_factory.mktemp("longer")
    shutil.copy(empty_database, folder / "mlflow.db")
    launch_here(folder, str(write_finished(folder)), "--trials", "5")
    return folder


def test_the_same_seed_gives_the_same_study_bit_for_bit(finished: Path, longer: Path) -> None:
    first_three = {
        name: {trial: value for trial, value in of.items() if trial < "0003"}
        for name, of in figures(longer).items()
    }
    assert first_three == figures(finished)


@needs_proc
def test_a_study_that_is_extended_and_killed_is_the_one_that_was_longer_from_the_start(
    finished: Path, longer: Path
) -> None:
    before, folder = contents(finished / "ray_results"), twin(finished)
    space = str(folder / "tiny.yaml")
    with Launch(folder, space, "--resume", "--trials", "5") as launched:
        assert launched.kill_at(lambda: epochs_logged(folder) >= 10, delay=0.1)
    raw = yaml.safe_load((folder / "tiny.yaml").read_text())
    edited = {**raw, "training": {**raw["training"], "lr": 9.0}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(edited))
    seed = str(raw["search"]["seed"])
    out = launch_here(folder, space, "--resume", "--name", "tiny", "--seed", seed)
    assert "resuming tiny, with the settings that it was begun with\n" in out
    check_books(Books(folder), "tiny", n_trials=5, n_epochs=3)
    check_projections(Books(folder), LADDER)
    assert figures(folder) == figures(longer)
    assert results(folder) == results(longer)
    assert contents(finished / "ray_results") == before


def test_a_study_whose_files_a_server_keeps_is_not_extended_in_its_database(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    with sqlite3.connect(folder / "mlflow.db") as database:
        database.execute("UPDATE runs SET artifact_uri = 'mlflow-artifacts:/1/' || run_uuid")
        database.execute("UPDATE experiments SET artifact_location = 'mlflow-artifacts:/1'")
    books = Books(folder)
    before = books.query("SELECT * FROM tags")
    storage = str(finished / "ray_results")
    message = refused(
        launch.app,
        "tiny.yaml",
        "--resume",
        "--name",
        "tiny",
        "--trials",
        "9",
        "--storage-path",
        storage,
    )
    assert "http://localhost:5000" in message
    assert books.query("SELECT * FROM tags") == before


@pytest.mark.usefixtures("laid_out", "one_ray")
def test_trials_that_all_fail_fail_the_study(tmp_path: Path) -> None:
    """With asha, whose metric a failed trial does not report."""
    raw = {
        **RAW,
        "model": {**RAW["model"], "norm": "none"},
        "training": {**RAW["training"], "lr": 1e30, "lr_schedule": "step"},
        "constraints": {},
        "scheduler": {"name": "asha"},
    }
    out = launch_here(tmp_path, str(write_space(tmp_path, raw)), "--trials", "2", exit_code=1)
    assert "diverged: train_loss is nan in epoch 1" in out
    runs = Books(tmp_path).runs()
    assert runs["0000"] == runs["0001"] == "FAILED"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory that must be empty afterwards: nothing started or written."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


def contents(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*")}


DIGITS = str(ROOT / "search_spaces" / "digits.yaml")


@pytest.mark.usefixtures("elsewhere", "one_ray")
def test_dry_run_says_what_a_study_is_and_takes_and_leaves_ray(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left: list[None] = []
    monkeypatch.setattr(ray, "shutdown", lambda: left.append(None))
    out = printed(launch.app, DIGITS, "--trials", "5", "--download", "--dry-run")
    content = yaml.safe_load(out)
    assert content["search"]["n_trials"] == 5
    # As it is by default, but for the radius, which is then known.
    assert content["evaluation"] == {"radius": 0.5}
    assert re.search(r"^# A network: [\d,]{5,} parameters$", out, re.MULTILINE)
    assert re.search(r"^# Time: about .*: 5 trials, \d+ at a time, of ", out, re.MULTILINE)
    assert re.search(r"^# Driver: \S+ reports a second in \S+ mess", out, re.MULTILINE)
    assert "hold the trials up" not in out
    assert re.search(r"^# Storage: about \S+ MB of checkpoints ", out, re.MULTILINE)
    assert len(left) == 1


@pytest.mark.usefixtures("elsewhere", "one_ray")
def test_dry_run_checks_server_address_resources_and_name() -> None:
    nobody = "127.0.0.1:9"  # the port of the discard service
    for options, problem in (
        (["--tracking-uri", f"http://{nobody}"], f"MLflow at http://{nobody}: "),
        (["--address", nobody], f"--address: a Ray cluster must answer at '{nobody}', but: "),
        (["--cpus", "4096"], "--cpus: must be at most the "),
        (["--storage-path", f"{DIGITS}/x"], f"--storage-path: it must be writable, but {DIGITS}/x"),
    ):
        assert problem in refused(launch.app, DIGITS, "--dry-run", *options)
    if torch.cuda.device_count() == 0:
        problem = "--gpus: must be at most the 0 GPUs of this machine, but got 1"
        assert problem in refused(launch.app, DIGITS, "--dry-run", "--gpus", "1")


@pytest.mark.usefixtures("elsewhere")
def test_a_resume_of_what_is_not_there_and_options_that_conflict_are_refused() -> None:
    for options in ([], ["--dry-run"]):
        message = refused(launch.app, DIGITS, "--resume", *options)
        assert message.startswith(f"error: a study of {DIGITS} must be in MLflow at ")
        assert message.endswith("/mlflow.db, but there is none\n")
    message = refused(launch.app, "mine", "--resume")
    assert "there is no such file or shipped study; " in message
    assert "; a study of that name is meant by its name alone" in message
    assert "--all requires --dry-run" in refused(launch.app, DIGITS, "--all")


def test_a_resume_is_rehearsed_and_changes_nothing(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    monkeypatch.setattr(starting, "_connect", pytest.fail)
    before = contents(finished / "ray_results")
    for arguments, exit_code, says in (
        (["--trials", "5"], 0, "would go on with tiny, of which 3 of 5 trials have completed\n"),
        ([], 2, "error: a study must be unfinished, but 'tiny' is done"),
        (["--trials", "3"], 2, "--trials: tiny, which is done, must get more than before, 3, but"),
    ):
        done = CliRunner().invoke(launch.app, ["tiny.yaml", "--resume", "--dry-run", *arguments])
        assert (done.exit_code, says in done.output) == (exit_code, True), done.output
    assert contents(finished / "ray_results") == before
    with locked(str(finished / "ray_results" / "tiny")):
        message = refused(launch.app, "tiny.yaml", "--resume", "--dry-run", "--trials", "5")
        assert "error: a study must not be running" in message


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("section", "options", "says"),
    [
        ({}, ["--trials", "0"], "error: --trials: must be greater than or equal to 1, but got 0\n"),
        ({}, ["--epochs", "-1"], "error: --epochs: must be greater than or equal to 1, but got -1"),
        (
            {"data": {"name": "mnist"}},
            ["--data-root", "none"],
            "--data-root: data set mnist must be in",
        ),
        ({"model": {"blocks": [1, 1, 1, 1, 1]}}, [], "must be multiples of 16, but got 8 x 8"),
        ({"trainin": {}}, [], "x.yaml: trainin: unknown key 'trainin'; did you mean"),
    ],
)
def test_bad_options_and_files_are_refused_in_one_line(
    section: dict[str, Any], options: list[str], says: str, tmp_path_factory: Any
) -> None:
    path = tmp_path_factory.mktemp("space") / "x.yaml"
    path.write_text(yaml.safe_dump({**RAW, **section}))
    assert says in refused(launch.app, str(path), *options)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_damaged_image_is_named_before_anything_starts(
    options: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("images")
    for name in ("cat", "dog"):
        (folder / "train" / name).mkdir(parents=True)
        (folder / "train" / name / "0.png").write_text("no image")
    space = write_space(folder, {**RAW, "data": {"name": "image_folder"}})
    message = refused(launch.app, str(space), "--data-root", str(folder), *options)
    image = folder / "train" / "cat" / "0.png"
    assert f"--data-root: every image must be readable, but {image} is not: " in message
