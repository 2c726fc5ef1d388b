"""The results of a study: every point with its mark, and the front among them."""

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from study.metrics.definitions import Direction, as_reported
from study.metrics.goals import Constraint, Objective
from study.metrics.reports import TrialStatus
from study.pareto import points
from study.pareto.dominance import hypervolume, nondominated
from study.pareto.repeats import front_shares, spread
from study.tracking.handles import network_label
from study.tracking.records import StudyRecord, TrialRecord


class Mark(StrEnum):
    """How a point stands in the results; only `front` is the study's answer."""

    FRONT = "front"
    DOMINATED = "dominated"
    INFEASIBLE = "infeasible"
    STOPPED_EARLY = "stopped_early"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    RUNNING = "running"


@dataclass(frozen=True)
class Point:
    """One place in the results: the network of a sample, or a projection of it.

    Attributes:
        records: the trainings that it was measured in: one, or, where a sample was trained
            repeatedly, all that completed; one that did not is a point by itself.
        metrics: mean over the records, of each metric that all of them have, rounded to its
            resolution.
        standard_error: of that mean, for the objectives: estimated from the differences between
            repeats, pooled over all samples; None where nothing was trained twice.
        front_share: how likely the point is on the front if it were measured anew, in [0, 1]; an
            estimate. Where samples were trained repeatedly, with the spread of the repeats; else if
            the validation split were drawn anew. Differences within a metric's `indifference`
            count as none there. None where neither is known.
        right: which images of the validation split it classifies right, bool (number of images,);
            None where that is not known, or of several trainings.
    """

    records: tuple[TrialRecord, ...]
    mark: Mark
    metrics: Mapping[str, float]
    standard_error: Mapping[str, float] | None = None
    front_share: float | None = None
    right: NDArray[np.bool_] | None = field(default=None, repr=False, compare=False)

    @property
    def first(self) -> TrialRecord:
        """The record that stands for all of them: ids and parameters are its."""
        return self.records[0]

    @property
    def is_trial(self) -> bool:
        """A network as it was trained, and no projection of one."""
        return self.first.projected_to is None

    @property
    def label(self) -> str:
        """The network within its study: trial id, and the coefficient of a projection."""
        return network_label(self.first.trial_id, self.first.projected_to)


@dataclass(frozen=True)
class Results:
    """A study's trials and their projections, each point with its mark.

    Attributes:
        hypervolume: volume dominated by the front within the reference point, exact, in the
            product of the objectives' units; None where an objective has no reference.
        where: the conditions that its networks were chosen by, as they were given; empty for all.
        n_val_images: of the validation split; None where the networks of the front do not say.
        unsure: why nothing is said of how sure the front is, a sentence; None if it is said.
    """

    study: StudyRecord
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    points: tuple[Point, ...]
    hypervolume: float | None
    where: str = ""
    n_val_images: int | None = None
    unsure: str | None = None

    @property
    def front(self) -> tuple[Point, ...]:
        """The points on the front, the best in the first objective first."""
        first = self.objectives[0]
        sign = -1 if first.direction is Direction.MAXIMIZE else 1
        front = [point for point in self.points if point.mark is Mark.FRONT]
        return tuple(sorted(front, key=lambda point: sign * point.metrics[first.metric]))

    @property
    def trainings(self) -> list[TrialRecord]:
        """The record of every trial, repeats too."""
        return [record for point in self.points if point.is_trial for record in point.records]

    def handle(self, point: Point) -> str:
        """What a network is called wherever one is asked for: "digits/0004@0.5"."""
        return f"{self.study.name}/{point.label}"

    def ranked(self, every: bool) -> list[Point]:
        """The front, and behind it, if `every` is set, all other points."""
        others = [point for point in self.points if point.mark is not Mark.FRONT]
        return [*self.front, *(others if every else [])]


def collect(
    study: StudyRecord,
    records: Sequence[TrialRecord],
    objectives: tuple[Objective, ...] | None = None,
    constraints: tuple[Constraint, ...] | None = None,
    where: str = "",
) -> Results:
    """Mark each point. The front admits only networks of trials that ran their full budget, with
    finite values, within the constraints. Of these it has those that no other one equals or beats
    in all objectives as they are reported; of equal ones the first trained and least projected.

    Args:
        records: trials and projections.
        objectives, constraints: in place of the study's own.
        where: the conditions that the records were chosen by.
    """
    objectives = objectives or study.config.objectives
    if constraints is None:
        constraints = study.config.constraints
    groups = _groups(records)
    marks = [_mark_alone(group, objectives, constraints) for group in groups]
    metrics = [_mean(group) for group in groups]
    front = [index for index, mark in enumerate(marks) if mark is Mark.FRONT]
    losses = points.losses([metrics[index] for index in front], objectives)
    for index, kept in zip(front, nondominated(losses), strict=True):
        if not kept:
            marks[index] = Mark.DOMINATED
    repeats = [points.losses([r.metrics for r in groups[i]], objectives) for i in front]
    errors: dict[int, Mapping[str, float]] = {}
    shares: dict[int, float] = {}
    deviation = spread([dict(enumerate(repeats))])
    if deviation is not None:
        names = [objective.metric for objective in objectives]
        for index, rows in zip(front, repeats, strict=True):
            errors[index] = dict(zip(names, deviation / math.sqrt(len(rows)), strict=True))
        drawn = front_shares(repeats, points.indifference(objectives))
        shares = dict(zip(front, drawn, strict=True))
    volume = None
    if all(math.isfinite(objective.reference) for objective in objectives):
        volume = hypervolume(losses, points.reference_losses(objectives))
    return Results(
        study,
        objectives,
        constraints,
        tuple(
            Point(tuple(group), marks[i], metrics[i], errors.get(i), shares.get(i))
            for i, group in enumerate(groups)
        ),
        volume,
        where.strip(),
    )


def _groups(records: Sequence[TrialRecord]) -> list[list[TrialRecord]]:
    """The records of each point. Completed repeats of a sample, or of one projection of it, are one
    point; each trial that did not complete is a point by itself."""
    groups: dict[Hashable, list[TrialRecord]] = defaultdict(list)
    for record in records:
        completed = record.state is TrialStatus.COMPLETED
        key = (record.repeat_of, record.projected_to) if completed else record.run_id
        groups[key].append(record)
    return list(groups.values())


def _mean(group: Sequence[TrialRecord]) -> Mapping[str, float]:
    common = [name for name in group[0].metrics if all(name in r.metrics for r in group)]
    return as_reported({name: fmean(r.metrics[name] for r in group) for name in common})


def _mark_alone(
    group: Sequence[TrialRecord],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
) -> Mark:
    """The mark of a point before it is compared with others: FRONT if each of its networks may be
    on the front."""
    if group[0].state is not TrialStatus.COMPLETED:
        return Mark(group[0].state.value)
    real = all(points.admitted(r.metrics, objectives, constraints) for r in group)
    return Mark.FRONT if real else Mark.INFEASIBLE
