"""Compare the records that Tune, Optuna and MLflow have of a study that should have succeeded."""

import json
import pickle
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg

from tests.support.launched import METRICS, PROJECTED_METRICS, reports

_OF_STUDY = (
    "runs.lifecycle_stage = 'active' AND runs.experiment_id = "
    "(SELECT experiment_id FROM experiments WHERE name = %s)"
)
# Names have the sample after a colon.
_RUNS = (
    "SELECT runs.run_uuid, tags.value, runs.name, status FROM runs JOIN tags ON "
    f"tags.run_uuid = runs.run_uuid AND tags.key = 'study.kind' WHERE {_OF_STUDY}"
)
_POINTS = (
    "SELECT runs.run_uuid, metrics.key, step FROM metrics JOIN runs ON "
    f"runs.run_uuid = metrics.run_uuid WHERE {_OF_STUDY}"
)


def problems(
    database: "psycopg.Connection[Any]",
    study: str,
    folder: Path,
    n_trials: int,
    n_epochs: int,
    own: tuple[str, ...] = (),
) -> list[str]:
    """What was lost, doubled or left running in a study whose trials should all have completed,
    by MLflow's database and Tune's folder of the study; `own` are metrics of its user's own."""
    runs = [
        (run_id, kind, name.partition(":")[0], status)
        for run_id, kind, name, status in database.execute(_RUNS, [study]).fetchall()
    ]
    points: dict[str, Counter[tuple[str, int]]] = {run_id: Counter() for run_id, *_ in runs}
    for run_id, metric, step in database.execute(_POINTS, [study]).fetchall():
        points[run_id][metric, step] += 1
    trials = [f"{number:04d}" for number in range(n_trials)]
    epochs = range(1, n_epochs + 1)
    there = Counter((kind, name) for _, kind, name, _ in runs)
    projections = {(kind, name) for kind, name in there if kind == "projection"}
    wanted = {("study", study), *(("trial", trial) for trial in trials), *projections}
    found = [
        *_differences("MLflow", wanted, there),
        *(f"{name} is left running" for *_, name, status in runs if status == "RUNNING"),
        *_of_tune(folder, trials),
        *_of_optuna(folder, n_trials),
    ]
    whole = {(metric, epoch) for metric in (*METRICS, *own) for epoch in epochs}
    once = ("test_accuracy", "test_certified_accuracy", "attacked_accuracy")
    whole |= {(metric, n_epochs) for metric in once}
    projected = {(metric, n_epochs) for metric in (*PROJECTED_METRICS, *own)}
    stored = reports(folder)
    for run_id, kind, name, _ in runs:
        if kind != "study":
            found += _differences(name, whole if kind == "trial" else projected, points[run_id])
        if kind == "trial" and (kept := stored.get(name, {}).keys()) != set(epochs):
            found.append(f"the last checkpoint of {name} has {sorted(kept)}")
    return found


def _differences(of: str, wanted: set[Any], there: Counter[Any]) -> list[str]:
    """What is lost, doubled or unexpected."""
    expected = Counter(wanted)
    return [
        *(f"{of} has lost {what}" for what in expected - there),
        *(f"{of} has {n} too many of {what}" for what, n in (there - expected).items()),
    ]


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
    states = Counter(trial.state.name for trial in state["_study"].trials)
    return [] if states == {"COMPLETE": n_trials} else [f"Optuna has {dict(states)}"]
