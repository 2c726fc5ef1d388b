"""Nondominated points and hypervolume, on plain arrays of losses: less is better."""

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

Losses = NDArray[np.float64]


def nondominated(losses: Losses) -> NDArray[np.bool_]:
    """Which rows of losses (n, m) no other row dominates, of equal rows the first: bool (n,).

    A row dominates another if it is at most as large in every column and smaller in one.
    """
    if len(losses) == 0:
        return np.zeros(0, dtype=np.bool_)
    kept: NDArray[np.bool_] = moocore.is_nondominated(losses, keep_weakly=False)
    return kept


def distinct_front(losses: Losses, indifference: Losses) -> NDArray[np.bool_]:
    """Which rows of losses (n, m) are on the front if small differences count as none: bool (n,).

    Rows are sorted by the column with the smallest indifference, then by the next. Each is kept
    unless a kept row equals or beats it in every column, small differences aside. So each row has a
    kept one that is better or the same: an epsilon-Pareto set (Laumanns, Thiele, Deb and Zitzler,
    Evolutionary Computation 10, 2002).

    Args:
        indifference: (m,), 0 or more: the difference of two losses up to which they count as equal,
            relative to the smaller in magnitude.
    """
    # A row off the front is covered by an earlier row.
    front = np.flatnonzero(nondominated(losses))
    kept = np.zeros(len(losses), dtype=np.bool_)
    kept[front] = distinct_fronts(losses[front][np.newaxis], indifference)[0]
    return kept


def distinct_fronts(losses: Losses, indifference: Losses) -> NDArray[np.bool_]:
    """The `distinct_front` of each of d sets of losses (d, n, m): bool (d, n)."""
    columns = np.moveaxis(losses, -1, 0)
    order = np.lexsort(columns[np.argsort(-indifference, kind="stable")])
    ordered = np.take_along_axis(columns, order[np.newaxis], axis=-1)
    # The largest loss in each column that counts as no worse than the row's.
    factor = 1 + indifference[:, np.newaxis, np.newaxis]
    above = np.where(ordered > 0, ordered * factor, ordered / factor)
    is_covered = np.zeros(order.shape, dtype=np.bool_)
    for row in range(order.shape[1]):
        is_kept = ~is_covered[:, row : row + 1]
        if is_kept.any():
            no_better = above[..., row + 1 :] >= ordered[..., row : row + 1]
            is_covered[:, row + 1 :] |= is_kept & no_better.all(axis=0)
    kept = np.zeros_like(is_covered)
    np.put_along_axis(kept, order, ~is_covered, axis=-1)
    return kept


def front_ranks(losses: Losses) -> NDArray[np.int64]:
    """Rank of the front that each row of losses (n, m) is on: int (n,), 0 for nondominated rows, 1
    for rows that only those dominate, and so on."""
    ranks: NDArray[np.int64] = moocore.pareto_rank(losses)
    return ranks


def hypervolume(losses: Losses, reference_point: Sequence[float]) -> float:
    """Volume that losses (n, m) dominate within reference_point (m,), exact. Rows that are not
    below it in every column add nothing."""
    reference = np.asarray(reference_point, dtype=np.float64)
    inside = losses[(losses < reference).all(axis=1)]
    if len(inside) == 0:
        return 0.0
    return float(moocore.hypervolume(inside, ref=reference))


class GrowingFront:
    """The nondominated rows of all losses added so far.

    Attributes:
        losses: (n, m), distinct rows.
        hypervolume: of the front within reference_point (m,), in losses; exact.
    """

    def __init__(self, reference_point: Sequence[float]) -> None:
        self._reference_point = reference_point
        self.losses: Losses = np.empty((0, len(reference_point)))
        self.hypervolume = 0.0

    def add(self, losses: Losses) -> None:
        """Add rows of losses (n, m); n may be 0."""
        rows = np.concatenate([self.losses, losses])
        kept = nondominated(rows)
        if kept[len(self.losses) :].any():
            self.losses = np.unique(rows[kept], axis=0)
            self.hypervolume = hypervolume(self.losses, self._reference_point)
