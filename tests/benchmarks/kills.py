"""Kill the driver and all of Ray with -9 at random moments, resume each time, check the books.

    python -m tests.benchmarks.kills [--kills 5] [--seed 0] [--trials 10] [--own] [--family] [--s3]

A study of certified answers on the digits, with mo_asha, a ladder and the control, unbroken, and
again with kills: first with one trial at a time, where both must have the same trials, rungs,
projections and metrics bit for bit; then with as many at a time as there are cores, where the order
in which trials end differs from run to run, so that the number of trials must be the same, and each
must have ended at a rung or with its whole budget. In both: no run twice, no metric twice, none
left running. Exits 1 otherwise. With --own the data, a metric and the blocks are code of a user's
own (tests/support/own_code.py). With --family each trial trains a family, in place of a network
with a ladder. With --s3 checkpoints and states are in a bucket, which moto serves from this
process. Four studies of a minute or two.
"""

import argparse
import logging
import os
import pickle
import random
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import boto3
from fsspec.core import url_to_fs
from moto.server import ThreadedMotoServer

from study.config.file import load
from study.metrics.reports import CONTROL, Variant
from study.trial.training import Training
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
from tests.support.studies import ABSENT, CERTIFIED, changed

_LADDER = (0.2, 0.1, 0.03)
_N_EPOCHS = 12
_RUNGS = (3, 6)
_BUCKET = "studies"

_OWN = "tests.support.own_code"
_METRIC = "own_margin"
# What is code of a user's own with --own.
_BY_USER: dict[str, Any] = {
    "data": {**CERTIFIED["data"], "name": f"{_OWN}:digits"},
    "metrics": {_METRIC: {"of": f"{_OWN}:margin", "direction": "maximize"}},
    "model": {"blocks": [6], "block": f"{_OWN}:Coupling", "head": "lipschitz"},
}


# What trains families with --family.
_FAMILY: dict[str, Any] = {
    "family": {
        "coeff": {"low": 0.05, "high": 0.5, "log": True},
        "margin": {"low": 0.1, "high": 0.9},
    },
    "space": {key: of for key, of in CERTIFIED["space"].items() if key != "coeff"},
    "training": changed(CERTIFIED["training"], {"margin": ABSENT, "max_epochs": _N_EPOCHS}),
}


def space(folder: Path, n_trials: int, cpus: int, own: bool, family: bool) -> Path:
    """Write the study's file; returns its path."""
    raw = {
        **CERTIFIED,
        **(_BY_USER if own else {}),
        "training": {**CERTIFIED["training"], "max_epochs": _N_EPOCHS},
        **(_FAMILY if family else {}),
        "scheduler": {"name": "mo_asha", "grace_period": _RUNGS[0], "reduction_factor": 2},
        "resources": {"cpus": cpus},
    }
    further = {"members": 3} if family else {"ladder": list(_LADDER)}
    return write_space(folder, raw, n_trials=n_trials, n_startup_trials=4, **further)


def variants_of(file: Path) -> list[Variant]:
    """Of the networks besides its own that a trial of the study in a file may give."""
    study = load(file)
    if not study.family:
        return [*_LADDER, CONTROL]
    trial = study.resolve({key: p.extremes()[0] for key, p in study.space}, seed=0)
    members, controls = (
        [tuple(one.values()) for one in family.spread(1 + trial.members)]
        for family in (Training(trial).family, Training(trial.alone).family)
        if family is not None
    )
    return [*members, CONTROL, *((CONTROL, *one) for one in controls)]


def storage(folder: Path, in_bucket: bool = False) -> str:
    """Where the study of a folder keeps its state."""
    return f"s3://{_BUCKET}/{folder.name}" if in_bucket else f"{folder}/ray_results"


