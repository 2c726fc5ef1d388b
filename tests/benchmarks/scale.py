"""What the driver does for each trial of a large study, and how that grows with the study.

    python -m tests.benchmarks.scale [--trials N] [--at-once N] [--reports N] [--sampler NAME]
                                     [--server]

A study as it is launched, with its searcher, recorder, snapshots, checkpoint at every message and
MLflow, on a SQLite file or, with --server, on a server of its own, as clusters have it. Its trials
last a second and do nothing but sleep and report, so many at once as a cluster would run. Each time
a tenth of them has ended a line says, per trial of that tenth: seconds of the clock, CPU seconds of
the driver, and seconds of the clock that its parts took (a part that another calls counts in both;
MLflow's is a thread beside the others). Idle is the time in which the driver waited for something
to happen: where it is nothing, the driver and not the trials sets the pace. Unsent are the trials
whose writes wait for MLflow then, in all. Afterwards: CPU seconds of the driver for a trial, from
the start until MLflow has everything; how long the command took after the last trial, the driver's
peak memory, what MLflow, Tune's storage and its state hold, and how long a report of the study
takes.
"""

import argparse
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import mlflow
import optuna
import ray
from ray.tune.execution.experiment_state import _ExperimentCheckpointManager
from ray.tune.execution.tune_controller import TuneController

from study import launch
from study.execution.callbacks.failures import Failures
from study.execution.callbacks.outbox import Outbox
from study.execution.callbacks.progress import Progress
from study.execution.callbacks.recorder import Recorder
from study.execution.driver import tuner
from study.execution.files.snapshots import Snapshots
from study.metrics.reports import TrialReport
from study.search.searcher import OptunaSearcher
from tests.benchmarks.trivial import Trivial, timed_fit
from tests.support.launched import ROOT, write_space
from tests.support.served import served
from tests.support.studies import RAW

_TRIAL_SECONDS = 1.0
# Part -> what is timed of it.
_PARTS: dict[str, list[tuple[type, str]]] = {
    "propose": [(OptunaSearcher, "suggest")],
    "tell": [(OptunaSearcher, "on_trial_complete")],
    "state": [(_ExperimentCheckpointManager, "sync_up_experiment_state")],
    "copies": [(Snapshots, "on_step_end")],
    "recorder": [(Recorder, name) for name in vars(Recorder) if name.startswith("on_")],
    "failures": [(Failures, name) for name in vars(Failures) if name.startswith("on_")],
    "view": [(Progress, "on_step_end")],
    "MLflow": [(Outbox, "_send")],
}


class OfASecond(Trivial):
    """Sleeps a second in all, in equal parts before its reports."""

    def _next_report(self) -> TrialReport:
        time.sleep(_TRIAL_SECONDS / self.n_reports)  # the training
        return super()._next_report()


