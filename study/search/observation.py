"""What a sampler observes of a sample: numbers that say how good it is.

Without a ladder or a family a training gives one network, and the sampler observes that network's
objectives. With a ladder the training also gives projections of the network, down to the smallest
bound of the study; with a family, its members. The values of the trial's own network then do not
say what the training adds to a front, and a projection may meet a constraint that the trained
network breaks. So the sampler observes one number: the hypervolume of all networks of the training
that the front admits.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from study.config.study import StudyConfig
from study.metrics.definitions import Direction, meaning
from study.metrics.reports import TrialReport, TrialStatus, Variant
from study.pareto import points
from study.pareto.dominance import hypervolume, nondominated


@dataclass(frozen=True)
class Outcome:
    """The outcome of a completed training.

    Attributes:
        metrics: of the trained network, whether or not the front admits it.
        admitted: variant -> metrics, for the networks that the front admits.
    """

    metrics: Mapping[str, float]
    admitted: Mapping[Variant, Mapping[str, float]]


def of_report(report: TrialReport | None, study: StudyConfig) -> Outcome | None:
    """The outcome of a training, from its last report; None unless the trial completed."""
    if report is None or report.status is not TrialStatus.COMPLETED:
        return None
    assert report.epoch is not None
    admitted = points.of_report(report, study.objectives, study.constraints)
    return Outcome(report.epoch.metrics(), admitted)


def front(reports: Sequence[TrialReport | None], study: StudyConfig) -> list[int]:
    """The front of all networks in the trials' last reports: for each network on it, the index of
    its trial in `reports`. Of equal networks the first is on the front."""
    rows, networks = list[int](), list[Mapping[str, float]]()
    for index, report in enumerate(reports):
        admitted = points.of_report(report, study.objectives, study.constraints)
        rows += [index] * len(admitted)
        networks += admitted.values()
    kept = nondominated(points.losses(networks, study.objectives))
    return [row for row, is_kept in zip(rows, kept, strict=True) if is_kept]


def directions(study: StudyConfig) -> list[Direction]:
    """Directions of the numbers that `values` returns."""
    if study.gives_several:
        return [Direction.MAXIMIZE]
    return [objective.direction for objective in study.objectives]


def values(study: StudyConfig, outcomes: Sequence[Outcome]) -> list[float]:
    """What the sampler observes of a sample: means over its trainings. Where a training gives
    several networks, of the hypervolume of these up to the study's reference point; elsewhere of
    each objective on its scale, with the reference point's value in place of an infinite mean."""
    if not study.gives_several:
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
    """Constraint's metric -> its largest violation in any training; at most 0 is feasible. Empty
    where a training gives several networks: no infeasible one counts in the hypervolume."""
    if study.gives_several:
        return {}
    worst = {
        c.metric: max(c.violation(outcome.metrics[c.metric]) for outcome in outcomes)
        for c in study.constraints
    }
    return finite(worst)


def finite(violations: Mapping[str, float]) -> dict[str, float]:
    """Violations by name, with the largest float in place of infinity, which Optuna refuses."""
    largest = sys.float_info.max
    return {name: min(max(value, -largest), largest) for name, value in violations.items()}
