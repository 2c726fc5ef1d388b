"""What a study cost in hours of the clock, CPUs and GPUs, and how its front grew meanwhile."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from study.config.search import ResourcesConfig
from study.metrics.definitions import CPU_HOURS, DEVICE_HOURS, GPU_HOURS, HOURS
from study.metrics.goals import Constraint, Objective
from study.metrics.reports import TrialStatus
from study.pareto import points
from study.pareto.dominance import GrowingFront
from study.results.front import Mark, Point
from study.tracking.study_record import TrialRecord

_SUMS = (CPU_HOURS, GPU_HOURS)
COSTS = (HOURS, DEVICE_HOURS, *_SUMS)


def costs(trials: Sequence[TrialRecord], resources: ResourcesConfig) -> dict[str, float]:
    """What trials cost, by name, as far as they reported; unknown costs are absent.

    The time after a trial's last report is never known, nor the time of a trial that failed before
    its first report. A trial's costs include its projections, which are made in its worker.

    Args:
        resources: of each trial.
    """
    times = [(trial.started, trial.ended) for trial in trials if trial.ended is not None]
    devices = resources.gpus or resources.cpus
    reported = [trial.metrics for trial in trials if trial.n_epochs > 0]
    return {
        HOURS: [0.0, *covered(times)][-1] / 3600,
        DEVICE_HOURS: devices * sum(end - start for start, end in times) / 3600,
        **{
            name: sum(metrics[name] for metrics in reported)
            for name in _SUMS
            if reported and all(math.isfinite(metrics.get(name, math.nan)) for metrics in reported)
        },
    }


def covered(times: Sequence[tuple[float, float]]) -> Iterator[float]:
    """Yield for each end, in order, how many seconds up to it the intervals (start, end) cover. All
    times are seconds of one clock; where intervals overlap, time counts once."""
    moments = sorted(
        (moment, is_end) for interval in times for is_end, moment in enumerate(interval)
    )
    before, since, n_open = 0.0, 0.0, 0
    for moment, is_end in moments:
        if is_end:
            yield before + moment - since
            n_open -= 1
            before += moment - since if n_open == 0 else 0.0
        else:
            since = moment if n_open == 0 else since
            n_open += 1


@dataclass(frozen=True)
class Growth:
    """Hypervolume after each trial that ended, exact, against what had been spent by then.

    Attributes:
        epochs: of all trials that had ended, including stopped and failed ones.
        hours: in which at least one trial ran, without the pauses before a resume.
        hypervolume: of all networks until then, without controls; repeats count as networks of
            their own.
    """

    epochs: list[int]
    hours: list[float]
    hypervolume: list[float]


def growth(
    listed: Sequence[Point], objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> Growth | None:
    """How the front grew; None if an objective has no reference value, or no trial has ended."""
    if not all(math.isfinite(objective.reference) for objective in objectives):
        return None
    by_trial: dict[str, list[TrialRecord]] = defaultdict(list)
    for point in listed:
        for record in point.records if point.mark is not Mark.CONTROL else ():
            by_trial[record.trial_id].append(record)
    # A filter may keep a projection without its trial.
    ended = [
        (trial.ended, trial, records)
        for records in by_trial.values()
        for trial in records
        if trial.variant is None and trial.ended is not None
    ]
    if not ended:
        return None
    ended.sort(key=lambda one: one[0])
    grown = Growth([], [], [])
    front = GrowingFront(points.reference_losses(objectives))
    spent = covered([(trial.started, end) for end, trial, _ in ended])
    for (_, trial, records), seconds in zip(ended, spent, strict=True):
        admitted = [
            record.metrics
            for record in records
            if record.state is TrialStatus.COMPLETED
            and points.admitted(record.metrics, objectives, constraints)
        ]
        front.add(points.scaled_losses(admitted, objectives))
        grown.epochs.append(trial.n_epochs + (grown.epochs[-1] if grown.epochs else 0))
        grown.hours.append(seconds / 3600)
        grown.hypervolume.append(front.hypervolume)
    return grown
