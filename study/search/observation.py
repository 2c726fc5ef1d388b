"""What a sampler observes of a sample: numbers that say how good it is.

Without a ladder a training gives one network, and the sampler observes its objectives. With a
ladder it also gives projections, down to the smallest bound of the study. Then the values of its
own network do not say what it adds to a front, and its projections may meet a constraint that it
breaks. So the sampler observes one number: the hypervolume of all networks of the training that the
front admits.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from study.config.study import StudyConfig
from study.metrics.definitions import Direction, meaning
from study.metrics.reports import TrialReport, TrialStatus
from study.pareto import points
from study.pareto.dominance import hypervolume, nondominated


@dataclass(frozen=True)
class Outcome:
    """The outcome of a completed training.

    Attributes:
        metrics: of its own network, whether or not the front admits it.
        admitted: metrics of the networks that the front admits, by the bound of the projection,
            None for the training's own network.
    """

    metrics: Mapping[str, float]
    admitted: Mapping[float | None, Mapping[str, float]]


def of_report(report: TrialReport | None, study: StudyConfig) -> Outcome | None:
    """The outcome of a training by its last report; None unless the trial completed."""
    if report is None or report.status is not TrialStatus.COMPLETED:
        return None
    assert report.epoch is not None
    admitted = points.of_report(report, study.objectives, study.constraints)
    return Outcome(report.epoch.metrics(), admitted)


def front(reports: Sequence[TrialReport | None], study: StudyConfig) -> list[int]:
    """For each network on the front of trials, by their last reports, the index of its trial. Of
    equal networks the first is on the front."""
    rows, networks = list[int](), list[Mapping[str, float]]()
    for index, report in enumerate(reports):
        admitted = points.of_report(report, study.objectives, study.constraints)
        rows += [index] * len(admitted)
        networks += admitted.values()
    kept = nondominated(points.losses(networks, study.objectives))
    return [row for row, is_kept in zip(rows, kept, strict=True) if is_kept]


def directions(study: StudyConfig) -> list[Direction]:
    """Directions of the numbers that `values` returns."""
    if study.ladder:
        return [Direction.MAXIMIZE]
    return [objective.direction for objective in study.objectives]


def values(study: StudyConfig, outcomes: Sequence[Outcome]) -> list[float]:
    """Means over the trainings of a sample: the hypervolume of its networks within the study's
    reference point, or, without a ladder, each objective on its scale; the reference point's in
    place of a bound that is infinite."""
    if not study.ladder:
        of_sample = []
        for goal in study.objectives:
            scaled = meaning(goal.metric).scaled
            mean = fmean(scaled(outcome.metrics[goal.metric]) for outcome in outcomes)
            of_sample.append(mean if math.isfinite(mean) else scaled(goal.reference))
        return of_sample
    reference = points.reference_losses(study.objectives)
    fronts = [points.scaled_losses(list(o.admitted.values()), study.objectives) for o in outcomes]
    return [fmean(hypervolume(front, reference) for front in fronts)]


def violations(study: StudyConfig, outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The largest violation of each constraint, for Optuna; at most 0 is feasible. Empty with a
    ladder, whose hypervolume has no infeasible network in it."""
    if study.ladder:
        return {}
    worst = {
        c.metric: max(c.violation(outcome.metrics[c.metric]) for outcome in outcomes)
        for c in study.constraints
    }
    return finite(worst)


def finite(violations: Mapping[str, float]) -> dict[str, float]:
    """Violations by name, with the largest number for infinity, which Optuna refuses."""
    largest = sys.float_info.max
    return {name: min(max(value, -largest), largest) for name, value in violations.items()}
