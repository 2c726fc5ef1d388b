"""How certain accuracies counted on a split of finite size are, and a front of such accuracies."""

import math
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from study.pareto.dominance import Losses, distinct_fronts

N_DRAWS = 1000  # bootstrap draws of the split
_Z = 1.959963984540054  # of a standard normal distribution, two-sided 95 %
_VARIANCES = 5.0
"""Variance of the draws, relative to the variance of a split. The new split and the measured one
both vary, which gives 2; but points are on a front partly by luck, which makes 2 overconfident.
5 is the value from 1 to 6 with which probabilities were off by at most 0.05 in each of ten bins in
simulated studies (tests.benchmarks.certainty)."""

Counted = Mapping[int, NDArray[np.bool_]]
"""Column of the losses -> which images count as right in it for each of n networks, bool
(n, n_images): a loss in this column is minus the fraction of images that count."""


def wilson_interval(accuracy: float, n_images: int) -> tuple[float, float]:
    """95 % confidence interval of an accuracy in [0, 1] on n_images >= 1 images; an estimate
    (Wilson, Journal of the American Statistical Association 22, 1927)."""
    z2 = _Z**2 / n_images
    center = (accuracy + z2 / 2) / (1 + z2)
    half = _Z / (1 + z2) * math.sqrt(accuracy * (1 - accuracy) / n_images + z2 / (4 * n_images))
    return max(0.0, center - half), min(1.0, center + half)


def difference_p_value(right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]) -> float:
    """Probability that two networks of equal accuracy differ at least this much on the same images:
    McNemar's test, exact and two-sided (Psychometrika 12, 1947). Both arguments are (n_images,)."""
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    n = only_a + only_b
    tail = sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1))
    return float(min(1.0, 2 * tail / 2**n))


def front_probabilities(
    counted: Counted,
    losses: Losses,
    indifference: Losses,
    seed: int = 0,
    n_draws: int = N_DRAWS,
    variances: float = _VARIANCES,
) -> list[float]:
    """Probability that each network is on the front if the split were drawn anew; an estimate.

    A Bayesian bootstrap over the images (Rubin, The Annals of Statistics 9, 1981): each draw gives
    every image a random weight, the same for all networks and all counted columns. Losses in other
    columns stay as they are.

    Args:
        counted: one column or more.
        losses: (n, m), as measured.
        indifference: (m,), as for `distinct_front`, which decides what is on the front.
        variances: variance of the draws, relative to a split's; see _VARIANCES.
    """
    # Merge images with the same answers into one of larger weight: most are right for all.
    answers = np.concatenate([*counted.values()])
    packed = np.packbits(answers, axis=0)
    _, first, counts = np.unique(packed, axis=1, return_index=True, return_counts=True)
    patterns = answers[:, first].astype(np.float32)
    rng = np.random.default_rng(seed)
    weights = rng.standard_gamma(counts / variances, (n_draws, len(counts)))
    weights /= weights.sum(axis=1, keepdims=True)
    drawn = np.repeat(losses[np.newaxis], n_draws, axis=0)
    # Round, so that networks with the same answers stay equal.
    fractions = np.round(weights.astype(np.float32) @ patterns.T, 6)
    for column, of_column in zip(counted, np.split(fractions, len(counted), axis=1), strict=True):
        drawn[..., column] = -of_column
    shares: list[float] = distinct_fronts(drawn, indifference).mean(axis=0).tolist()
    return shares


def contenders(losses: Losses, n_images: int, columns: Collection[int]) -> list[int]:
    """Rows of losses (n, m) that may be on the front if the split were drawn anew; the other rows
    are dominated by more than six standard errors. `columns` are the indices of the columns, one or
    more, that are minus fractions of the n_images."""
    counted = sorted(columns)
    fractions = -losses[:, counted]
    # The variance of each fraction alone; a difference on the same images mostly varies less.
    variance = _VARIANCES * np.maximum(fractions * (1 - fractions), 1 / n_images) / n_images
    others = np.delete(losses, counted, axis=1)
    kept = []
    for index in range(len(losses)):
        no_worse = (others <= others[index]).all(axis=1)
        apart = fractions - fractions[index]
        beyond = apart > 6 * np.sqrt(variance + variance[index])
        # A fraction of 0 or 1 is the same in every draw.
        never_worse = beyond | (fractions[index] == 0) | (fractions == 1)
        if not (no_worse & never_worse.all(axis=1) & beyond.any(axis=1)).any():
            kept.append(index)
    return kept
