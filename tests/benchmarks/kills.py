"""Kill the driver and all of Ray with -9 at random moments, resume each time, check the books.

    python -m tests.benchmarks.kills [--kills 5] [--seed 0] [--trials 10] [--own]

A study of certified answers on the digits, with mo_asha, a ladder and the control, unbroken, and
again with kills: first with one trial at a time, where both must have the same trials, rungs,
projections and metrics bit for bit; then with as many at a time as there are cores, where the order
in which trials end differs from run to run, so that the number of trials must be the same, and each
must have ended at a rung or with its whole budget. In both: no run twice, no metric twice, none
left running. Exits 1 otherwise. With --own the data, a metric and the blocks are code of a user's
own (tests/support/own_code.py). Four studies of a minute or two.
"""

import argparse
import os
import pickle
import random
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from study.metrics.reports import CONTROL
from tests.support.launched import (
    CLOCKED,
    METRICS,
    Books,
    Launch,
    check_projections,
    epochs_logged,
    run,
    write_space,
)
from tests.support.studies import CERTIFIED

_LADDER = (0.2, 0.1, 0.03)
_N_EPOCHS = 12
_RUNGS = (3, 6)


_OWN = "tests.support.own_code"
_METRIC = "own_margin"
# What is code of a user's own with --own.
_BY_USER: dict[str, Any] = {
    "data": {**CERTIFIED["data"], "name": f"{_OWN}:digits"},
    "metrics": {_METRIC: {"of": f"{_OWN}:margin", "direction": "maximize"}},
    "model": {"blocks": [6], "block": f"{_OWN}:Coupling", "head": "lipschitz"},
}


def space(folder: Path, n_trials: int, cpus: int, own: bool) -> Path:
    """Write the study's file; returns its path."""
    raw = {
        **CERTIFIED,
        **(_BY_USER if own else {}),
        "training": {**CERTIFIED["training"], "max_epochs": _N_EPOCHS},
        "scheduler": {"name": "mo_asha", "grace_period": _RUNGS[0], "reduction_factor": 2},
        "resources": {"cpus": cpus},
    }
    return write_space(folder, raw, n_trials=n_trials, n_startup_trials=4, ladder=list(_LADDER))


def _kill(folder: Path, file: Path, n_kills: int, rng: random.Random) -> int:
    """Start a study and kill it so often, then let it end; how often it really was killed."""
    n_killed = 0
    for index in range(n_kills):
        goal = epochs_logged(folder) + rng.randint(2, 7)
        delay = rng.uniform(0.0, 1.0)
        with Launch(folder, str(file), *(["--resume"] if index else [])) as launched:
            if not launched.kill_at(partial(_has_come_to, folder, goal), delay):
                return n_killed
        n_killed += 1
        print(f"  kill {n_killed} at {epochs_logged(folder)} epochs", flush=True)
    run(folder, str(file), "--resume")
    return n_killed


def _has_come_to(folder: Path, n_epochs: int) -> bool:
    return epochs_logged(folder) >= n_epochs


def _rungs(folder: Path) -> dict[int, set[int]]:
    """What the scheduler remembers at the end: epoch -> trials that reached it."""
    states = (folder / "ray_results" / "tiny").glob("searcher-state-*.pkl")
    latest = max(states, key=lambda path: path.name)
    rungs = pickle.loads(latest.read_bytes())["rungs"]
    return {epoch: set(trials) for epoch, trials in rungs.items()}


def check(
    folder: Path, n_trials: int, *, stops_between: bool = False, own: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The books of a study that ended; raises AssertionError where they are wrong.

    Args:
        stops_between: whether a trial may also be stopped behind a rung. After a kill the scheduler
            may have to decide with a later report, if it died before it remembered that of the
            rung.
        own: metrics of the user's own.
    """
    books = Books(folder)
    n_projections = check_projections(books, (*_LADDER, CONTROL), own)
    study = books.runs(("study",))
    assert study == {"tiny": "FINISHED"}, study
    trials = books.runs(("trial",))
    assert len(trials) == n_trials, trials
    reached = {}
    for metric in (*METRICS, *own):
        for name, points in books.points(metric).items():
            epochs = [epoch for epoch, _ in points]
            assert epochs == list(range(1, len(epochs) + 1)), (name, metric, epochs)
            stops = range(min(_RUNGS), _N_EPOCHS) if stops_between else _RUNGS
            ends = {("FINISHED", _N_EPOCHS), *(("KILLED", epoch) for epoch in stops)}
            assert (trials[name], epochs[-1]) in ends, (name, trials[name], epochs[-1])
            reached[int(name[-4:])] = epochs[-1]
    stopped = {name for name, state in trials.items() if state == "KILLED"}
    projected = {name.rpartition("@")[0] for name in books.runs(("projection",))}
    assert not projected & stopped, projected & stopped
    rungs = _rungs(folder)
    assert rungs == {r: {t for t, last in reached.items() if last >= r} for r in _RUNGS}, rungs
    return {
        "completed": sum(state == "FINISHED" for state in trials.values()),
        "rungs": {epoch: len(at) for epoch, at in rungs.items()},
        "projections": n_projections,
    }


def figures(folder: Path) -> dict[str, Any]:
    """Every number of a study's trials and projections that does not depend on the clock. The
    study's own run has figures of each time that it ended."""
    books = Books(folder)
    sql = (
        "SELECT name, metrics.key, step, metrics.value FROM runs JOIN metrics USING (run_uuid) "
        "JOIN tags USING (run_uuid) WHERE lifecycle_stage = 'active' AND tags.key = 'study.kind' "
        f"AND tags.value != 'study' AND metrics.key NOT IN {CLOCKED}"
    )
    return {
        "metrics": sorted(books.query(sql)),
        "samples": {key: books.params(key) for key in (*CERTIFIED["space"], "seed")},
        "rungs": _rungs(folder),
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--own", action="store_true")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    right, own = True, (_METRIC,) if arguments.own else ()
    for at_once, cpus in (("one trial", os.cpu_count() or 1), ("a trial a core", 1)):
        with tempfile.TemporaryDirectory() as unbroken, tempfile.TemporaryDirectory() as broken:
            spaces = [
                space(Path(folder), arguments.trials, cpus, arguments.own)
                for folder in (unbroken, broken)
            ]
            run(Path(unbroken), str(spaces[0]))
            n_killed = _kill(Path(broken), spaces[1], arguments.kills, rng)
            before = check(Path(unbroken), arguments.trials, own=own)
            after = check(Path(broken), arguments.trials, stops_between=cpus == 1, own=own)
            same = figures(Path(unbroken)) == figures(Path(broken))
            print(f"{at_once} at a time, {n_killed} kills: unbroken {before}, killed {after}")
            print(f"  every number the same bit for bit: {same}", flush=True)
            right &= n_killed == arguments.kills and (same or cpus == 1)
    return int(not right)


if __name__ == "__main__":
    sys.exit(main())
