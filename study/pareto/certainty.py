"""How sure accuracies are that were counted on a split of finite size, and what follows for a
front."""

import math

import numpy as np
from numpy.typing import NDArray

from study.pareto.dominance import Losses, distinct_front

N_DRAWS = 1000
"""How often the split is drawn anew."""
# Of a standard normal distribution, two-sided 95 %.
_Z = 1.959963984540054
_VARIANCES = 5.0
"""The draws vary so many times as much, in variance, as a split does. A new split varies, and this
one did too: two. What is on a front is there partly by luck, for which two promise too much. In
simulated studies, of 1 to 6, 5 was off by at most 0.05 in each of ten bins
(tests.benchmarks.certainty)."""

Right = NDArray[np.bool_]
"""Which images of the split each of n networks classifies right: (n, number of images)."""


def wilson_interval(accuracy: float, n_images: int) -> tuple[float, float]:
    """95 % confidence interval of a fraction in [0, 1] that was counted on n_images images, which
    must be 1 or more; an estimate (Wilson, Journal of the American Statistical Association 22,
    1927)."""
    z2 = _Z**2 / n_images
    center = (accuracy + z2 / 2) / (1 + z2)
    half = _Z / (1 + z2) * math.sqrt(accuracy * (1 - accuracy) / n_images + z2 / (4 * n_images))
    return max(0.0, center - half), min(1.0, center + half)


def difference_p_value(right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]) -> float:
    """How likely two networks of equal accuracy differ at least as much as these two on the same
    images: McNemar's test, exact and two-sided (Psychometrika 12, 1947).

    Args:
        right_a, right_b: (number of images,).
    """
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    n = only_a + only_b
    tail = sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1))
    return float(min(1.0, 2 * tail / 2**n))


def front_probabilities(
    right: Right,
    losses: Losses,
    column: int,
    indifference: Losses,
    seed: int = 0,
    n_draws: int = N_DRAWS,
    variances: float = _VARIANCES,
) -> list[float]:
    """How likely each network is on the front if the split were drawn anew; an estimate.

    A Bayesian bootstrap over the images (Rubin, The Annals of Statistics 9, 1981): every draw gives
    each image a random weight, the same for all networks, and the accuracies follow. The weights
    vary as those of a fifth of the images would: see _VARIANCES. The other losses stay.

    Args:
        losses: (n, m), as they were measured.
        column: of the losses, the one that is minus the accuracy.
        indifference: (m,), the relative difference up to which two losses count as equal: see
            distinct_front, which is the front here.
        seed: of the draws.
        n_draws: how often the split is drawn.
        variances: of the draws, in those of a split.
    """
    # Images on which the networks answer alike are one, with a larger weight: most are right for
    # all.
    packed = np.packbits(right, axis=0)
    _, first, counts = np.unique(packed, axis=1, return_index=True, return_counts=True)
    patterns = right[:, first].astype(np.float32)
    rng = np.random.default_rng(seed)
    n_front = np.zeros(len(right))
    drawn = losses.copy()
    for _ in range(n_draws):
        weights = rng.standard_gamma(counts / variances)
        # Rounded, so that networks which answer alike stay equal.
        accuracies = patterns @ (weights / weights.sum()).astype(np.float32)
        drawn[:, column] = -np.round(accuracies, 6)
        n_front += distinct_front(drawn, indifference)
    shares: list[float] = (n_front / n_draws).tolist()
    return shares


def contenders(losses: Losses, n_images: int, column: int) -> list[int]:
    """Rows of losses that may be on a front if the split were drawn anew: the others are dominated
    by more than six standard errors.

    Args:
        losses: (n, m), as they were measured.
        column: of the losses, the one that is minus the accuracy.
    """
    accuracies = -losses[:, column]
    # Of one accuracy alone; of a difference on the same images it is mostly smaller.
    variance = _VARIANCES * np.maximum(accuracies * (1 - accuracies), 1 / n_images) / n_images
    others = np.delete(losses, column, axis=1)
    kept = []
    for index in range(len(accuracies)):
        no_worse = (others <= others[index]).all(axis=1)
        apart = accuracies - accuracies[index]
        beyond = apart > 6 * np.sqrt(variance + variance[index])
        if not (no_worse & beyond).any():
            kept.append(index)
    return kept
