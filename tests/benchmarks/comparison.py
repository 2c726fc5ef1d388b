"""Whether the intervals of differences between studies hold.

    python -m tests.benchmarks.comparison [--pairs 300] [--draws 300] [--noise seeds images]

Simulated pairs of studies whose networks are known: the true difference of their hypervolumes, and
of their best accuracies, is that of the true losses of all their networks.

images: each image has a difficulty that is the same for both studies, each network a noise of its
own on it and a threshold. Accuracies are counted on 288, 1,000 or 6,000 of 30,000 images. One by
one: networks whose accuracies have nothing to do with the other objectives. Ladders: networks that
were cut from a few trainings. Many and few: 80 networks one by one, against 6.

seeds: samples, with or without a ladder, each trained 2, 3 or 5 times, and no more once it is
dominated beyond its spread, as `search.repeats` does it. Networks of one training vary together;
the second study varies as much as the first, or twice as much.

Prints for each way how many 95 % intervals cover the true difference, of each kind of pair, and
their median width over that of the first way. A star marks
the way of study.pareto.difference.
About ten minutes on one core.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np
from scipy.special import stdtrit

from study.pareto import difference
from study.pareto.difference import OnImages, Trainings, interval_by_seeds
from study.pareto.dominance import Losses, nondominated
from study.pareto.repeats import is_dominated_beyond_spread
from tests.benchmarks.alternating import machine

_Z = NormalDist().inv_cdf(0.975)
_N_IMAGES = 30_000
_SPLITS = (288, 1000, 6000)
_RUNGS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
_VARIANCES = (1.0, 1.5, 2.0)
# The way of study.pareto.difference, for each noise.
_OURS = ("+2 images, fronts, 1.5 variances, basic", "linear, t and Welch")
_Way = tuple[str, tuple[float, float]]


class Coverage:
    """How often the intervals of each way cover, and how wide they are."""

    def __init__(self) -> None:
        self._covers: dict[tuple[str, str], list[bool]] = defaultdict(list)
        self._widths: dict[str, list[float]] = defaultdict(list)

    def add(self, true: float, kinds: Sequence[str], ways: Iterator[_Way]) -> None:
        """Intervals of one pair of studies, which is of some kinds."""
        for way, (low, high) in ways:
            for kind in ("all", *kinds):
                # A sum in another order is no other sum.
                self._covers[way, kind].append(low - 1e-12 <= true <= high + 1e-12)
            self._widths[way].append(high - low)

    def __str__(self) -> str:
        kinds = sorted({kind for _, kind in self._covers}, key=lambda kind: (kind != "all", kind))
        first = np.array(next(iter(self._widths.values())))
        lines = [f"  {'':48}" + "".join(f"{kind:>13}" for kind in kinds) + f"{'width':>7}"]
        for way, widths in self._widths.items():
            covered = "".join(f"{np.mean(self._covers[way, kind]):13.3f}" for kind in kinds)
            width = np.median(np.array(widths)[first > 0] / first[first > 0])
            name = f"{'* ' if way in _OURS else '  '}{way}"
            lines.append(f"{name:50}{covered}{width:7.2f}")
        return "\n".join(lines)


# Noise of the images


def _one_by_one(
    rng: np.random.Generator, difficulty: Losses, base: float, n: int
) -> tuple[Losses, Losses]:
    """(which images n networks classify right (n, images), their two other losses (n, 2))."""
    spread, noise = rng.choice([0.002, 0.01, 0.05]), rng.choice([0.2, 0.6])
    accuracies = base - np.abs(rng.normal(size=n)) * spread
    right = np.array([_right(rng, difficulty, noise, accuracy) for accuracy in accuracies])
    return right, np.column_stack([rng.random(n), rng.uniform(2, 8, n)])


def _ladders(
    rng: np.random.Generator, difficulty: Losses, base: float, n: int
) -> tuple[Losses, Losses]:
    """The same of the networks that were cut from n trainings."""
    spread, noise = rng.choice([0.002, 0.01, 0.05]), rng.choice([0.2, 0.6])
    cost = rng.choice([0.0, 0.002, 0.01, 0.1])
    right, others = [], []
    for _ in range(n):
        coeff, steps = rng.uniform(0.5, 0.97), rng.uniform(3, 8)
        accuracy = base - abs(rng.normal()) * spread
        own = difficulty + noise * rng.normal(size=_N_IMAGES)
        for rung in (coeff, *(r for r in _RUNGS if r < coeff)):
            lost = cost * np.exp(-(rung**3) / 0.1) + 0.2 * cost * abs(rng.normal())
            right.append(_right(rng, own, 0.1 * noise, accuracy - lost))
            others.append((rung**3, round(2 + steps * rung + 0.1 * rng.normal(), 2)))
    return np.array(right), np.array(others)


def _right(rng: np.random.Generator, difficulty: Losses, noise: float, accuracy: float) -> Losses:
    scores = difficulty + noise * rng.normal(size=_N_IMAGES)
    right: Losses = (scores < np.quantile(scores, min(accuracy, 0.9995))).astype(float)
    return right


def _images(rng: np.random.Generator, n_pairs: int, n_draws: int) -> None:
    found = {"hypervolume": Coverage(), "best accuracy": Coverage()}
    for number in range(n_pairs):
        kind = ("one by one", "ladders", "many and few")[number % 3]
        difficulty = rng.normal(size=_N_IMAGES)
        base = rng.choice([0.99, 0.96, 0.9])
        lower = base - rng.choice([0, 0, 0.003, 0.02])
        make = _ladders if kind == "ladders" else _one_by_one
        sizes = {"one by one": rng.integers(6, 40, 2), "ladders": rng.integers(3, 9, 2)}
        n_first, n_second = sizes.get(kind, (80, 6))
        studies = [
            make(rng, difficulty, base, int(n_first)),
            make(rng, difficulty, lower, int(n_second)),
        ]
        n_val = int(rng.choice(_SPLITS))
        images = rng.choice(_N_IMAGES, n_val, replace=False)
        reference = [-rng.choice([0.0, 0.8]), 1.0, 20.0]
        everything = [(_counted(right, others), right[:, images]) for right, others in studies]
        counted = [_counted(right[:, images], others) for right, others in studies]
        for what, coverage in found.items():
            columns = slice(0, 3 if what == "hypervolume" else 1)
            at = reference if what == "hypervolume" else [0.0]
            true = difference.difference(*(losses[:, columns] for losses, _ in everything), at)
            every = [
                OnImages(losses[:, columns], {0: right})
                for losses, (_, right) in zip(counted, everything, strict=True)
            ]
            fronts = [_front(one) for one in every]
            ways = _ways_of_images(every, fronts, at, number, n_draws)
            coverage.add(true, (kind, f"{n_val} images"), ways)
    for what, coverage in found.items():
        print(f"images, {what}, {n_pairs} pairs\n{coverage}", flush=True)


def _counted(right: Losses, others: Losses) -> Losses:
    return np.column_stack([-right.mean(axis=1), others])


def _front(of: OnImages) -> OnImages:
    kept = nondominated(of.losses)
    return OnImages(of.losses[kept], {k: images[kept] for k, images in of.counted.items()})


def _ways_of_images(
    every: Sequence[OnImages],
    fronts: Sequence[OnImages],
    reference: Sequence[float],
    seed: int,
    n_draws: int,
) -> Iterator[_Way]:
    estimate = difference.difference(every[0].losses, every[1].losses, reference)
    plain = _plain_bootstrap(every, reference, seed, n_draws)
    yield from _ways_of_draws("plain bootstrap", estimate, plain)
    for name, networks, of_draws in (("all", every, (1.0,)), ("fronts", fronts, _VARIANCES)):
        for variances in of_draws:
            draws = difference._drawn_by_images(
                networks[0], networks[1], reference, seed, n_draws, variances
            )
            way = f"+2 images, {name}, {variances:g} variances"
            yield from _ways_of_draws(way, estimate, draws)


def _ways_of_draws(name: str, estimate: float, draws: Losses) -> Iterator[_Way]:
    low, high = np.quantile(draws, [0.025, 0.975])
    yield f"{name}, percentile", (low, high)
    yield f"{name}, basic", difference._basic(estimate, draws)
    reach = _Z * draws.std()
    yield f"{name}, normal", (estimate - reach, estimate + reach)


def _plain_bootstrap(
    networks: Sequence[OnImages], reference: Sequence[float], seed: int, n_draws: int
) -> Losses:
    """Images drawn with replacement."""
    rng = np.random.default_rng(seed)
    n = networks[0].counted[0].shape[1]
    draws = np.empty(n_draws)
    for index in range(n_draws):
        drawn = rng.multinomial(n, np.full(n, 1 / n)) / n
        losses = [of.losses.copy() for of in networks]
        for one, of in zip(losses, networks, strict=True):
            one[:, 0] = -(of.counted[0] @ drawn)
        draws[index] = difference.difference(losses[0], losses[1], reference)
    return draws


# Noise of the seeds


def _trained(
    rng: np.random.Generator, base: float, n_repeats: int, deviation: float, has_ladder: bool
) -> tuple[Losses, list[Trainings]]:
    """(the true losses of all networks of a study (n, 3), its trainings)."""
    steps_deviation = rng.choice([0.05, 0.3])
    true, rungs = [], []
    for _ in range(int(rng.choice([3, 4, 8, 12]))):
        coeff, steps = rng.uniform(0.5, 0.97), rng.uniform(3, 8)
        accuracy = base - abs(rng.normal()) * rng.choice([0.003, 0.02])
        of_sample = [coeff, *(r for r in _RUNGS[::2] if r < coeff and has_ladder)]
        rungs.append(np.array([1.0, *of_sample[1:]]))
        bounds = np.array(of_sample) ** 3
        lost = 0.003 * np.exp(-bounds / 0.1)
        true.append(np.column_stack([lost - accuracy, bounds, 2 + steps * np.array(of_sample)]))

    def train(sample: int) -> Losses:
        in_common = rng.normal(size=2)
        noise = np.zeros_like(true[sample])
        n = len(noise)
        noise[:, 0] = deviation * (0.8 * in_common[0] + 0.6 * rng.normal(size=n))
        noise[:, 2] = steps_deviation * (0.9 * in_common[1] + 0.44 * rng.normal(size=n))
        noise[0, 1] = 0.02 * true[sample][0, 1] * rng.normal()  # a rung is met exactly
        losses: Losses = true[sample] + noise
        return losses

    trainings = [[train(sample)] for sample in range(len(true))]
    for _ in range(1, n_repeats):
        for sample, own in enumerate(trainings):
            known = [dict(enumerate(np.stack(t, axis=1))) for t in trainings]
            if not is_dominated_beyond_spread(known.pop(sample), known):
                own.append(train(sample))
    samples = [Trainings(np.array(t), r) for t, r in zip(trainings, rungs, strict=True)]
    return np.concatenate(true), samples


def _seeds(rng: np.random.Generator, n_pairs: int, n_draws: int) -> None:
    found = {"hypervolume": Coverage(), "best accuracy": Coverage()}
    for _ in range(n_pairs):
        n_repeats, has_ladder = int(rng.choice([2, 3, 5])), bool(rng.integers(2))
        base, deviation = rng.choice([0.99, 0.95]), rng.choice([0.001, 0.004])
        lower, wider = base - rng.choice([0, 0, 0.005]), deviation * rng.choice([1, 1, 2])
        true_first, first = _trained(rng, base, n_repeats, deviation, has_ladder)
        true_second, second = _trained(rng, lower, n_repeats, wider, has_ladder)
        kinds = (f"{n_repeats} repeats", "ladders" if has_ladder else "one by one")
        for what, coverage in found.items():
            columns = slice(0, 3 if what == "hypervolume" else 1)
            at = [-0.8, 1.0, 20.0] if what == "hypervolume" else [0.0]
            true = difference.difference(true_first[:, columns], true_second[:, columns], at)
            ours = [
                [Trainings(sample.losses[:, :, columns], sample.rungs) for sample in study]
                for study in (first, second)
            ]
            coverage.add(true, kinds, _ways_of_seeds(rng, ours[0], ours[1], at, n_draws))
    for what, coverage in found.items():
        print(f"seeds, {what}, {n_pairs} pairs\n{coverage}", flush=True)


def _ways_of_seeds(
    rng: np.random.Generator,
    first: Sequence[Trainings],
    second: Sequence[Trainings],
    reference: Sequence[float],
    n_draws: int,
) -> Iterator[_Way]:
    studies = (first, second)
    means = [difference._all_means(samples) for samples in studies]
    estimate = difference.difference(means[0], means[1], reference)
    for name, residuals_of in (("each network", _of_networks), ("each training", _of_trainings)):
        pools = [residuals_of(samples) for samples in studies]
        draws = np.empty(n_draws)
        for index in range(n_draws):
            drawn = [_drawn(rng, *pair) for pair in zip(studies, pools, strict=True)]
            draws[index] = difference.difference(drawn[0], drawn[1], reference)
        yield from _ways_of_draws(f"residuals of {name}", estimate, draws)
    variances = [difference._variance(samples, reference) for samples in studies]
    free = [difference._n_free(samples) for samples in studies]
    deviation = np.sqrt(sum(variances))
    yield "linear, normal", (estimate - _Z * deviation, estimate + _Z * deviation)
    yield "linear, t and Welch", interval_by_seeds(first, second, reference)
    reach = stdtrit(min(free), 0.975) * deviation
    yield "linear, t of the fewer", (estimate - reach, estimate + reach)


def _drawn(
    rng: np.random.Generator, samples: Sequence[Trainings], pools: Sequence[Losses]
) -> Losses:
    """Means of a study whose residuals are drawn anew from the pool of each sample: residuals of
    one network each (r, m), or of the networks of one training together (r, k, m)."""
    drawn = []
    for sample, pool in zip(samples, pools, strict=True):
        n, k, _ = sample.losses.shape
        size = (n, k) if pool.ndim == 2 else n
        drawn.append(sample.means + pool[rng.integers(len(pool), size=size)].mean(axis=0))
    return np.concatenate(drawn)


def _of_networks(samples: Sequence[Trainings]) -> list[Losses]:
    residuals = np.concatenate(
        [
            (s.losses - s.means).reshape(-1, s.losses.shape[2]) * _unbiased(s)
            for s in samples
            if len(s.losses) > 1
        ]
    )
    return [residuals] * len(samples)


def _of_trainings(samples: Sequence[Trainings]) -> list[Losses]:
    return [
        np.array(
            [
                residuals * _unbiased(donor)
                for donor in samples
                for residuals in difference._residuals_at(donor, sample.rungs)
            ]
        )
        for sample in samples
    ]


def _unbiased(sample: Trainings) -> float:
    """Means were estimated from the same trainings."""
    n = len(sample.losses)
    return float(np.sqrt(n / (n - 1)))


_NOISES = {"seeds": _seeds, "images": _images}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--noise", nargs="+", choices=_NOISES, default=_NOISES)
    arguments = parser.parse_args()
    print(machine(), flush=True)
    for noise in arguments.noise:
        _NOISES[noise](np.random.default_rng(0), arguments.pairs, arguments.draws)


if __name__ == "__main__":
    main()
