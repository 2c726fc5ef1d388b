"""What the search costs a trial, by how many trials there are already.

    python -m tests.benchmarks.search_time [--trials 100,1000,10000] [--samplers tpe,random]

The studies' own searcher and mo_asha, driven without Ray and without training, through made-up
metrics that depend on the sample: three objectives, one constraint, 20 epochs. Prints, for the
last trials before each number, the median and the quartiles of the milliseconds that the sampler
takes to propose one and to observe its end, and the scheduler for all of its reports; then what the
search's part of Tune's state takes, and this process's memory. Of the trials before those nothing
is timed: they are proposed at random, and one in three, drawn at random, passes each rung.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from optuna.samplers import RandomSampler

from study.config.study import StudyConfig
from study.metrics.definitions import BLOCK_LIPSCHITZ_UPPER_BOUND, INVERSE_STEPS, VAL_ACCURACY
from study.metrics.reports import TrialReport, TrialStatus
from study.pareto import points
from study.search.halving import Entry
from study.search.scheduler import make_halving, make_scheduler
from study.search.searcher import OptunaSearcher
from study.search.suggestion import Suggestion
from tests.benchmarks.alternating import machine
from tests.support.studies import epoch_report, tiny

_N_EPOCHS = 20
_N_LAST = 30


def _study(sampler: str, n_trials: int) -> StudyConfig:
    return tiny(
        training={"max_epochs": _N_EPOCHS},
        search={"sampler": sampler, "n_trials": n_trials},
        scheduler={"name": "mo_asha", "grace_period": 2, "reduction_factor": 3},
    )


def _report(sample: Mapping[str, Any], epoch: int, rng: np.random.Generator) -> dict[str, Any]:
    """Metrics that trade accuracy against the bound, as trainings do, with noise."""
    coeff, noise = sample["coeff"], rng.normal(0, 0.01, 3).tolist()
    trained = 1 - 0.5 / epoch
    figures = {
        VAL_ACCURACY: trained * (1 - 0.3 * (1 - coeff) ** 2 - 0.2 * sample["dropout"]) + noise[0],
        BLOCK_LIPSCHITZ_UPPER_BOUND: coeff**3 * (1.4 - 0.02 * sample["n_power_iterations"])
        + noise[1],
        INVERSE_STEPS: 2 + 8 * coeff**3 + noise[2],
    }
    status = TrialStatus.COMPLETED if epoch == _N_EPOCHS else TrialStatus.RUNNING
    return TrialReport(status, epoch_report(epoch, **figures)).to_result()


def measure(sampler: str, marks: list[int]) -> None:
    study = _study(sampler, marks[-1])
    halving = make_halving(study)
    searcher, scheduler = OptunaSearcher(study, halving), make_scheduler(study, halving)
    assert halving is not None
    rng = np.random.default_rng(0)
    of_study, at_random = searcher._study.sampler, RandomSampler(seed=0)
    timed = {number for mark in marks for number in range(mark - _N_LAST, mark)}
    seconds: list[tuple[float, float]] = []
    n_completed, begin = 0, time.perf_counter()
    for number in range(marks[-1]):
        searcher._study.sampler = of_study if number in timed else at_random
        start = time.perf_counter()
        config = searcher.suggest(str(number))
        assert isinstance(config, dict)
        sampling, scheduling = time.perf_counter() - start, 0.0
        trial: Any = SimpleNamespace(trial_id=str(number), config=config)
        sample = Suggestion(**config).sample
        for epoch in range(1, _N_EPOCHS + 1):
            result = _report(sample, epoch, rng)
            if number in timed:
                start = time.perf_counter()
                decision = scheduler.on_trial_result(None, trial, result)
                scheduling += time.perf_counter() - start
                if decision == scheduler.STOP:
                    break
            elif epoch in halving.rungs:
                halving.record(number, epoch, _entry(result))
                if rng.random() > 1 / halving.reduction_factor:
                    break
        n_completed += epoch == _N_EPOCHS
        start = time.perf_counter()
        searcher.on_trial_complete(str(number), result)
        sampling += time.perf_counter() - start
        seconds.append((sampling, scheduling))
        if number + 1 in marks:
            print(
                f"{sampler:6} {number + 1:5} trials, {n_completed:4} completed: sampler "
                f"{_spread([s for s, _ in seconds[-_N_LAST:]])}, scheduler "
                f"{_spread([s for _, s in seconds[-_N_LAST:]])} ms a trial; "
                f"{_state(searcher)}, memory "
                f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB at most; "
                f"all so far {time.perf_counter() - begin:.0f} s",
                flush=True,
            )


def _entry(result: Mapping[str, Any]) -> Entry:
    report = TrialReport.from_result(result)
    assert report is not None
    assert report.epoch is not None
    losses = points.losses([report.epoch.metrics()], tiny().objectives)[0]
    return Entry(tuple(losses.tolist()), 0.0)


def _state(searcher: OptunaSearcher) -> str:
    """How large the search's state is, and how long it takes to write."""
    with tempfile.TemporaryDirectory() as folder:
        path, start = Path(folder) / "state.pkl", time.perf_counter()
        searcher.save(str(path))
        seconds = time.perf_counter() - start
        return f"state {path.stat().st_size / 1e6:.1f} MB in {seconds:.2f} s"


def _spread(seconds: list[float]) -> str:
    low, middle, high = (1e3 * s for s in statistics.quantiles(seconds, n=4, method="inclusive"))
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", default="100,1000,10000")
    parser.add_argument("--samplers", default="tpe,random")
    arguments = parser.parse_args()
    print(machine())
    for sampler in arguments.samplers.split(","):
        measure(sampler, sorted(int(n) for n in arguments.trials.split(",")))


if __name__ == "__main__":
    main()
