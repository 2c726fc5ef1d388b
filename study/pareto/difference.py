"""Difference of two fronts in hypervolume, and its confidence interval by one source of noise: the
images that accuracies are counted on, or the training seeds. Losses are arrays: less is better.

The hypervolume of a single loss is the distance of its best value from the reference point: for an
accuracy and the reference 0, the largest accuracy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.pareto.dominance import Losses, hypervolume, nondominated

N_DRAWS = 1000  # bootstrap draws of the images
_COVERED = 0.95
# Variance of draws, relative to that of images: points are on a front partly by luck. This is the
# least value from 1 to 2 whose intervals cover at least 94 % in each kind of simulated pair of
# studies (tests.benchmarks.comparison).
_VARIANCES = 1.5
# Step of the central differences, relative to the largest loss of a column. The hypervolume is
# linear in a loss up to the losses of other points, which are mostly further away.
_STEP = 1e-6

Interval = tuple[float, float]


@dataclass(frozen=True)
class OnImages:
    """The networks of a front and what they classify right.

    Attributes:
        losses: (n, m).
        counted: column of losses, one or more -> (n, n_images), the fraction of each network's
            trainings for which an image counts as right: the loss is minus the mean over images.
    """

    losses: Losses
    counted: Mapping[int, NDArray[np.float64]]


@dataclass(frozen=True)
class Trainings:
    """The k networks of a sample that was trained n times.

    Attributes:
        losses: (n, k, m); NaN where a training did not leave a network. Each network was left by
            one training or more.
        rungs: (k,), the bound that each network was projected to; 1 if it was not.
    """

    losses: Losses
    rungs: Losses

    @property
    def means(self) -> Losses:
        """Means (k, m) over the trainings."""
        means: Losses = np.nanmean(self.losses, axis=0)
        return means


def difference(first: Losses, second: Losses, reference_point: Sequence[float]) -> float:
    """Hypervolume of the first losses (n, m) minus the second's, both within a reference point
    (m,); exact."""
    return hypervolume(first, reference_point) - hypervolume(second, reference_point)


def interval_by_images(
    first: OnImages,
    second: OnImages,
    reference_point: Sequence[float],
    seed: int = 0,
    n_draws: int = N_DRAWS,
) -> Interval:
    """95 % confidence interval of the difference in hypervolume if accuracies were counted on other
    images; an estimate. Losses in other columns stay as they are.

    A Bayesian bootstrap over the images (Rubin, The Annals of Statistics 9, 1981): each draw
    weights the images at random, alike for both fronts. Two images are added, one that all networks
    of the first and none of the second classify right, and the reverse, as Bonett and Price
    (Journal of Educational and Behavioral Statistics 37, 2012) do for paired proportions: otherwise
    fronts that agree on a few images would be certain to agree on all. The interval is the basic
    bootstrap interval, quantiles mirrored at the difference: a front looks too good by luck, and
    its draws look too good once more.

    Args:
        first, second: with the same images in the same order, and the same counted columns.
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
    """The difference in hypervolume in each draw, (n_draws,)."""
    parts = [of.counted[column] for of in (first, second) for column in first.counted]
    n = len(first.losses) * len(first.counted)
    opposite = np.zeros((sum(map(len, parts)), 2))
    opposite[:n, 0] = opposite[n:, 1] = 1
    every = np.concatenate([np.concatenate(parts), opposite], axis=1)
    # Merge images with the same answers into one of larger weight.
    patterns, counts = np.unique(every, axis=1, return_counts=True)
    rng = np.random.default_rng(seed)
    losses_first, losses_second = first.losses.copy(), second.losses.copy()
    draws = np.empty(n_draws)
    for index in range(n_draws):
        weights = rng.standard_gamma(counts / variances)
        fractions = patterns @ (weights / weights.sum())
        for drawn, of_front in ((losses_first, fractions[:n]), (losses_second, fractions[n:])):
            by_column = of_front.reshape(len(first.counted), -1)
            for column, of_column in zip(first.counted, by_column, strict=True):
                drawn[:, column] = -of_column
        draws[index] = difference(losses_first, losses_second, reference_point)
    return draws


def _basic(estimate: float, draws: Losses) -> Interval:
    """The interval from the quantiles of the draws, mirrored at the estimate."""
    tail = (1 - _COVERED) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(2 * estimate - high), float(2 * estimate - low)


def has_spread(samples: Sequence[Trainings]) -> bool:
    """Whether any sample was trained twice; otherwise the effect of the seeds is unknown."""
    return _n_free(samples) > 0


def interval_by_seeds(
    first: Sequence[Trainings], second: Sequence[Trainings], reference_point: Sequence[float]
) -> Interval:
    """95 % confidence interval of the difference in hypervolume if samples were trained with other
    seeds; an estimate. Losses of a network are means over the trainings of its sample.

    The hypervolume is linearized around the means. Networks of one training vary together; the
    spread between trainings is pooled over the samples of each study. Half of the interval's width
    is from Student's t with Welch's degrees of freedom (Welch, Biometrika 34, 1947).

    Args:
        first, second: samples of each study, with networks; one or more of them trained twice.
    """
    # Takes half a second to import, and only this needs it.
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
    """Variance of the hypervolume of the means over trainings, to first order."""
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
    """Residuals (k, m) of each training of the sample `donor`: losses minus their means, for k
    rungs, each taken at the donor's nearest rung. Empty if the donor was trained once."""
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
    """Derivatives (n, m) of the hypervolume of losses (n, m), by central differences; 0 for
    dominated rows."""
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
