"""Nondominated points and hypervolume, on plain arrays of losses: less is better."""

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

from study.metrics import Direction

Losses = NDArray[np.float64]


def as_losses(values: Sequence[Sequence[float]], directions: Sequence[Direction]) -> Losses:
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


def nondominated(losses: Losses) -> NDArray[np.bool_]:
    """Which rows of losses (n, m) are on the front: bool (n,).

    Those that no other row dominates, and of equal ones the first. A row dominates another if it
    is at most as large in every column and smaller in one.
    """
    if len(losses) == 0:
        return np.zeros(0, dtype=np.bool_)
    kept: NDArray[np.bool_] = moocore.is_nondominated(losses, keep_weakly=False)
    return kept


def front_ranks(losses: Losses) -> NDArray[np.int64]:
    """Rank of the front that each row of losses (n, m) is on: int (n,).

    0 for rows that no other dominates, 1 for rows that only those dominate, and so on.
    """
    ranks: NDArray[np.int64] = moocore.pareto_rank(losses)
    return ranks


def hypervolume(losses: Losses, reference_point: Sequence[float]) -> float:
    """Volume that losses (n, m) dominate within reference_point (m,), exact.

    A row that is not below the reference point in every column adds nothing; no rows have
    volume 0.
    """
    reference = np.asarray(reference_point, dtype=np.float64)
    inside = losses[(losses < reference).all(axis=1)]
    if len(inside) == 0:
        return 0.0
    return float(moocore.hypervolume(inside, ref=reference))
