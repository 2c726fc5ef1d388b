"""Trainings of one sample with different seeds: their spread, whether one more is worth it, and how
certain a place on the front is.

A sample yields its own network and its projections, each measured once in every training.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from study.pareto.dominance import Losses

N_STANDARD_ERRORS = 2.0  # between two means, for these to count as different
N_DRAWS = 500  # bootstrap draws of the front

SampleLosses = Mapping[Hashable, Losses]
"""Network of a sample -> its losses (n, m) in the n >= 1 trainings that it was measured in."""


def spread(samples: Sequence[SampleLosses]) -> Losses | None:
    """Standard deviation (m,) between trainings of one sample, pooled over all networks of all
    samples; an estimate. None if nothing was trained twice."""
    rows = [losses for sample in samples for losses in sample.values()]
    n_free = sum(len(losses) - 1 for losses in rows)
    if n_free == 0:
        return None
    squares = np.sum([((losses - losses.mean(axis=0)) ** 2).sum(axis=0) for losses in rows], axis=0)
    deviation: Losses = np.sqrt(squares / n_free)
    return deviation


def is_dominated_beyond_spread(sample: SampleLosses, others: Sequence[SampleLosses]) -> bool:
    """Whether each network of a sample would be dominated by a network of another sample even if it
    were better in every objective by two standard errors of the difference.

    True for a sample without feasible networks, otherwise False while the spread is unknown.
    """
    if not sample:
        return True
    deviation = spread([sample, *others])
    rivals = [losses for other in others for losses in other.values()]
    if deviation is None or not rivals:
        return False
    means = np.array([losses.mean(axis=0) for losses in rivals])
    counts = np.array([len(losses) for losses in rivals])

    def is_dominated(losses: Losses) -> bool:
        error = np.sqrt(1 / len(losses) + 1 / counts)[:, None] * deviation
        best = losses.mean(axis=0) - N_STANDARD_ERRORS * error
        return bool(((means <= best).all(axis=1) & (means < best).any(axis=1)).any())

    return all(is_dominated(losses) for losses in sample.values())


def front_shares(
    points: Sequence[Losses], front: Callable[[Losses], NDArray[np.bool_]]
) -> list[float]:
    """How often each point is on the front when all trainings are drawn anew; an estimate.

    A bootstrap of residuals: a residual (m,) is the difference of a training from the mean of its
    point, scaled by sqrt(n / (n - 1)) since the mean was estimated from the same n trainings. Every
    training of every point draws one of all residuals with replacement, so that points trained once
    vary too.

    Args:
        points: losses (n, m) in the n trainings of each point; one or more with n >= 2.
        front: losses (n, m) as in `points` -> which rows are on the front, bool (n,).
    """
    means = np.array([losses.mean(axis=0) for losses in points])
    residuals = np.concatenate(
        [
            (losses - losses.mean(axis=0)) * np.sqrt(len(losses) / (len(losses) - 1))
            for losses in points
            if len(losses) > 1
        ]
    )
    rng = np.random.default_rng(0)
    n_trainings = np.array([len(losses) for losses in points])
    counts = np.zeros(len(points))
    for _ in range(N_DRAWS):
        drawn = means.copy()
        for n in np.unique(n_trainings):
            rows = np.flatnonzero(n_trainings == n)
            drawn[rows] += residuals[rng.integers(len(residuals), size=(len(rows), n))].mean(axis=1)
        counts += front(drawn)
    shares: list[float] = (counts / N_DRAWS).tolist()
    return shares
