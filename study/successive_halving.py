"""Asynchronous successive halving on several objectives with constraints.

Which of the trials that reached an epoch go on from there. Single-objective: Li et al., "A System
for Massively Parallel Hyperparameter Tuning" (ASHA); on several objectives after Schmucker et
al., "Multi-objective Asynchronous Successive Halving", who order within a front by an
epsilon-net.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from study.pareto import Losses, front_numbers


@dataclass(frozen=True)
class Entry:
    """A trial at a rung: its losses, less is better, and how far it is from feasible.

    violation: 0 where every constraint holds; otherwise the sum of what they miss.
    """

    losses: tuple[float, ...]
    violation: float


@dataclass
class SuccessiveHalving:
    """Rungs at epochs grace_period * reduction_factor^i, and the trials that reached them.

    A trial belongs to bracket (its number modulo `brackets`), and bracket s has no rung below
    grace_period * reduction_factor^s: some trials are given time before they are compared. All
    brackets share the entries of a rung.

    Attributes:
        rungs: epoch of the rung -> trial number -> entry.
    """

    max_epochs: int
    grace_period: int
    reduction_factor: int
    brackets: int = 1
    rungs: dict[int, dict[int, Entry]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        epoch = self.grace_period
        while epoch < self.max_epochs:
            self.rungs.setdefault(epoch, {})
            epoch *= self.reduction_factor

    def goes_on(self, trial: int, epoch: int, entry: Entry) -> bool:
        """Note a trial's report at an epoch, and decide.

        At a rung it goes on if it is among the first ceil(n / reduction_factor) of the n that
        have come so far, as `order` has them; so the first one does. A report between rungs
        counts for the last rung before it, if the trial has not been there. To tell a report
        again, after a crash, takes the place of the first.
        """
        own = [rung for rung in list(self.rungs)[trial % self.brackets :] if rung <= epoch]
        if not own or (trial in self.rungs[own[-1]] and epoch != own[-1]):
            return True
        entries = self.rungs[own[-1]]
        entries[trial] = entry
        n_kept = -(-len(entries) // self.reduction_factor)
        return trial in first(entries, n_kept)


def first(entries: dict[int, Entry], n: int) -> set[int]:
    """The first n trials by `order`, without ordering the others."""
    trials = sorted(entries)
    losses = np.array([entries[trial].losses for trial in trials], dtype=np.float64)
    violations = np.array([entries[trial].violation for trial in trials], dtype=np.float64)
    return {trials[i] for i in order(losses, violations, n)}


def order(losses: Losses, violations: NDArray[np.float64], n: int | None = None) -> list[int]:
    """Row numbers from best to worst, the first n of them, or all.

    Rows that meet the constraints come first, then the others by how much they violate them.
    Among equal violations: by front, first the rows that none dominates, then those that only
    they dominate, and so on; so no row comes before one that dominates it. Within a front: the
    row that is best on average, then always the row that is farthest from all before it, so
    that any first part of the order is spread over the front (an epsilon-net). Distances and
    averages are taken on losses rescaled to [0, 1] over all finite rows.

    Rows with a loss that is not finite, or a violation that is no number or infinite, come last.
    Equal rows stand in the order of their numbers, but for others between them.

    Args:
        losses: (rows, m), less is better.
        violations: (rows,), >= 0, 0 where the constraints hold.
        n: how many are asked for.
    """
    usable = np.isfinite(losses).all(axis=1) & np.isfinite(violations)
    n = len(losses) if n is None else min(n, len(losses))
    scaled = np.zeros_like(losses)
    if usable.any():
        low, high = losses[usable].min(axis=0), losses[usable].max(axis=0)
        # Halves, lest the range of very large losses overflow.
        extent = high / 2 - low / 2
        half = losses[usable] / 2 - low / 2
        scaled[usable] = np.divide(half, extent, out=np.zeros_like(half), where=extent > 0)
    ordered: list[int] = []
    for violation in np.unique(violations[usable]):
        rows = np.flatnonzero(usable & (violations == violation))
        ranks = front_numbers(losses[rows])
        for rank in np.unique(ranks):
            if len(ordered) >= n:
                return ordered[:n]
            front = rows[ranks == rank]
            ordered += [int(front[i]) for i in _spread(scaled[front], n - len(ordered))]
    ordered += [int(row) for row in np.flatnonzero(~usable)]
    return ordered[:n]


def _spread(points: Losses, n: int) -> list[int]:
    """The first n of the points (rows, m), each as far as can be from those before it."""
    chosen = [int(points.mean(axis=1).argmin())]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < min(n, len(points)):
        distance = np.linalg.norm(points - points[chosen[-1]], axis=1)
        nearest = np.minimum(nearest, distance)
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
    return chosen
