"""The networks of a study as points, each with its mark, and the front among them."""

import math
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from study.metrics.definitions import (
    CERTIFIED_ACCURACY,
    LOST_TO_ROUNDING,
    VAL_ACCURACY,
    Direction,
    Metric,
    as_reported,
    meaning,
)
from study.metrics.goals import Constraint, Objective
from study.metrics.reports import CONTROL, TrialStatus
from study.pareto import points
from study.pareto.certainty import wilson_interval
from study.pareto.dominance import distinct_front, hypervolume, nondominated
from study.pareto.repeats import N_STANDARD_ERRORS, front_shares, spread
from study.tracking.handles import network_label
from study.tracking.study_record import TrialRecord

if TYPE_CHECKING:
    import pandas as pd

_OF_VAL_IMAGES = (VAL_ACCURACY, CERTIFIED_ACCURACY, LOST_TO_ROUNDING)  # fractions of them


class Mark(StrEnum):
    """Status of a point in the report; only `front` is the study's answer."""

    FRONT = "front"
    DOMINATED = "dominated"
    INFEASIBLE = "infeasible"
    NOT_MEASURED = "not_measured"
    CONTROL = "control"
    STOPPED_EARLY = "stopped_early"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    RUNNING = "running"


@dataclass(frozen=True)
class Point:
    """One place in the report: the network of a sample, or a projection of it.

    Attributes:
        study: name of its study.
        records: the trainings that it was measured in: one, or all that completed if a sample was
            trained repeatedly. A training that did not complete is a point of its own.
        metrics: means over the records of the metrics that all have, rounded to their resolution.
        standard_error: of those means, for the objectives, from the differences between repeats,
            pooled over all samples; an estimate. None if nothing was trained twice.
        front_share: probability in [0, 1] of being on the front if measured anew, an estimate: with
            the spread of the repeats, or else if the validation split were drawn anew. Differences
            within a metric's `indifference` count as none. None if neither is known.
        n_val_images: images of the validation split; None if unknown.
        counted: VAL_ACCURACY -> which images it classifies right, bool (n_val_images,);
            CERTIFIED_ACCURACY -> for which of them that is proven within evaluation.radius. Empty
            if unknown, or if there are several trainings.
    """

    study: str
    records: tuple[TrialRecord, ...]
    mark: Mark
    metrics: Mapping[str, float]
    standard_error: Mapping[str, float] | None = None
    front_share: float | None = None
    n_val_images: int | None = None
    counted: Mapping[str, NDArray[np.bool_]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def first(self) -> TrialRecord:
        """The record that stands for all, with its ids and parameters."""
        return self.records[0]

    @property
    def is_trial(self) -> bool:
        """Whether it is a trial's own network, not a projection or a member."""
        return self.first.variant is None

    @property
    def label(self) -> str:
        """The name within the study: trial id, and the bound of a projection or the conditions of
        a member."""
        return network_label(self.first.trial_id, self.first.variant)

    @property
    def handle(self) -> str:
        """The name of a network in commands and messages, such as "digits/0004@0.5"."""
        return f"{self.study}/{self.label}"

    @property
    def is_admitted(self) -> bool:
        """Whether a front admits it: it completed, finite and within the constraints."""
        return self.mark in (Mark.FRONT, Mark.DOMINATED)

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of the validation accuracy, an estimate; None if the number of
        images is unknown, or if repeats say how certain the accuracy is."""
        return self.interval_of(VAL_ACCURACY) if self.standard_error is None else None

    def broken(self, constraints: Sequence[Constraint]) -> dict[Constraint, float]:
        """Each of the constraints that a training breaks -> the value that breaks it most."""
        worst = {
            c: max((record.metrics[c.metric] for record in self.records), key=c.relative_violation)
            for c in constraints
        }
        return {c: value for c, value in worst.items() if not c.holds(value)}

    def interval_of(self, name: str) -> tuple[float, float] | None:
        """95 % confidence interval of a metric, an estimate: two standard errors to both sides of
        the mean of repeats, else that of a fraction of the validation images. None if unknown."""
        value = self.metrics.get(name)
        if value is None or not math.isfinite(value):
            return None
        if self.standard_error is not None:
            half = N_STANDARD_ERRORS * self.standard_error.get(name, math.nan)
            return None if math.isnan(half) else (value - half, value + half)
        if name not in _OF_VAL_IMAGES or self.n_val_images is None:
            return None
        return wilson_interval(value, self.n_val_images)


@dataclass(frozen=True)
class Ranking(ABC):
    """Networks with their marks; those of a study are in the order in which they were trained."""

    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    points: tuple[Point, ...]

    @abstractmethod
    def content(self, every: bool) -> dict[str, Any]:
        """Everything, for JSON, with the networks of the front or, if `every` is set, all."""

    @abstractmethod
    def selected(self, every: bool) -> "pd.DataFrame":
        """The networks of the front or, if `every` is set, all, a row each."""

    @property
    @abstractmethod
    def metrics(self) -> Mapping[str, Metric]:
        """What each metric of the networks means."""

    @cached_property
    def front(self) -> tuple[Point, ...]:
        """The points on the front, the best in the first objective first."""
        first = self.objectives[0]
        sign = -1 if first.direction is Direction.MAXIMIZE else 1
        front = [point for point in self.points if point.mark is Mark.FRONT]
        return tuple(sorted(front, key=lambda point: sign * point.metrics[first.metric]))

    def ranked(self, every: bool) -> list[Point]:
        """The front, then, if `every` is set, all other points."""
        others = [point for point in self.points if point.mark is not Mark.FRONT]
        return [*self.front, *(others if every else [])]

    @cached_property
    def missing(self) -> Mapping[str, int]:
        """Metric of an objective or constraint -> number of completed networks that lack it, where
        some do; controls do not count."""
        lacking = (p.metrics for p in self.points if p.mark is Mark.NOT_MEASURED)
        goals = self.objectives, self.constraints
        return Counter(name for metrics in lacking for name in not_measured(metrics, *goals))

    @cached_property
    def hypervolume(self) -> float | None:
        """Volume dominated by the front within the reference point, exact, on the objectives'
        scales (log10 for bounds of the inverse); None if an objective has no reference value."""
        return self._hypervolume([point for point in self.points if point.is_admitted])

    @cached_property
    def controls(self) -> tuple[Point, ...]:
        """The controls that the constraints would admit to a front."""
        return tuple(
            point
            for point in self.points
            if point.mark is Mark.CONTROL
            and not not_measured(point.metrics, self.objectives, self.constraints)
            and points.admitted(point.metrics, self.objectives, self.constraints)
        )

    @cached_property
    def added_to_controls(self) -> float | None:
        """What the networks add to the hypervolume of the controls; None without controls, or if an
        objective has no reference value."""
        alone = self._hypervolume(self.controls)
        if not self.controls or alone is None:
            return None
        networks = [point for point in self.points if point.is_admitted]
        both = self._hypervolume([*networks, *self.controls])
        assert both is not None
        return both - alone

    def _hypervolume(self, of_points: Sequence[Point]) -> float | None:
        if not all(math.isfinite(objective.reference) for objective in self.objectives):
            return None
        losses = points.scaled_losses([point.metrics for point in of_points], self.objectives)
        return hypervolume(losses, points.reference_losses(self.objectives))

    def dominating_control(self, point: Point) -> Point | None:
        """A control that is no worse than a point in any objective, the first; None without one."""
        listed = [point.metrics, *(control.metrics for control in self.controls)]
        own, *others = points.losses(listed, self.objectives)
        dominating = (
            c for c, loss in zip(self.controls, others, strict=True) if (loss <= own).all()
        )
        return next(dominating, None)


def marked(
    study: str,
    records: Sequence[TrialRecord],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
) -> tuple[Point, ...]:
    """The points of a study, each with its mark, from the records of its trials and projections.

    The front admits only networks of trials that ran their full budget, with finite values, within
    the constraints. On it are the networks that no other equals or beats in all objectives as
    reported; among equal networks, the one trained first and projected least.
    """
    groups = _groups(records)
    alone = [
        Point(study, tuple(group), _mark_alone(group, objectives, constraints), _mean(group))
        for group in groups
    ]
    listed = [*undominated(alone, objectives)]
    admitted = [index for index, point in enumerate(listed) if point.is_admitted]
    repeats = [
        points.losses_of_trainings([r.metrics for r in one.records], one.metrics, objectives)
        for one in (listed[index] for index in admitted)
    ]
    deviation = spread([dict(enumerate(repeats))])
    if deviation is None:
        return tuple(listed)
    within = points.indifference(objectives)
    shares = front_shares(
        repeats, lambda drawn: distinct_front(points.unscaled(drawn, objectives), within)
    )
    for index, rows, share in zip(admitted, repeats, shares, strict=True):
        errors = {
            objective.metric: meaning(objective.metric).unscaled_error(
                listed[index].metrics[objective.metric], error / math.sqrt(len(rows))
            )
            for objective, error in zip(objectives, deviation.tolist(), strict=True)
        }
        listed[index] = replace(listed[index], standard_error=errors, front_share=share)
    return tuple(listed)


def undominated(listed: Sequence[Point], objectives: Sequence[Objective]) -> tuple[Point, ...]:
    """Mark as DOMINATED each FRONT point that another equals or beats in all objectives; of equal
    points the first stays."""
    front = [point.metrics for point in listed if point.mark is Mark.FRONT]
    kept = iter(nondominated(points.losses(front, objectives)))
    return tuple(
        replace(point, mark=Mark.DOMINATED)
        if point.mark is Mark.FRONT and not next(kept)
        else point
        for point in listed
    )


def _groups(records: Sequence[TrialRecord]) -> list[list[TrialRecord]]:
    """The records of each point. Completed repeats of a sample, or of one projection of it, are one
    point; each trial that did not complete is a point of its own."""
    groups: dict[Hashable, list[TrialRecord]] = defaultdict(list)
    for record in records:
        completed = record.state is TrialStatus.COMPLETED
        key = (record.repeat_of, record.variant) if completed else record.run_id
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
    """The mark before comparison with others: FRONT if all networks of a group may be on it."""
    if group[0].state is not TrialStatus.COMPLETED:
        return Mark(group[0].state.value)
    if group[0].projected_to == CONTROL:
        return Mark.CONTROL
    if not_measured(_mean(group), objectives, constraints):
        return Mark.NOT_MEASURED
    real = all(points.admitted(r.metrics, objectives, constraints) for r in group)
    return Mark.FRONT if real else Mark.INFEASIBLE


def not_measured(
    metrics: Mapping[str, float],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
) -> list[str]:
    """The metrics of objectives and constraints that a network lacks; projections, for example, are
    not attacked."""
    needed = [*(one.metric for one in objectives), *(one.metric for one in constraints)]
    return [name for name in dict.fromkeys(needed) if name not in metrics]
