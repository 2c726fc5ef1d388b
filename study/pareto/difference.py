"""How sure the difference of the hypervolumes of two fronts is, as far as one source of noise says:
the images that accuracies were counted on, or the seeds of the trainings. On plain arrays of
losses: less is better.

The best value of one loss is a hypervolume too: that of one column, up to 0 for an accuracy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.pareto.dominance import Losses, hypervolume, nondominated

N_DRAWS = 1000
"""How often the images are drawn anew."""
_COVERED = 0.95
# The draws vary so many times as much, in variance, as images do: what is on a front is there
# partly by luck. In simulated pairs of studies, of 1 to 2, it is the least with which intervals
# cover at least 94 % in each kind of pair (tests.benchmarks.comparison).
_VARIANCES = 1.5
# Of the largest value of a loss. A hypervolume is linear in a loss between those of other points,
# which are mostly further apart.
_STEP = 1e-6

Interval = tuple[float, float]


@dataclass(frozen=True)
class OnImages:
    """The networks of a front, and what they classify right.

    Attributes:
        losses: (n, m).
        column: of the losses, the one that is minus the accuracy.
        right: (n, number of images), the part of its trainings, in [0, 1], in which each network
            classifies an image right.
    """

    losses: Losses
    column: int
    right: NDArray[np.float64]


@dataclass(frozen=True)
class Trainings:
    """A sample that was trained n times, and k networks that each of the trainings left.

    Attributes:
        losses: (n, k, m); NaN where a training has not left a network. Each network is left by one
            training or more.
        rungs: (k,), the coefficient that each network was projected to; 1 for the one as it was
            trained.
    """

    losses: Losses
    rungs: Losses

    @property
    def means(self) -> Losses:
        """(k, m), over the trainings."""
        means: Losses = np.nanmean(self.losses, axis=0)
        return means


def difference(first: Losses, second: Losses, reference_point: Sequence[float]) -> float:
    """Hypervolume of the first losses (n, m) minus that of the second within a reference point
    (m,), exact."""
    return hypervolume(first, reference_point) - hypervolume(second, reference_point)


def interval_by_images(
    first: OnImages,
    second: OnImages,
    reference_point: Sequence[float],
    seed: int = 0,
    n_draws: int = N_DRAWS,
) -> Interval:
    """95 % confidence interval of the difference of two hypervolumes, if the accuracies were
    counted on other images; an estimate. The other losses stay.

    A Bayesian bootstrap over the images (Rubin, The Annals of Statistics 9, 1981), which are the
    same for both: a draw gives each a weight, and accuracies and hypervolumes follow. There are two
    images more, one that all networks of the first and none of the second classify right, and the
    reverse: what Bonett and Price (Journal of Educational and Behavioral Statistics 37, 2012) add
    to a difference of paired proportions, without which two that agree on the few images there are
    would be sure to agree on all. The interval is the basic one, the quantiles of the draws
    mirrored at the difference: a front is too good by luck, and its draws are once more.

    Args:
        first, second: with the same images in the same order.
        seed: of the draws.
        n_draws: how often the images are drawn.
    """
    draws = _drawn_by_images(first, second, reference_point, seed, n_draws, _VARIANCES)
    return _basic(difference(first.losses, second.losses, reference_point), draws)


def _drawn_by_images(
    first: OnImages,
    second: OnImages,
    reference_point: Sequence[float],
    seed: int,
    n_draws: int,
    variances: float,
) -> Losses:
    """The difference in each of n_draws."""
    n = len(first.right)
    opposite = np.zeros((n + len(second.right), 2))
    opposite[:n, 0] = opposite[n:, 1] = 1
    every = np.concatenate([np.concatenate([first.right, second.right]), opposite], axis=1)
    # Images on which the networks answer alike are one, with a larger weight.
    patterns, counts = np.unique(every, axis=1, return_counts=True)
    rng = np.random.default_rng(seed)
    losses_first, losses_second = first.losses.copy(), second.losses.copy()
    draws = np.empty(n_draws)
    for index in range(n_draws):
        weights = rng.standard_gamma(counts / variances)
        accuracies = patterns @ (weights / weights.sum())
        losses_first[:, first.column] = -accuracies[:n]
        losses_second[:, second.column] = -accuracies[n:]
        draws[index] = difference(losses_first, losses_second, reference_point)
    return draws


def _basic(estimate: float, draws: Losses) -> Interval:
    """The quantiles of the draws, mirrored at the estimate."""
    tail = (1 - _COVERED) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(2 * estimate - high), float(2 * estimate - low)


def has_spread(samples: Sequence[Trainings]) -> bool:
    """Whether a sample was trained twice, without which nothing is known of the seeds."""
    return _n_free(samples) > 0


def interval_by_seeds(
    first: Sequence[Trainings], second: Sequence[Trainings], reference_point: Sequence[float]
) -> Interval:
    """95 % confidence interval of the difference of two hypervolumes, each of the means over the
    trainings of its samples, if the samples were trained with other seeds; an estimate.

    The hypervolume is taken as linear around the means. Networks of one training vary together; the
    spread between trainings is pooled over the samples of a study, the two studies have their own,
    and Student's t with Welch's degrees of freedom says how far it reaches (Welch, Biometrika 34,
    1947).

    Args:
        first, second: of the two studies, each with a sample that was trained twice, see
            `has_spread`; samples without networks are left out.
    """
    # Half a second, which only this needs.
    from scipy.special import stdtrit

    estimate = difference(_all_means(first), _all_means(second), reference_point)
    variances = [_variance(samples, reference_point) for samples in (first, second)]
    total = sum(variances)
    if total == 0:
        return estimate, estimate
    free = [_n_free(samples) for samples in (first, second)]
    n_free = total**2 / sum(v**2 / n for v, n in zip(variances, free, strict=True))
    reach = float(stdtrit(n_free, (1 + _COVERED) / 2)) * total**0.5
    return estimate - reach, estimate + reach


def _variance(samples: Sequence[Trainings], reference_point: Sequence[float]) -> float:
    """Of the hypervolume of the means over trainings, to first order."""
    slopes = _slopes(_all_means(samples), reference_point)
    n_free = _n_free(samples)
    variance, start = 0.0, 0
    for sample in samples:
        n, k, _ = sample.losses.shape
        of_sample = slopes[start : start + k]
        start += k
        if of_sample.any():
            changes = [
                float((of_sample * residuals).sum())
                for donor in samples
                for residuals in _residuals_at(donor, sample.rungs)
            ]
            variance += float(np.square(changes).sum()) / n_free / n
    return variance


def _residuals_at(donor: Trainings, rungs: Losses) -> list[Losses]:
    """By how much each training of a sample differs from its means, (k, m) each, at some rungs:
    those of the donor's networks at the nearest rungs. Nothing of what was trained once."""
    if len(donor.losses) == 1:
        return []
    at_rungs = []
    for residuals in donor.losses - donor.means:
        left = np.flatnonzero(np.isfinite(residuals).all(axis=1))
        if len(left):
            nearest = np.abs(donor.rungs[left][None, :] - rungs[:, None]).argmin(axis=1)
            at_rungs.append(residuals[left[nearest]])
    return at_rungs


def _slopes(losses: Losses, reference_point: Sequence[float]) -> Losses:
    """Derivatives (n, m) of the hypervolume of losses (n, m): central differences. What another row
    dominates has none."""
    slopes: Losses = np.zeros_like(losses)
    front = np.flatnonzero(nondominated(losses))
    steps = _STEP * np.abs(losses[front]).max(axis=0)
    for (at, column), _ in np.ndenumerate(losses[front]):
        if steps[column] > 0:
            ends = []
            for sign in (1, -1):
                moved = losses[front]
                moved[at, column] += sign * steps[column]
                ends.append(hypervolume(moved, reference_point))
            slopes[front[at], column] = (ends[0] - ends[1]) / (2 * steps[column])
    return slopes


def _all_means(samples: Sequence[Trainings]) -> Losses:
    means: Losses = np.concatenate([sample.means for sample in samples])
    return means


def _n_free(samples: Sequence[Trainings]) -> int:
    """Degrees of freedom of the spread between trainings."""
    return sum(len(sample.losses) - 1 for sample in samples)
