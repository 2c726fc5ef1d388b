"""How far studies lie apart, in hypervolume and in best accuracy, and how certain that is."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from study.metrics.definitions import VAL_ACCURACY, Direction
from study.metrics.goals import Objective
from study.metrics.reports import Variant
from study.pareto import points
from study.pareto.difference import (
    Interval,
    OnImages,
    Trainings,
    difference,
    has_spread,
    interval_by_images,
    interval_by_seeds,
)
from study.pareto.dominance import Losses, nondominated
from study.results.answers import UnsureError, counted_columns, counted_images
from study.results.front import Point
from study.results.report import Report

BEST_ACCURACY = (Objective(VAL_ACCURACY, Direction.MAXIMIZE, 0.0),)
"""With this objective alone and its reference 0, the hypervolume is the largest accuracy."""
_SEEDS, _IMAGES = "the training seeds", "the choice of the validation images"
_OWN = 1.0  # in place of the bound, for a trial's own network


@dataclass(frozen=True)
class Estimate:
    """A difference and its 95 % confidence interval, an estimate, which is None if unknown."""

    value: float
    interval: Interval | None

    @property
    def is_within_noise(self) -> bool | None:
        """Whether the difference may well be chance; None without an interval."""
        return None if self.interval is None else self.interval[0] <= 0 <= self.interval[1]


@dataclass(frozen=True)
class Differences:
    """The difference of each study but the first from the first.

    Attributes:
        hypervolume: difference in hypervolume; None if that is not defined.
        best_accuracy: difference of the largest validation accuracies, fractions; None if either
            study has no network that a front admits.
        noise: the source of noise that the intervals cover.
        unsure: why there are no intervals, a sentence; None if there are.
    """

    hypervolume: tuple[Estimate | None, ...]
    best_accuracy: tuple[Estimate | None, ...]
    noise: Literal["seeds", "images"]
    unsure: str | None

    @property
    def note(self) -> str:
        """What the intervals cover and what they do not, or why there are none."""
        if self.unsure is not None:
            return f"{self.unsure[0].upper()}{self.unsure[1:]}."
        if self.noise == "seeds":
            covered, not_covered, more = _SEEDS, _IMAGES, ""
        else:
            covered, not_covered = f"{_IMAGES}, which are the same for all studies", _SEEDS
            more = " Where every study has repeats, intervals cover the training seeds instead."
        return (
            f"95 % intervals cover {covered}. They do not cover {not_covered}, nor another run of "
            f"the search, which would try other samples.{more}"
        )


def differences(reports: Sequence[Report]) -> Differences:
    """The differences of studies with the same objectives and constraints."""
    by_seeds = all(has_spread(_trainings(one, one.objectives)) for one in reports)
    interval = interval_by_seeds if by_seeds else interval_by_images
    unsure = None
    found = list[tuple[Estimate | None, ...]]()
    for goals in (reports[0].objectives, BEST_ACCURACY):
        if not all(math.isfinite(goal.reference) for goal in goals):
            found.append((None,) * (len(reports) - 1))
            continue
        losses = [_losses(_admitted(one, goals), goals) for one in reports]
        try:
            measured = _measured(reports, goals, by_seeds)
        except UnsureError as error:
            measured, unsure = [None] * len(reports), str(error)
        reference = points.reference_losses(goals)
        estimates: list[Estimate | None] = []
        for own, of_own in zip(losses[1:], measured[1:], strict=True):
            known = measured[0] is not None and of_own is not None
            ends = interval(of_own, measured[0], reference) if known else None
            is_missing = goals is BEST_ACCURACY and not (len(losses[0]) and len(own))
            value = difference(own, losses[0], reference)
            estimates.append(None if is_missing else Estimate(value, ends))
        found.append(tuple(estimates))
    volumes, accuracies = found
    return Differences(volumes, accuracies, "seeds" if by_seeds else "images", unsure)


def best_accuracy(report: Report) -> float | None:
    """The largest validation accuracy of networks that a front admits; None if there is none."""
    of_points = [point.metrics[VAL_ACCURACY] for point in _admitted(report, BEST_ACCURACY)]
    return max(of_points, default=None)


def _admitted(report: Report, goals: Sequence[Objective]) -> list[Point]:
    """The points that a front admits and that have the metrics of the goals."""
    names = {goal.metric for goal in goals}
    return [point for point in report.points if point.is_admitted and names <= point.metrics.keys()]


def _losses(of: Sequence[Point], goals: Sequence[Objective]) -> Losses:
    return points.scaled_losses([one.metrics for one in of], goals)


def _measured(reports: Sequence[Report], goals: Sequence[Objective], by_seeds: bool) -> list[Any]:
    """What the interval of each study is computed from: Trainings if `by_seeds`, else OnImages;
    None for a study that lacks networks, or the repeats or counted accuracies that it takes."""
    if by_seeds:
        trained = [_trainings(one, goals) for one in reports]
        return [one if has_spread(one) else None for one in trained]
    on_images = [_on_images(one, goals) for one in reports]
    sizes = {of.shape[1] for one in on_images if one for of in one.counted.values()}
    if len(sizes) > 1:
        raise UnsureError("how sure differences are is not said: the validation splits differ")
    return on_images


def _on_images(report: Report, goals: Sequence[Objective]) -> OnImages | None:
    """The front by some goals, and the images that its accuracies are counted on."""
    columns, admitted = counted_columns(goals), _admitted(report, goals)
    if not columns or not admitted:
        return None
    losses = _losses(admitted, goals)
    kept = np.flatnonzero(nondominated(losses))
    found = counted_images(report.files, [admitted[row] for row in kept], [*columns])
    counted = {columns[metric]: images.astype(np.float64) for metric, images in found.items()}
    return OnImages(losses[kept], counted)


def _trainings(report: Report, goals: Sequence[Objective]) -> list[Trainings]:
    """The trainings of each sample that has networks that a front admits."""
    by_sample: dict[str, list[Point]] = defaultdict(list)
    for point in _admitted(report, goals):
        by_sample[point.first.repeat_of].append(point)
    samples = []
    for networks in by_sample.values():
        trial_ids = {r.trial_id: None for point in networks for r in point.records}
        rows = {trial_id: row for row, trial_id in enumerate(trial_ids)}
        losses = np.full((len(rows), len(networks), len(goals)), np.nan)
        for column, point in enumerate(networks):
            trained = [record.metrics for record in point.records]
            own = points.losses_of_trainings(trained, point.metrics, goals)
            losses[[rows[record.trial_id] for record in point.records], column] = own
        rungs = [_rung(point.first.variant) for point in networks]
        samples.append(Trainings(losses, np.array(rungs)))
    return samples


def _rung(variant: Variant) -> float:
    """The bound of a projection; of a member its first condition, which no other of its family has:
    equal numbers are equal networks in every training."""
    if isinstance(variant, tuple):
        return variant[0]
    return _OWN if variant is None else variant
