"""The command from the outside: real Ray, real SQLite, real signals, no network."""

import json
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from study import launch, report
from tests.studies import RAW

ROOT = Path(__file__).parent.parent
# Epochs long enough, and enough of them, that a signal meets trials in the middle.
LONG = {
    **RAW,
    "model": {"blocks": [2, 2, 2], "channel_multiplier": 8},
    "training": {**RAW["training"], "max_epochs": 12},
}


def write_space(folder: Path, raw: dict[str, Any], **search: Any) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**raw, "search": {**raw["search"], **search}}))
    return path


class Launch:
    """The command as a process; leaving the context leaves nothing of it behind."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "study.launch", *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
        self.pid = self.process.pid

    def __enter__(self) -> "Launch":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.kill_all()
        with self.process:  # closes its pipes
            pass

    def kill_all(self) -> None:
        """As if the machine died: the driver, and all of Ray below it."""
        below = descendants(self.pid)
        self.process.kill()
        for pid in below:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert self.process.poll() is None, "it ended before it was time"
            assert time.monotonic() < deadline, "it did not come so far"
            time.sleep(0.05)

    def finish(self, exit_code: int) -> str:
        """Wait for the end; its standard output and error, once the exit code is right."""
        out, err = self.process.communicate(timeout=240)
        assert self.process.returncode == exit_code, out + err
        assert "Traceback" not in out + err
        return out + err


def run(folder: Path, *arguments: str, exit_code: int = 0) -> str:
    with Launch(folder, *arguments) as launched:
        return launched.finish(exit_code)


class Books:
    """What stands in MLflow's database, read without MLflow."""

    def __init__(self, folder: Path) -> None:
        self.database = sqlite3.connect(f"file:{folder / 'mlflow.db'}?mode=ro", uri=True)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self.database.execute(sql).fetchall()

    def runs(self) -> dict[str, str]:
        """Name -> status, of all runs that are not deleted."""
        sql = "SELECT name, status FROM runs WHERE lifecycle_stage = 'active'"
        names = Counter(name for name, _ in self.query(sql))
        assert max(names.values()) == 1, f"a run is there twice: {names}"
        return dict(self.query(sql))

    def points(self, key: str) -> dict[str, list[tuple[int, float]]]:
        """Run name -> (step, value) of each point of a metric, in order."""
        sql = (
            "SELECT runs.name, step, value FROM metrics JOIN runs USING (run_uuid) "
            f"WHERE lifecycle_stage = 'active' AND key = '{key}' ORDER BY step"
        )
        found: dict[str, list[tuple[int, float]]] = {}
        for name, step, value in self.query(sql):
            found.setdefault(name, []).append((step, value))
        return found

    def params(self, key: str) -> dict[str, str]:
        sql = (
            "SELECT runs.name, value FROM params JOIN runs USING (run_uuid) "
            f"WHERE lifecycle_stage = 'active' AND key = '{key}'"
        )
        return dict(self.query(sql))


METRICS = (
    "train_loss", "train_accuracy", "val_loss", "val_accuracy", "lipschitz_upper_bound",
    "inverse_steps", "reconstruction_error", "epoch_seconds",
)  # fmt: skip


def check_books(books: Books, name: str, n_trials: int, n_epochs: int) -> None:
    """One parent, a child a trial, every metric once at every epoch, none running."""
    trials = [f"{name}-{number:04d}" for number in range(n_trials)]
    assert books.runs() == dict.fromkeys([name, *trials], "FINISHED")
    for metric in METRICS:
        steps = {run: [step for step, _ in points] for run, points in books.points(metric).items()}
        assert steps == {trial: list(range(1, n_epochs + 1)) for trial in trials}, metric
    assert {run: len(p) for run, p in books.points("test_accuracy").items()} == dict.fromkeys(
        trials, 1
    )


def epochs_logged(folder: Path) -> int:
    if not (folder / "mlflow.db").exists():
        return 0
    books = Books(folder)
    try:
        return sum(len(points) for points in books.points("val_loss").values())
    except sqlite3.OperationalError:  # MLflow is laying out its tables
        return 0


def descendants(pid: int) -> list[int]:
    """All processes below one, by /proc."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found = [pid]
    for ancestor in found:
        found += [child for child, parent in parents.items() if parent == ancestor]
    return found[1:]


def trial_workers(pid: int) -> list[int]:
    found = []
    for child in descendants(pid):
        try:
            command = Path(f"/proc/{child}/cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if command.startswith("ray::") and "Trainable" in command:
            found.append(child)
    return found


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of three trials, run to its end by the command."""
    folder = tmp_path_factory.mktemp("finished")
    space = write_space(folder, RAW)
    out = run(folder, str(space))
    assert "3 trials of 3 epochs on digits" in out
    assert "mlflow server" in out
    return folder


