"""Which networks a front admits, and their metrics as losses: rounded as reported, so that no
network wins by digits that nobody sees."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from study.metrics.definitions import Direction, meaning
from study.metrics.goals import Constraint, Objective
from study.metrics.reports import TrialReport, TrialStatus, Variant, is_control
from study.pareto.dominance import Losses


def admitted(
    metrics: Mapping[str, float],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
) -> bool:
    """Whether a completed network may be on a front: finite objectives, constraints that hold."""
    finite = all(math.isfinite(metrics.get(o.metric, math.nan)) for o in objectives)
    return finite and all(c.holds(metrics.get(c.metric, math.nan)) for c in constraints)


def as_losses(values: Sequence[Sequence[float]], directions: Sequence[Direction]) -> Losses:
    """Objective values (n, m) as losses (n, m): maximized columns change their sign. Raises
    ValueError if a value is not finite, or the number of columns is wrong."""
    array = np.asarray(values, dtype=np.float64).reshape(-1, len(directions))
    if not np.isfinite(array).all():
        raise ValueError(f"objective values must be finite, but got {array.tolist()}")
    sign = np.array([-1.0 if d is Direction.MAXIMIZE else 1.0 for d in directions])
    signed: Losses = array * sign
    return signed


def losses(metrics: Sequence[Mapping[str, float]], objectives: Sequence[Objective]) -> Losses:
    """Metrics of n admitted networks as losses (n, m), each rounded to its resolution."""
    values = [[_rounded(of_network, o) for o in objectives] for of_network in metrics]
    return as_losses(values, [o.direction for o in objectives])


def scaled_losses(
    metrics: Sequence[Mapping[str, float]], objectives: Sequence[Objective]
) -> Losses:
    """Losses (n, m) on the scales of hypervolume and knee: log10 of metrics that run over decades,
    the others as they are. The same rows dominate as in `losses`."""
    values = [
        [meaning(o.metric).scaled(_rounded(of_network, o)) for o in objectives]
        for of_network in metrics
    ]
    return as_losses(values, [o.direction for o in objectives])


def _rounded(metrics: Mapping[str, float], objective: Objective) -> float:
    return meaning(objective.metric).resolution.round(metrics[objective.metric])


def losses_of_trainings(
    trainings: Sequence[Mapping[str, float]],
    compared: Mapping[str, float],
    objectives: Sequence[Objective],
) -> Losses:
    """Scaled losses (n, m) of a network in its n trainings, shifted so that their mean is the loss
    of `compared`, the metrics by which it is compared with other networks: a mean of logarithms is
    less than the logarithm of the mean."""
    losses = scaled_losses(trainings, objectives)
    centered: Losses = losses + scaled_losses([compared], objectives) - losses.mean(axis=0)
    return centered


def unscaled(losses: Losses, objectives: Sequence[Objective]) -> Losses:
    """Losses (n, m) as `losses` returns them, from losses (n, m) as `scaled_losses` does."""
    columns = losses.copy()
    for column, objective in enumerate(objectives):
        if meaning(objective.metric).in_decades:
            sign = -1.0 if objective.direction is Direction.MAXIMIZE else 1.0
            columns[:, column] = sign * 10 ** (sign * losses[:, column])
    return columns


def indifference(objectives: Sequence[Objective]) -> Losses:
    """Relative difference (m,) up to which two losses count as equal."""
    return np.array([meaning(o.metric).indifference for o in objectives])


def reference_losses(objectives: Sequence[Objective]) -> list[float]:
    """Reference point (m,) of the hypervolume, scaled as in `scaled_losses`."""
    values = [[meaning(o.metric).scaled(o.reference) for o in objectives]]
    reference: list[float] = as_losses(values, [o.direction for o in objectives])[0].tolist()
    return reference


def of_report(
    report: TrialReport | None,
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
) -> dict[Variant, Mapping[str, float]]:
    """Metrics of the admitted networks in a trial's last report, by variant; empty unless the trial
    completed."""
    if report is None or report.status is not TrialStatus.COMPLETED:
        return {}
    assert report.epoch is not None
    networks: dict[Variant, Mapping[str, float]] = {None: report.epoch.metrics()}
    networks.update((one.variant, one.metrics()) for one in report.projections)
    return {
        variant: metrics
        for variant, metrics in networks.items()
        if not is_control(variant) and admitted(metrics, objectives, constraints)
    }
