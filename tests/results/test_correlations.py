"""Rank correlations against ranks by brute force, and their intervals by simulation."""

import math
import random

import pytest

from study.results.correlations import FEWEST_TRIALS, correlations


def spearman(xs: list[float], ys: list[float]) -> float:
    """Pearson's correlation of the ranks, equal values having the mean of theirs."""

    def ranks(values: list[float]) -> list[float]:
        return [
            sum(other < value for other in values) + sum(other == value for other in values) / 2
            for value in values
        ]

    a, b = ranks(xs), ranks(ys)
    mean = sum(a) / len(a)
    covariance = sum((p - mean) * (q - mean) for p, q in zip(a, b, strict=True))
    return covariance / math.sqrt(sum((p - mean) ** 2 for p in a) * sum((q - mean) ** 2 for q in b))


@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_correlation_of_ranks_of_what_varies(seed: int) -> None:
    rng = random.Random(seed)
    n = rng.randint(FEWEST_TRIALS, 40)
    samples = [
        {"coeff": rng.random(), "n": rng.randint(1, 4), "norm": rng.choice("ab"), "same": 1}
        for _ in range(n)
    ]
    values = [sample["coeff"] ** 3 - 0.1 * sample["n"] + rng.gauss(0, 0.1) for sample in samples]
    found = correlations([*samples, {"coeff": 0.5, "n": 1}], [*values, math.inf])
    assert set(found) == {"coeff", "n"}
    strengths = [abs(one.value) for one in found.values()]
    assert strengths == sorted(strengths, reverse=True)
    for name, one in found.items():
        expected = spearman([sample[name] for sample in samples], values)
        assert one.value == pytest.approx(expected)
        assert -1 <= one.low < one.value < one.high <= 1


def test_the_interval_covers_in_19_of_20_studies() -> None:
    """Of two normal variables with correlation r, Spearman's is 6 / pi * asin(r / 2)."""
    rng = random.Random(0)
    for r in (0.0, 0.6):
        truth = 6 / math.pi * math.asin(r / 2)
        n_covered = 0
        for _ in range(300):
            xs = [rng.gauss(0, 1) for _ in range(12)]
            ys = [r * x + math.sqrt(1 - r * r) * rng.gauss(0, 1) for x in xs]
            one = correlations([{"x": x} for x in xs], ys)["x"]
            n_covered += one.low <= truth <= one.high
        assert 0.9 < n_covered / 300 < 0.99


def test_what_says_nothing_is_left_out() -> None:
    few = [{"x": float(k)} for k in range(FEWEST_TRIALS - 1)]
    assert correlations(few, [sample["x"] for sample in few]) == {}
    enough = [{"x": float(k)} for k in range(FEWEST_TRIALS)]
    assert correlations(enough, [1.0] * FEWEST_TRIALS) == {}
    assert correlations([], []) == {}
    perfect = correlations(enough, [-sample["x"] for sample in enough])["x"]
    assert (perfect.low, perfect.value, perfect.high) == (-1.0, -1.0, -1.0)