@contextmanager
def bucket() -> Iterator[None]:
    """Serve a bucket, to this process and to those that it starts."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    # It would print every request.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    os.environ |= {
        "AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port()),
        "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    boto3.client("s3").create_bucket(Bucket=_BUCKET)
    try:
        yield
    finally:
        server.stop()


def _kill(folder: Path, options: list[str], n_kills: int, rng: random.Random) -> int:
    """Start a study and kill it so often, then let it end; how often it really was killed."""
    n_killed = 0
    for index in range(n_kills):
        goal = epochs_logged(folder) + rng.randint(2, 7)
        delay = rng.uniform(0.0, 1.0)
        with Launch(folder, *options, *(["--resume"] if index else [])) as launched:
            if not launched.kill_at(partial(_has_come_to, folder, goal), delay):
                return n_killed
        n_killed += 1
        print(f"  kill {n_killed} at {epochs_logged(folder)} epochs", flush=True)
    run(folder, *options, "--resume")
    return n_killed


def _has_come_to(folder: Path, n_epochs: int) -> bool:
    return epochs_logged(folder) >= n_epochs


def _rungs(kept: str) -> dict[int, set[int]]:
    """What the scheduler remembers at the end, in a study's storage: epoch -> trials that reached
    it."""
    files, path = url_to_fs(kept)
    latest = max(files.glob(f"{path}/tiny/searcher-state-*.pkl"))
    rungs = pickle.loads(files.cat_file(latest))["rungs"]
    return {epoch: set(trials) for epoch, trials in rungs.items()}


def check(
    folder: Path,
    n_trials: int,
    *,
    variants: Collection[Variant],
    stops_between: bool = False,
    own: tuple[str, ...] = (),
    in_bucket: bool = False,
) -> dict[str, Any]:
    """The books of a study that ended; raises AssertionError where they are wrong.

    Args:
        stops_between: whether a trial may also be stopped behind a rung. After a kill the scheduler
            may have to decide with a later report, if it died before it remembered that of the
            rung.
        variants: of the networks besides its own that a trial may give.
        own: metrics of the user's own.
    """
    books = Books(folder)
    n_projections = check_projections(books, variants, own)
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
    rungs = _rungs(storage(folder, in_bucket))
    assert rungs == {r: {t for t, last in reached.items() if last >= r} for r in _RUNGS}, rungs
    return {
        "completed": sum(state == "FINISHED" for state in trials.values()),
        "rungs": {epoch: len(at) for epoch, at in rungs.items()},
        "projections": n_projections,
    }


def figures(folder: Path, in_bucket: bool = False) -> dict[str, Any]:
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
        "rungs": _rungs(storage(folder, in_bucket)),
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--own", action="store_true")
    parser.add_argument("--family", action="store_true")
    parser.add_argument("--s3", action="store_true")
    arguments = parser.parse_args()
    with bucket() if arguments.s3 else nullcontext():
        return _check_all(arguments)


def _check_all(arguments: argparse.Namespace) -> int:
    rng, in_bucket = random.Random(arguments.seed), arguments.s3
    right, own = True, (_METRIC,) if arguments.own else ()
    for at_once, cpus in (("one trial", os.cpu_count() or 1), ("a trial a core", 1)):
        with tempfile.TemporaryDirectory() as unbroken, tempfile.TemporaryDirectory() as broken:
            folders, options = (Path(unbroken), Path(broken)), []
            for folder in folders:
                file = space(folder, arguments.trials, cpus, arguments.own, arguments.family)
                options.append([str(file), "--storage-path", storage(folder, in_bucket)])
            run(folders[0], *options[0])
            n_killed = _kill(folders[1], options[1], arguments.kills, rng)
            ask = partial(
                check,
                n_trials=arguments.trials,
                variants=variants_of(file),
                own=own,
                in_bucket=in_bucket,
            )
            before, after = ask(folders[0]), ask(folders[1], stops_between=cpus == 1)
            same = figures(folders[0], in_bucket) == figures(folders[1], in_bucket)
            print(f"{at_once} at a time, {n_killed} kills: unbroken {before}, killed {after}")
            print(f"  every number the same bit for bit: {same}", flush=True)
            right &= n_killed == arguments.kills and (same or cpus == 1)
    return int(not right)


if __name__ == "__main__":
    sys.exit(main())
