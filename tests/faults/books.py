"""The books of a study that was to end well: Tune's, Optuna's and MLflow's, against each other."""

import json
import pickle
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.support.launched import METRICS, PROJECTED_METRICS, reports


@dataclass
class Findings:
    """What is wrong, by kind; what was trained twice is no fault, and counted all the same, where
    it shows: an epoch that was lost before MLflow had it leaves no trace."""

    trials_lost: int = 0
    runs_doubled: int = 0
    metrics_lost: int = 0
    metrics_doubled: int = 0
    runs_left_running: int = 0
    books_disagree: list[str] = field(default_factory=list)
    epochs_trained_twice: int = 0

    @property
    def are_none(self) -> bool:
        faults = {
            name: value for name, value in vars(self).items() if not name.startswith("epochs")
        }
        return not any(faults.values())


class Books:
    """What stands in MLflow's database of one study, read without MLflow."""

    def __init__(self, connection: "psycopg.Connection[Any]", study: str) -> None:
        self._connection = connection
        self._study = study

    def _query(self, sql: str) -> list[tuple[Any, ...]]:
        of_study = (
            "runs.experiment_id = (SELECT experiment_id FROM experiments WHERE name = %s) "
            "AND runs.lifecycle_stage = 'active'"
        )
        return self._connection.execute(sql.replace("OF_STUDY", of_study), [self._study]).fetchall()

    def runs(self) -> list[tuple[str, str, str, str]]:
        """(id, kind, name without the sample, status) of each run."""
        sql = (
            "SELECT runs.run_uuid, tags.value, runs.name, status FROM runs JOIN tags ON "
            "tags.run_uuid = runs.run_uuid AND tags.key = 'study.kind' WHERE OF_STUDY"
        )
        return [(i, kind, name.partition(":")[0], st) for i, kind, name, st in self._query(sql)]

    def points(self) -> dict[str, dict[tuple[str, int], list[int]]]:
        """Run id -> (metric, step) -> the times of its points, milliseconds."""
        sql = (
            "SELECT runs.run_uuid, metrics.key, step, metrics.timestamp FROM metrics JOIN runs ON "
            "runs.run_uuid = metrics.run_uuid WHERE OF_STUDY"
        )
        points: dict[str, dict[tuple[str, int], list[int]]] = {}
        for run, key, step, milliseconds in self._query(sql):
            points.setdefault(run, {}).setdefault((key, step), []).append(milliseconds)
        return points


def check(books: Books, folder: Path, n_trials: int, n_epochs: int) -> Findings:
    """Compare the books of a study of which every trial was to complete.

    Args:
        folder: where Tune keeps it.
    """
    findings = Findings()
    runs, points = books.runs(), books.points()
    names = Counter((kind, name) for _, kind, name, _ in runs)
    trials = [f"{number:04d}" for number in range(n_trials)]
    findings.trials_lost = sum(("trial", trial) not in names for trial in trials)
    findings.runs_doubled = sum(n - 1 for n in names.values())
    findings.runs_left_running = sum(status == "RUNNING" for *_, status in runs)
    unknown = {name for kind, name in names if kind == "trial"} - set(trials)
    if unknown:
        findings.books_disagree.append(f"MLflow has trials that were not to be: {sorted(unknown)}")
    if names.total() - sum(n for (kind, _), n in names.items() if kind != "study") != 1:
        findings.books_disagree.append("MLflow has not one parent run")
    whole = {(m, epoch) for m in METRICS for epoch in range(1, n_epochs + 1)}
    whole.add(("test_accuracy", n_epochs))
    projected = {(m, n_epochs) for m in PROJECTED_METRICS}
    stored = reports(folder)
    for run, kind, name, _ in runs:
        if kind == "study":
            continue
        expected = whole if kind == "trial" else projected
        have = points.get(run, {})
        findings.metrics_lost += len(expected - have.keys())
        findings.metrics_doubled += sum(len(times) - 1 for times in have.values())
        if have.keys() - expected:
            findings.books_disagree.append(f"{name} has {sorted(have.keys() - expected)[0]}")
        if kind == "trial":
            kept = stored.get(name, {})
            if kept.keys() != set(range(1, n_epochs + 1)):
                findings.books_disagree.append(f"the last checkpoint of {name} has {sorted(kept)}")
            # The first training of an epoch is the one that MLflow keeps.
            findings.epochs_trained_twice += sum(
                have.get(("val_loss", epoch)) != [round(at * 1000)] for epoch, at in kept.items()
            )
    findings.books_disagree += _of_tune(folder, trials) + _of_optuna(folder, n_trials)
    return findings


def _of_tune(folder: Path, trials: list[str]) -> list[str]:
    states = max(folder.glob("experiment_state-*.json"))
    of_trials: list[Mapping[str, Any]] = [
        json.loads(state) for state, _ in json.loads(states.read_text())["trial_data"]
    ]
    numbers = sorted(f"{of['config']['number']:04d}" for of in of_trials)
    ended = Counter(of["status"] for of in of_trials)
    if numbers != trials or ended != {"TERMINATED": len(trials)}:
        return [f"Tune has {numbers}, which are {dict(ended)}"]
    return []


def _of_optuna(folder: Path, n_trials: int) -> list[str]:
    state = pickle.loads(max(folder.glob("searcher-state-*.pkl")).read_bytes())
    states = Counter(trial.state.name for trial in state["study"].trials)
    return [] if states == {"COMPLETE": n_trials} else [f"Optuna has {dict(states)}"]
