"""Asynchronous successive halving on several objectives with constraints.

Decides which of the trials that reached an epoch go on. With one objective: Li et al., "A System
for Massively Parallel Hyperparameter Tuning" (ASHA). With several: Schmucker et al.,
"Multi-objective Asynchronous Successive Halving", which ranks within a front by an epsilon-net.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from study.pareto.dominance import Losses, front_ranks


@dataclass(frozen=True)
class Entry:
    """A trial at a rung.

    Attributes:
        losses: (m,), one for each objective; less is better.
        violation: sum of the relative violations; 0 if every constraint holds.
    """

    losses: tuple[float, ...]
    violation: float


@dataclass
class SuccessiveHalving:
    """Rungs at epochs grace_period * reduction_factor^i, and the trials that reached them.

    Trial number t is in bracket s = t mod `brackets`. Bracket s has no rung below grace_period *
    reduction_factor^s, so that some trials get time before they are compared. All brackets share
    the entries of a rung.

    Attributes:
        rungs: epoch of the rung -> trial number -> entry.
        stopped: trial number -> epoch of the report that stopped the trial.
    """

    max_epochs: int
    grace_period: int
    reduction_factor: int
    brackets: int = 1
    rungs: dict[int, dict[int, Entry]] = field(default_factory=dict)
    stopped: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        epoch = self.grace_period
        while epoch < self.max_epochs:
            self.rungs.setdefault(epoch, {})
            epoch *= self.reduction_factor

    def goes_on(self, trial: int, epoch: int, entry: Entry) -> bool:
        """Record a trial's report at an epoch, and decide whether the trial goes on.

        At a rung a trial goes on if it is among the best ceil(n / reduction_factor) of the n trials
        that have reached the rung so far, by `best`; the first one always does. A report between
        rungs counts for the last rung before it. A trial is compared once at each rung: if its
        report comes again after a crash, the decision stands. So a stopped trial that is restored
        from an older checkpoint goes on only until the report that stopped it comes again.
        """
        entries = self.record(trial, epoch, entry)
        if entries is not None:
            n_kept = -(-len(entries) // self.reduction_factor)
            trials = sorted(entries)
            losses = np.array([entries[t].losses for t in trials], dtype=np.float64)
            violations = np.array([entries[t].violation for t in trials], dtype=np.float64)
            if trials.index(trial) not in best(losses, violations, n_kept):
                self.stopped[trial] = epoch
        return epoch < self.stopped.get(trial, epoch + 1)

    def record(self, trial: int, epoch: int, entry: Entry) -> dict[int, Entry] | None:
        """Record a report without a decision; returns the entries of its rung, including this one,
        or None if the report belongs to no rung or the trial already has an entry there."""
        own = [rung for rung in list(self.rungs)[trial % self.brackets :] if rung <= epoch]
        if not own or trial in self.rungs[own[-1]]:
            return None
        entries = self.rungs[own[-1]]
        entries[trial] = entry
        return entries


def best(losses: Losses, violations: NDArray[np.float64], n: int) -> set[int]:
    """Row numbers of the best n rows, or of all if there are fewer.

    Rows that meet the constraints come first, then the others by violation. Rows of equal violation
    are taken by nondominated front, so that no row precedes one that dominates it. Of the front
    that does not fit whole, the row that is best on average is taken first, then always the row
    farthest from all taken before it (an epsilon-net), so that those taken are spread over the
    front. Distances and averages are of losses rescaled to [0, 1] over all finite rows.

    Rows with a non-finite loss or an infinite violation come last. Equal rows keep their order.

    Args:
        losses: (rows, m), less is better.
        violations: (rows,), >= 0, 0 where the constraints hold.
    """
    usable = np.isfinite(losses).all(axis=1) & np.isfinite(violations)
    taken: list[int] = []
    for violation in np.unique(violations[usable]):
        rows = np.flatnonzero(usable & (violations == violation))
        ranks = front_ranks(losses[rows])
        for rank in np.unique(ranks):
            front, n_left = rows[ranks == rank], n - len(taken)
            if len(front) >= n_left:
                spread = _spread(_rescaled(losses[front], losses[usable]), n_left)
                return {*taken, *(int(front[i]) for i in spread)}
            taken += front.tolist()
    return {*taken, *np.flatnonzero(~usable).tolist()[: n - len(taken)]}


def _rescaled(front: Losses, usable: Losses) -> Losses:
    """Rows (n, m) with each column rescaled so that `usable` (rows, m) fills [0, 1]."""
    low, high = usable.min(axis=0), usable.max(axis=0)
    # Halved, so that the range of very large losses does not overflow.
    extent, half = high / 2 - low / 2, front / 2 - low / 2
    scaled: Losses = np.divide(half, extent, out=np.zeros_like(half), where=extent > 0)
    return scaled


def _spread(front: Losses, n: int) -> list[int]:
    """n rows of a front (rows, m): the best on average, then always the farthest from all taken."""
    chosen = [int(front.mean(axis=1).argmin())][:n]
    nearest = np.full(len(front), np.inf)
    while len(chosen) < min(n, len(front)):
        distance = np.linalg.norm(front - front[chosen[-1]], axis=1)
        nearest = np.minimum(nearest, distance)
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
    return chosen
