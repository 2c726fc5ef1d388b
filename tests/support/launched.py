"""Run the command as a process, and read what it leaves in MLflow's database."""

import json
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

from study.metrics.reports import Variant
from study.tracking.handles import network_label
from tests.support.studies import RAW

ROOT = Path(__file__).parents[2]
LADDER = (0.216, 0.027)
"""The ladder of the study of the fixture `finished`."""


def write_finished(folder: Path) -> Path:
    """The study file of the fixture `finished`."""
    return write_space(folder, RAW, ladder=list(LADDER), n_startup_trials=1)


def write_space(folder: Path, raw: dict[str, Any], **search: Any) -> Path:
    """Write a study file, with some keys of its search changed."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**raw, "search": {**raw["search"], **search}}))
    return path


class Launch:
    """The command as a process, killed when the context is left."""

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
        """Kill the driver and all of Ray below it, as if the machine died."""
        below = descendants(self.pid)
        self.process.kill()
        for pid in below:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()

    def until(self, condition: Callable[[], bool]) -> None:
        assert self.comes_to(condition), "it ended before it was time"

    def comes_to(self, condition: Callable[[], bool]) -> bool:
        """Wait until the condition holds; False if the command ended before that."""
        deadline = time.monotonic() + 120
        while not condition():
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < deadline, "it did not come so far"
            time.sleep(0.2)  # another process's database tells nobody of changes: it is asked
        return True

    def kill_at(self, condition: Callable[[], bool], delay: float) -> bool:
        """Kill everything `delay` seconds after the condition holds; False if it ended before."""
        if not self.comes_to(condition):
            return False
        time.sleep(delay)  # the random moment itself
        if self.process.poll() is not None:
            return False
        self.kill_all()
        return True

    def finish(self, exit_code: int, seconds: float = 240) -> str:
        """Wait for the end and check the exit code; returns standard output and error."""
        out, err = self.process.communicate(timeout=seconds)
        assert self.process.returncode == exit_code, out + err
        assert "Traceback" not in out + err
        return out + err


def run(folder: Path, *arguments: str, exit_code: int = 0, seconds: float = 240) -> str:
    with Launch(folder, *arguments) as launched:
        return launched.finish(exit_code, seconds)


def twin(folder: Path) -> Path:
    """Copy a folder beside it, as if its study had been run there. Both paths have the same length,
    so that one can replace the other in the files of MLflow and Ray."""
    copy = folder.with_name(secrets.token_hex(len(folder.name) // 2))
    assert len(copy.name) == len(folder.name)
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "ray_results" / "tiny" / "snapshots")
    for path in [copy / "mlflow.db", *copy.glob("ray_results/tiny/*")]:
        if path.is_file():
            path.write_bytes(path.read_bytes().replace(bytes(folder), bytes(copy)))
    return copy


# Only trials: projections repeat metrics of the trial's last epoch, and the study has sums of some.
_OF_TRIALS = "run_uuid IN (SELECT run_uuid FROM tags WHERE key = 'study.kind' AND value = 'trial')"


class Books:
    """MLflow's database, read without MLflow."""

    def __init__(self, folder: Path) -> None:
        self.uri = f"file:{folder / 'mlflow.db'}?mode=ro"

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.uri, uri=True)) as database:
            return database.execute(sql).fetchall()

    def runs(self, kinds: tuple[str, ...] = ("study", "trial")) -> dict[str, str]:
        """Name -> status of all runs of these kinds that are not deleted."""
        chosen = ", ".join(f"'{kind}'" for kind in kinds)
        sql = (
            "SELECT name, status FROM runs JOIN tags USING (run_uuid) WHERE key = 'study.kind' "
            f"AND value IN ({chosen}) AND lifecycle_stage = 'active'"
        )
        names = Counter(name for name, _ in self.query(sql))
        assert max(names.values(), default=1) == 1, f"a run is there twice: {names}"
        return {_label(name): status for name, status in self.query(sql)}

    def points(self, key: str, column: str = "value") -> dict[str, list[tuple[int, float]]]:
        """Run name -> (step, value) of each point of a metric, by step."""
        sql = (
            f"SELECT runs.name, step, metrics.{column} FROM metrics JOIN runs USING (run_uuid) "
            f"WHERE lifecycle_stage = 'active' AND key = '{key}' AND {_OF_TRIALS} "
            "ORDER BY step"
        )
        found: dict[str, list[tuple[int, float]]] = {}
        for name, step, value in self.query(sql):
            found.setdefault(_label(name), []).append((step, value))
        return found

    def params(self, key: str) -> dict[str, str]:
        sql = (
            "SELECT runs.name, value FROM params JOIN runs USING (run_uuid) "
            f"WHERE lifecycle_stage = 'active' AND key = '{key}' AND {_OF_TRIALS}"
        )
        return {_label(name): value for name, value in self.query(sql)}


