"""What the system costs a trial: 100 trials that do nothing but report five times.

    python -m tests.benchmarks.overhead [--rounds N] [--trials N]

In turns, each in a process and an empty folder of its own, on the CPUs of this machine, a trial on
each: this project as it is launched, with its searcher, recorder, snapshots, checkpoint at every
report and resumable state; and Ray Tune with OptunaSearch (the same space, three objectives) and
MLflowLoggerCallback, as their documentation has it, without checkpoints, with and without
reuse_actors. All log to a SQLite file. Neither side logs a network: what is timed is the system.

Seconds a trial are those of Tuner.fit, which in ours lasts until MLflow has everything, over the
number of trials; start of Ray not included. With them the runs and points that MLflow holds
afterwards, and the time of the whole command.
"""

import argparse
import json
import logging
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import mlflow
import optuna
import ray
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.search.optuna import OptunaSearch

from study import launch
from study.execution.driver import tuner
from study.metrics.definitions import VAL_ACCURACY
from tests.benchmarks.trivial import N_REPORTS, Flat, Trivial, timed_fit
from tests.support.launched import ROOT, write_space
from tests.support.studies import RAW

CONTENDERS = ("ours", "stock", "stock with reuse_actors")


def _ours(folder: Path, n_trials: int) -> float:
    tuner.TrialTrainable = Trivial  # type: ignore[assignment,attr-defined]
    raw = {**RAW, "training": {**RAW["training"], "max_epochs": N_REPORTS}}
    space = write_space(folder, raw, n_trials=n_trials)
    seconds = timed_fit(time.perf_counter)
    # No trial completes, which is an error of the study and none of this benchmark.
    launch.app([str(space)], standalone_mode=False)
    return seconds[0]


def _stock(folder: Path, n_trials: int, reuse: bool) -> float:
    os.environ.update(RAY_AIR_NEW_OUTPUT="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray").setLevel(logging.ERROR)
    objectives = RAW["objectives"]
    tuner = tune.Tuner(
        tune.with_resources(Flat, {"cpu": 1}),
        param_space={
            "coeff": tune.uniform(0.3, 0.99),
            "n_power_iterations": tune.lograndint(1, 20),
            "dropout": tune.uniform(0.0, 0.5),
        },
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(
                metric=list(objectives), mode=[way[:3] for way in objectives.values()]
            ),
            num_samples=n_trials,
            max_concurrent_trials=os.cpu_count(),
            reuse_actors=reuse,
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder / "ray_results"),
            callbacks=[
                MLflowLoggerCallback(
                    tracking_uri=f"sqlite:///{folder}/mlflow.db", experiment_name="stock"
                )
            ],
            verbose=0,
        ),
    )
    seconds = timed_fit(time.perf_counter)
    tuner.fit()
    ray.shutdown()
    return seconds[0]


def _run(contender: str, n_trials: int) -> dict[str, float]:
    """A contender in a process and a folder of its own: what it took, and what MLflow holds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = ["--contender", contender, "--trials", str(n_trials)]
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.overhead", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        whole = time.perf_counter() - start
        try:
            result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            sys.exit(done.stdout + done.stderr)
        with closing(sqlite3.connect(folder / "mlflow.db")) as database:
            for key, sql in {
                "runs": "SELECT COUNT(*) FROM runs WHERE lifecycle_stage = 'active'",
                "ended": "SELECT COUNT(*) FROM runs WHERE status != 'RUNNING'",
                "points": f"SELECT COUNT(*) FROM metrics WHERE key = '{VAL_ACCURACY}'",
            }.items():
                (result[key],) = database.execute(sql).fetchone()
        return {**result, "whole": whole}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--contender", choices=CONTENDERS, help="only this, here, once")
    arguments = parser.parse_args()
    if arguments.contender:
        here = Path.cwd()
        if arguments.contender == "ours":
            seconds = _ours(here, arguments.trials)
        else:
            seconds = _stock(here, arguments.trials, arguments.contender.endswith("actors"))
        print(json.dumps({"fit": seconds}))
        return
    figures: dict[str, list[dict[str, float]]] = {contender: [] for contender in CONTENDERS}
    for _ in range(arguments.rounds):
        for contender in CONTENDERS:
            figures[contender].append(_run(contender, arguments.trials))
            print(contender, figures[contender][-1], flush=True)
    versions = f"ray {ray.__version__}, optuna {optuna.__version__}, mlflow {mlflow.__version__}"
    print(f"{os.cpu_count()} cores, {versions}, {arguments.trials} trials of {N_REPORTS} reports")
    for contender, rounds in figures.items():
        each = [one["fit"] / arguments.trials for one in rounds]
        ratio = [r["fit"] / o["fit"] for r, o in zip(rounds, figures["ours"], strict=True)]
        print(
            f"{contender}: {_spread(each)} s a trial, {_spread(ratio)} times ours; "
            f"{rounds[-1]['runs']} runs, {rounds[-1]['ended']} ended, "
            f"{rounds[-1]['points']} points; "
            f"whole command {statistics.median(one['whole'] for one in rounds):.1f} s"
        )


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
