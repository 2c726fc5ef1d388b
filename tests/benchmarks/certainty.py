"""Whether intervals of accuracies hold, and likelihoods to be on a front are calibrated.

    python -m tests.benchmarks.certainty [--studies 1000] [--draws 200]

Simulated studies of 8 to 90 networks whose true accuracies are known: each image has a difficulty,
each network a noise of its own on it and a threshold. In half of the studies accuracies have
nothing or much to do with the two other objectives; in the other half the networks are ladders, cut
from a few trainings, alike among themselves and less accurate at small bounds. Validation splits
have 288, 1,000 or 6,000 images.

Prints how many 95 % intervals cover the true accuracy; and for several variances of the draws (see
study.pareto.certainty), in ten bins, the likelihood that was said and how often the network was on
the front of a second split: of all networks, and of those on the front of the first. About two
minutes on one core.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from study.pareto.certainty import front_probabilities, wilson_interval
from study.pareto.dominance import Losses, nondominated
from tests.benchmarks.alternating import machine

_SPLITS = (288, 1000, 6000)
_VARIANCES = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
# Of the population that splits are drawn from.
_N_IMAGES = 30_000
_RUNGS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
_Answers = NDArray[np.bool_]


def _answers(
    rng: np.random.Generator, difficulty: Losses, noise: float, accuracy: float
) -> _Answers:
    scores = difficulty + noise * rng.normal(size=len(difficulty))
    right: _Answers = scores < np.quantile(scores, min(accuracy, 0.9995))
    return right


def _unrelated(rng: np.random.Generator) -> tuple[_Answers, Losses]:
    """(answers (n, images), two losses (n, 2)) of networks that were trained one by one."""
    n = int(rng.integers(8, 60))
    difficulty = rng.normal(size=_N_IMAGES)
    base, spread = rng.choice([0.97, 0.9]), rng.choice([0.003, 0.02, 0.1])
    accuracies = np.sort(base - np.abs(rng.normal(size=n)) * spread)[::-1]
    noise = rng.choice([0.2, 0.6])
    answers = np.array([_answers(rng, difficulty, noise, a) for a in accuracies])
    others = rng.random((n, 2))
    weight = rng.choice([0.0, 0.7])
    others[:, 0] = (1 - weight) * others[:, 0] + weight * np.linspace(1, 0, n)
    return answers, others


def _ladders(rng: np.random.Generator) -> tuple[_Answers, Losses]:
    """The same of networks that were cut from a few trainings."""
    difficulty = rng.normal(size=_N_IMAGES)
    base, spread = rng.choice([0.99, 0.95, 0.85]), rng.choice([0.002, 0.01, 0.05])
    cost, noise = rng.choice([0.0, 0.002, 0.01, 0.1]), rng.choice([0.2, 0.5])
    answers, others = [], []
    for training in range(int(rng.integers(3, 13))):
        coeff, steps = rng.uniform(0.5, 0.97), rng.uniform(3, 8)
        accuracy = base - abs(rng.normal()) * spread
        own = difficulty + noise * rng.normal(size=_N_IMAGES)
        for rung in (coeff, *(r for r in _RUNGS if r < coeff)):
            bound = rung**3
            lost = cost * np.exp(-bound / 0.1) + 0.2 * cost * abs(rng.normal())
            answers.append(_answers(rng, own, 0.1 * noise, accuracy - lost))
            # Of a training's own network, which meets no rung exactly.
            bound -= 1e-4 * training if rung == coeff else 0
            others.append((bound, round(2 + steps * rung + 0.1 * rng.normal(), 2)))
    return np.array(answers), np.array(others)


def _with_accuracy(answers: _Answers, others: Losses) -> Losses:
    return np.column_stack([-answers.mean(axis=1), others])


def _bins(said_and_was: Sequence[tuple[float, bool]]) -> str:
    said, was = np.array(said_and_was, dtype=float).T
    of_bin = np.minimum((said * 10).astype(int), 9)
    cells = []
    for number in range(10):
        inside = of_bin == number
        if inside.any():
            cells.append(f"{said[inside].mean():.2f}/{was[inside].mean():.2f} ({inside.sum()})")
    return "  ".join(cells) + f"  Brier {((said - was) ** 2).mean():.4f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=200)
    arguments = parser.parse_args()
    print(machine(), flush=True)
    rng = np.random.default_rng(0)
    n_covered = n_intervals = 0
    everywhere: dict[float, list[tuple[float, bool]]] = {v: [] for v in _VARIANCES}
    on_front: dict[float, list[tuple[float, bool]]] = {v: [] for v in _VARIANCES}
    for number in range(arguments.studies):
        answers, others = (_unrelated, _ladders)[number % 2](rng)
        n_val = int(rng.choice(_SPLITS))
        images = rng.permutation(_N_IMAGES)
        first, second = answers[:, images[:n_val]], answers[:, images[n_val : 2 * n_val]]
        for true, counted in zip(answers.mean(axis=1), first.mean(axis=1), strict=True):
            low, high = wilson_interval(float(counted), n_val)
            n_covered += low <= true <= high
            n_intervals += 1
        is_front = nondominated(_with_accuracy(first, others))
        stays = nondominated(_with_accuracy(second, others))
        for variances in _VARIANCES:
            said = front_probabilities(
                {0: first},
                _with_accuracy(first, others),
                np.zeros(3),
                number,
                arguments.draws,
                variances,
            )
            pairs = list(zip(said, stays.tolist(), strict=True))
            everywhere[variances] += pairs
            on_front[variances] += [p for p, is_on in zip(pairs, is_front, strict=True) if is_on]
    print(f"95 % intervals that cover: {n_covered / n_intervals:.2%} of {n_intervals}")
    print("said/was (networks), ten bins")
    for name, found in (("all networks", everywhere), ("on the first front", on_front)):
        for variances, pairs in found.items():
            print(f"{name}, {variances:g} variances: {_bins(pairs)}")


if __name__ == "__main__":
    main()