def _timed(seconds: Counter[str]) -> None:
    """Let every part add its seconds to these."""

    def time_it(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[part] += time.perf_counter() - start

        return timed

    for part, functions in _PARTS.items():
        for of, name in functions:
            setattr(of, name, time_it(part, getattr(of, name)))


class _Tenths:
    """Prints what a trial cost, each time a tenth of them has ended."""

    def __init__(self, n_trials: int, seconds: Counter[str]) -> None:
        self._n_trials, self._seconds = n_trials, seconds
        self._n_before, self._before = 0, self._now()
        names = ("trials", "clock", "CPU", "idle", *_PARTS, "unsent")
        print("".join(f"{name:>9}" for name in names), flush=True)

    def _now(self) -> Counter[str]:
        own = {"clock": time.perf_counter(), "CPU": time.process_time()}
        return Counter({**self._seconds, **own})

    @property
    def last(self) -> float:
        """When the last tenth was printed, as time.perf_counter has it."""
        return self._before["clock"]

    def look(self, n_ended: int, n_unsent: int) -> None:
        n = n_ended - self._n_before
        if (n < self._n_trials / 10 and n_ended < self._n_trials) or n == 0:
            return
        now = self._now()
        each = [(now[key] - self._before[key]) / n for key in ("clock", "CPU", "idle", *_PARTS)]
        figures = "".join(f"{value:9.4f}" for value in each)
        print(f"{n_ended:9}{figures}{n_unsent:9}", flush=True)
        self._n_before, self._before = n_ended, now


def _watch(n_trials: int) -> _Tenths:
    """Time the driver's parts and its waiting, and print the tenths as it steps."""
    seconds = Counter[str]()
    _timed(seconds)
    step, tenths = TuneController.step, _Tenths(n_trials, seconds)
    timed = set[int]()

    def timed_step(self: TuneController) -> None:
        actors = self._actor_manager
        if id(actors) not in timed:
            timed.add(id(actors))
            following = actors.next

            def timed_next(*args: Any, **kwargs: Any) -> bool:
                # Without anything to do it waits; with something, it hands that on at once.
                start = time.perf_counter()
                if not (is_handled := following(*args, **kwargs)):
                    seconds["idle"] += time.perf_counter() - start
                return bool(is_handled)

            actors.next = timed_next
        step(self)
        recorder = next(one for one in self._callbacks._callbacks if isinstance(one, Recorder))
        tenths.look(len(self._stopped_trials), len(recorder._outbox._writes))

    TuneController.step = timed_step  # type: ignore[method-assign]
    return tenths


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--reports", type=int, default=5)
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--server", action="store_true")
    arguments = parser.parse_args()
    OfASecond.n_reports = arguments.reports
    tuner.TrialTrainable = OfASecond  # type: ignore[assignment,attr-defined]
    n_cpus = os.cpu_count() or 1
    raw = {
        **RAW,
        "training": {**RAW["training"], "max_epochs": arguments.reports},
        "resources": {"cpus": n_cpus / arguments.at_once},
    }
    versions = f"ray {ray.__version__}, optuna {optuna.__version__}, mlflow {mlflow.__version__}"
    print(f"{n_cpus} cores, {versions}; {arguments}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        space = write_space(folder, raw, n_trials=arguments.trials, sampler=arguments.sampler)
        os.environ["PYTHONPATH"] = str(ROOT)
        os.chdir(folder)
        tenths, cpu_seconds = _watch(arguments.trials), timed_fit(time.process_time)
        start = time.perf_counter()
        with served(folder) if arguments.server else nullcontext() as uri:
            options = ["--tracking-uri", uri] if uri else []
            # Its page, its table: no trial completes, so there is nothing on them.
            launch.app([str(space), *options], standalone_mode=False)
        cpu = sum(cpu_seconds) / arguments.trials
        print(f"the driver's CPU for a trial {cpu * 1e3:.1f} ms")
        now, peak = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"whole command {now - start:.0f} s, {now - tenths.last:.0f} s after the last trial")
        print(f"peak memory of the driver {peak / 1e3:.0f} MB")
        with closing(sqlite3.connect(folder / "mlflow.db")) as database:
            (n_runs,) = database.execute("SELECT COUNT(*) FROM runs").fetchone()
            (n_points,) = database.execute("SELECT COUNT(*) FROM metrics").fetchone()
        print(f"{n_runs} runs, {n_points} points of metrics in MLflow")
        stored = folder / "ray_results" / "tiny"
        state = sum(path.stat().st_size for path in stored.glob("*-*.*") if path.is_file())
        mlflow_bytes = (folder / "mlflow.db").stat().st_size
        for what, n_bytes in {
            "MLflow's file": mlflow_bytes,
            "the study's storage": _size(stored),
            "Tune's state in it": state,
            "the two copies of that": _size(stored / "snapshots"),
        }.items():
            print(f"{what}: {n_bytes / 1e6:.1f} MB")
        start = time.perf_counter()
        report = [sys.executable, "-m", "study.report", "tiny", "--format", "json", "--all"]
        subprocess.run(report, check=True, stdout=subprocess.DEVNULL)
        print(f"a report of it: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
