"""Nondominated points and hypervolume, on plain arrays of losses.

Objectives become losses once, here: `losses` turns every one around so that less is
better. All else takes losses.
"""

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

from study.metrics import Direction

Losses = NDArray[np.float64]


def losses(values: Sequence[Sequence[float]], directions: Sequence[Direction]) -> Losses:
    """Objective values (n, m) as losses (n, m): maximized columns change their sign.

    Raises:
        ValueError: if a value is not finite, which no point of a front may be, or the number
            of columns is not that of the directions.
    """
    array = np.asarray(values, dtype=np.float64).reshape(-1, len(directions))
    if not np.isfinite(array).all():
        raise ValueError(f"objective values must be finite, but got {array.tolist()}")
    sign = np.array([-1.0 if d is Direction.MAXIMIZE else 1.0 for d in directions])
    signed: Losses = array * sign
    return signed


def nondominated(points: Losses) -> NDArray[np.bool_]:
    """Which of the points (n, m) no other dominates: bool (n,).

    A point dominates another if it is at most as large in every column and smaller in one.
    Equal points do not dominate each other: all of them are kept, or none is.
    """
    if len(points) == 0:
        return np.zeros(0, dtype=np.bool_)
    kept: NDArray[np.bool_] = moocore.is_nondominated(points, keep_weakly=True)
    return kept


def front_numbers(points: Losses) -> NDArray[np.int64]:
    """Which front each of the points (n, m) is on: int (n,).

    0 for those that no other dominates, 1 for those that only they dominate, and so on.
    """
    numbers: NDArray[np.int64] = moocore.pareto_rank(points)
    return numbers


def hypervolume(points: Losses, reference_point: Sequence[float]) -> float:
    """Volume that the points (n, m) dominate within reference_point (m,), as losses; exact.

    A point that is not below the reference point in every column adds nothing; no points
    have volume 0.
    """
    reference = np.asarray(reference_point, dtype=np.float64)
    inside = points[(points < reference).all(axis=1)]
    if len(inside) == 0:
        return 0.0
    return float(moocore.hypervolume(inside, ref=reference))


def knee(points: Losses) -> int:
    """Index of the point (n, m) that is closest, in l2, to the best value of every column at once,
    each column scaled to its range; the first of equals. n must be 1 or more."""
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1.0)
    return int(np.linalg.norm(scaled, axis=1).argmin())
