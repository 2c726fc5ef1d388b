"""What a study cost: the time for which its trials ran, of processors and GPUs."""

import math
from collections.abc import Sequence

from study.metrics.definitions import CPU_HOURS, DEVICE_HOURS, GPU_HOURS, HOURS
from study.results.covered import Covered
from study.results.front import Results
from study.tracking.records import TrialRecord

_SUMS = (CPU_HOURS, GPU_HOURS)
COSTS = (HOURS, DEVICE_HOURS, *_SUMS)
"""The names of all costs of a study."""


def costs(results: Results) -> dict[str, float]:
    """What the trials cost, by name, as far as they reported; what is not known is left out.

    What a trial took after its last report, or before it failed without one, is known of none.
    """
    # A projection is made in the worker of its trial, and is in what that reports.
    trials = results.trainings
    times = [(trial.started, trial.ended) for trial in trials if trial.ended is not None]
    resources = results.study.config.resources
    devices = resources.gpus or resources.cpus
    sums = {name: _sum(trials, name) for name in _SUMS}
    return {
        HOURS: Covered(times).seconds / 3600,
        DEVICE_HOURS: devices * sum(end - start for start, end in times) / 3600,
        **{name: total for name, total in sums.items() if total is not None},
    }


def _sum(trials: Sequence[TrialRecord], name: str) -> float | None:
    """Sum over the trials that reported an epoch; None unless all of them say it."""
    values = [trial.metrics.get(name, math.nan) for trial in trials if trial.n_epochs > 0]
    return sum(values) if values and all(map(math.isfinite, values)) else None