def test_a_study_runs_from_one_command(finished: Path) -> None:
    check_books(Books(finished), "tiny", n_trials=3, n_epochs=3)


def test_artifacts_are_there_for_each_completed_trial(finished: Path) -> None:
    certificates = list(finished.glob("mlruns/**/certificate.json"))
    assert len(certificates) == len(list(finished.glob("mlruns/**/inverse.json"))) == 3
    for path in certificates:
        content = json.loads(path.read_text())
        assert content["contraction"] == (content["lipschitz_upper_bound"] < 1)
        assert len(content["layers"]) == 6


def test_the_report_reads_the_front_from_mlflow(finished: Path) -> None:
    uri = f"sqlite:///{finished}/mlflow.db"
    done = CliRunner().invoke(
        report.app, ["tiny", "--format", "json", "--all", "--tracking-uri", uri]
    )
    assert done.exit_code == 0
    content = json.loads(done.stdout)
    assert content["finished"] is True
    assert sum(content["n_trials"].values()) == len(content["points"]) == 3
    books = Books(finished)
    for point in content["points"]:
        run_name = f"tiny-{point['trial_id']}"
        for metric in METRICS:
            last = books.points(metric)[run_name][-1][1]
            assert point["metrics"][metric] == last


def test_a_logged_model_loads_in_a_fresh_process_and_inverts(finished: Path) -> None:
    """From elsewhere, without this project on the path: the model brings its own code."""
    (run_id,) = Books(finished).query("SELECT run_uuid FROM runs WHERE name = 'tiny-0000'")[0]
    code = f"""
import mlflow.pytorch, torch
mlflow.set_tracking_uri("sqlite:///{finished}/mlflow.db")
model = mlflow.pytorch.load_model("runs:/{run_id}/model")
x = torch.rand(4, 1, 8, 8) - 0.5
with torch.no_grad():
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
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-5


def test_a_name_that_is_taken_gives_way_and_an_explicit_one_is_an_error(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    before = Books(finished).runs()
    done = CliRunner().invoke(launch.app, [str(finished / "tiny.yaml"), "--name", "tiny"])
    assert done.exit_code == 2
    assert done.stderr == (
        "error: --name: the name of a new study must be free, but 'tiny' is taken; take another, "
        "or go on with that study with --resume\n"
    )
    done = CliRunner().invoke(launch.app, [str(finished / "tiny.yaml"), "--resume"])
    assert done.exit_code == 2
    assert "must be unfinished, but there is none" in done.stderr
    assert Books(finished).runs() == before


@needs_proc
def test_a_worker_that_is_killed_costs_no_epoch(tmp_path: Path) -> None:
    with Launch(tmp_path, str(write_space(tmp_path, LONG))) as launched:
        launched.until(lambda: epochs_logged(tmp_path) >= 4 and bool(trial_workers(launched.pid)))
        os.kill(trial_workers(launched.pid)[0], signal.SIGKILL)
        out = launched.finish(0)
    assert "lost its worker; it goes on from its last checkpoint" in out
    check_books(Books(tmp_path), "tiny", n_trials=3, n_epochs=12)


@needs_proc
def test_a_driver_that_is_killed_is_resumed_without_loss(tmp_path: Path) -> None:
    space = write_space(tmp_path, LONG, n_trials=4)
    with Launch(tmp_path, str(space)) as launched:
        launched.until(lambda: epochs_logged(tmp_path) >= 16)
        launched.kill_all()
    out = run(tmp_path, str(space), "--resume")
    assert "resuming tiny" in out
    check_books(Books(tmp_path), "tiny", n_trials=4, n_epochs=12)


@needs_proc
def test_rungs_outlive_a_driver_that_is_killed(tmp_path: Path) -> None:
    raw = {**LONG, "scheduler": {"name": "mo_asha", "grace_period": 3, "reduction_factor": 2}}
    space = write_space(tmp_path, raw, n_trials=6)
    with Launch(tmp_path, str(space)) as launched:
        launched.until(lambda: epochs_logged(tmp_path) >= 14)
        launched.kill_all()
    run(tmp_path, str(space), "--resume")
    books = Books(tmp_path)
    runs = books.runs()
    assert len(runs) == 7
    reached = {}
    for name, points in books.points("val_accuracy").items():
        epochs = [epoch for epoch, _ in points]
        assert epochs == list(range(1, len(epochs) + 1))
        # The whole budget, or up to a rung.
        assert (runs[name], epochs[-1]) in {("FINISHED", 12), ("KILLED", 3), ("KILLED", 6)}
        reached[int(name[-4:])] = epochs[-1]
    assert len(reached) == 6
    # What the scheduler remembers is what MLflow has: every trial at every rung that it reached.
    states = (tmp_path / "ray_results" / "tiny").glob("searcher-state-*.pkl")  # one a session
    latest = max(states, key=lambda path: path.stat().st_mtime)
    rungs = pickle.loads(latest.read_bytes())[-1]
    assert {epoch: set(trials) for epoch, trials in rungs.items()} == {
        epoch: {trial for trial, last in reached.items() if last >= epoch} for epoch in (3, 6)
    }


def test_an_interrupted_study_leaves_nothing_running_and_says_how_to_go_on(tmp_path: Path) -> None:
    space = write_space(tmp_path, LONG)
    with Launch(tmp_path, str(space)) as launched:
        launched.until(lambda: epochs_logged(tmp_path) >= 3)
        launched.process.send_signal(signal.SIGINT)
        out = launched.finish(130)
    assert f"python -m study.launch {space} --resume --name tiny" in out
    assert set(Books(tmp_path).runs().values()) == {"KILLED"}
    run(tmp_path, str(space), "--resume", "--name", "tiny")
    check_books(Books(tmp_path), "tiny", n_trials=3, n_epochs=12)


def test_the_same_seed_gives_the_same_study_bit_for_bit(tmp_path: Path) -> None:
    """One worker at a time, since the sampler learns from trials in the order they end."""
    studies = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        raw = {**RAW, "resources": {"cpus": os.cpu_count()}}
        space = write_space(tmp_path / name, raw, n_startup_trials=1)
        run(tmp_path / name, str(space))
        books = Books(tmp_path / name)
        keys = ("coeff", "n_power_iterations", "dropout", "seed")
        figures = [m for m in METRICS if m != "epoch_seconds"] + ["test_accuracy"]
        studies.append(
            [books.params(key) for key in keys] + [books.points(metric) for metric in figures]
        )
    assert studies[0] == studies[1]


def test_trials_that_all_fail_fail_the_study(tmp_path: Path) -> None:
    """With asha, whose metric a failed trial does not report."""
    raw = {
        **RAW,
        "model": {**RAW["model"], "norm": "none"},
        "training": {**RAW["training"], "lr": 1e30, "lr_schedule": "step"},
        "constraints": {},
        "scheduler": {"name": "asha"},
    }
    out = run(tmp_path, str(write_space(tmp_path, raw)), "--trials", "2", exit_code=1)
    assert "diverged: train_loss is nan in epoch 1" in out
    runs = Books(tmp_path).runs()
    assert runs["tiny-0000"] == runs["tiny-0001"] == "FAILED"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory that must be empty afterwards: nothing started or written."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


def refusal(*arguments: str) -> str:
    done = CliRunner().invoke(launch.app, list(arguments))
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr


DIGITS = str(ROOT / "search_spaces" / "digits.yaml")


def test_dry_run_prints_the_study_and_starts_nothing(elsewhere: Path) -> None:
    done = CliRunner().invoke(launch.app, [DIGITS, "--trials", "5", "--dry-run"])
    assert done.exit_code == 0
    assert yaml.safe_load(done.stdout)["search"]["n_trials"] == 5


@pytest.mark.usefixtures("elsewhere")
def test_resume_takes_no_other_settings() -> None:
    assert "must go on with its own settings, but got --epochs" in refusal(
        DIGITS, "--resume", "--epochs", "3"
    )
    assert "must be unfinished, but there is none" in refusal(DIGITS, "--resume")


@pytest.mark.usefixtures("elsewhere")
def test_bad_options_and_files_are_refused_in_one_line() -> None:
    assert "nowhere.yaml: there is no such file" in refusal("nowhere.yaml")
    assert "--trials: search.n_trials: n_trials >= 1 must hold" in refusal(DIGITS, "--trials", "0")
    assert "--epochs: training.max_epochs: max_epochs >= 1" in refusal(DIGITS, "--epochs", "-1")
    mnist = str(ROOT / "search_spaces" / "mnist.yaml")
    message = refusal(mnist, "--data-root", "nowhere")
    assert f"{mnist}: data.root: data set mnist must be in" in message


def test_images_that_the_squeezes_do_not_divide_are_refused(
    tmp_path_factory: pytest.TempPathFactory, elsewhere: Path
) -> None:
    raw = {**RAW, "model": {"blocks": [1, 1, 1, 1, 1]}}
    space = write_space(tmp_path_factory.mktemp("space"), raw)
    assert "must be multiples of 16, but got 8 x 8" in refusal(str(space))


@pytest.mark.usefixtures("elsewhere")
def test_more_than_the_machine_has_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    raw = {**RAW, "resources": {"cpus": 10_000}}
    space = write_space(tmp_path_factory.mktemp("space"), raw)
    out = run(Path.cwd(), str(space), exit_code=2)
    assert "resources.cpus: a trial must fit the machine, but got 10000 of" in out