def _label(name: str) -> str:
    """A run's name without its sample: the study's name, 0003, or 0003@0.5."""
    return name.partition(":")[0]


PROJECTED_METRICS = (
    "val_loss", "val_accuracy", "certified_accuracy", "median_radius", "lost_to_rounding",
    "logit_lipschitz_upper_bound", "inverse_lipschitz_upper_bound", "block_lipschitz_upper_bound",
    "inverse_steps", "reconstruction_error", "noise_error", "test_accuracy",
    "test_certified_accuracy",
)  # fmt: skip
METRICS = (
    "train_loss", "train_accuracy", "val_loss", "val_accuracy", "certified_accuracy",
    "median_radius", "lost_to_rounding", "logit_lipschitz_upper_bound",
    "inverse_lipschitz_upper_bound", "block_lipschitz_upper_bound", "inverse_steps",
    "reconstruction_error", "noise_error", "epoch_seconds", "cpu_hours",
)  # fmt: skip
CLOCKED = ("epoch_seconds", "cpu_hours", "hours", "device_hours")
"""Metrics of a trial or a study that differ between equal runs."""


def check_books(books: Books, name: str, n_trials: int, n_epochs: int) -> None:
    """Check: one parent, one child per trial, every metric once per epoch, nothing running."""
    trials = [f"{number:04d}" for number in range(n_trials)]
    assert books.runs() == dict.fromkeys([name, *trials], "FINISHED"), books.runs()
    for metric in METRICS:
        steps = {run: [step for step, _ in points] for run, points in books.points(metric).items()}
        assert steps == {trial: list(range(1, n_epochs + 1)) for trial in trials}, metric
    for metric in ("test_accuracy", "test_certified_accuracy"):
        n_points = {run: len(points) for run, points in books.points(metric).items()}
        assert n_points == dict.fromkeys(trials, 1), metric


def check_projections(
    books: Books, variants: Collection[Variant], own: tuple[str, ...] = ()
) -> int:
    """Check: each variant at most once per trial, nothing running, every metric once, and a link to
    the trial it was projected from; `own` are metrics of the user's own. Returns the number of
    projections."""
    runs = books.runs(("projection",))
    assert set(runs.values()) <= {"FINISHED"}
    bounds = {run.rpartition("@")[2] for run in runs}
    assert bounds <= {network_label("", variant).rpartition("@")[2] for variant in variants}
    trials = set(books.runs(("trial",)))
    assert {run.rpartition("@")[0] for run in runs} <= trials
    sql = (
        "SELECT name, metrics.key, COUNT(*) FROM runs JOIN metrics USING (run_uuid) "
        "JOIN tags USING (run_uuid) WHERE tags.key = 'study.kind' "
        "AND tags.value = 'projection' AND lifecycle_stage = 'active' GROUP BY name, metrics.key"
    )
    counted = {(run, key): n for run, key, n in books.query(sql)}
    assert counted == {(run, key): 1 for run in runs for key in (*PROJECTED_METRICS, *own)}
    sources = dict(
        books.query(
            "SELECT child.name, parent.name FROM runs child JOIN tags ON child.run_uuid = "
            "tags.run_uuid JOIN runs parent ON parent.run_uuid = tags.value WHERE tags.key = "
            "'study.projected_from' AND child.lifecycle_stage = 'active' AND "
            "parent.lifecycle_stage = 'active'"
        )
    )
    of = {run: _label(trial) for run, trial in sources.items()}
    assert of == {run: run.rpartition("@")[0] for run in runs}
    return len(runs)


def reports(folder: Path) -> dict[str, dict[int, float]]:
    """Trial -> epoch -> time of its report, from the checkpoints in Tune's folder of a study."""
    found: dict[str, dict[int, float]] = {}
    for path in folder.glob("*/checkpoint_*/reports.json"):
        try:
            content = json.loads(path.read_text())
        except (ValueError, FileNotFoundError):
            continue  # it is being written or deleted
        epochs = {report["epoch"]: report["timestamp"] for report in content}
        trial = path.parent.parent.name[:4]
        if len(epochs) > len(found.get(trial, ())):
            found[trial] = epochs
    return found


def epochs_logged(folder: Path) -> int:
    if not (folder / "mlflow.db").exists():
        return 0
    books = Books(folder)
    try:
        return sum(len(points) for points in books.points("val_loss").values())
    except sqlite3.OperationalError:  # MLflow is creating its tables
        return 0


def descendants(pid: int) -> list[int]:
    """All descendants of a process, from /proc."""
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
