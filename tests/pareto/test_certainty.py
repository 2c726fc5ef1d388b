from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import binomtest

from study.pareto.certainty import (
    contenders,
    difference_p_value,
    front_probabilities,
    wilson_interval,
)
from study.pareto.dominance import nondominated


@pytest.mark.parametrize(("n_right", "n"), [(0, 10), (10, 10), (278, 288), (1, 2), (5943, 6000)])
def test_the_interval_is_scipys(n_right: int, n: int) -> None:
    expected = binomtest(n_right, n).proportion_ci(method="wilson")
    assert wilson_interval(n_right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (3, 0), (0, 7), (12, 5), (40, 41)])
def test_the_test_of_a_difference_is_scipys_sign_test(only_a: int, only_b: int) -> None:
    a = np.array([True] * only_a + [False] * only_b + [True] * 50 + [False] * 9)
    b = np.array([False] * only_a + [True] * only_b + [True] * 50 + [False] * 9)
    n = only_a + only_b
    expected = binomtest(only_a, n).pvalue if n else 1.0
    assert difference_p_value(a, b) == pytest.approx(expected, abs=1e-9)


def answers(rng: np.random.Generator, accuracies: list[float], n: int) -> np.ndarray:
    return np.array([rng.random(n) < accuracy for accuracy in accuracies])


def probabilities(right: np.ndarray, losses: np.ndarray, seed: int = 0) -> list[float]:
    """Probabilities if every difference counts; the accuracy is the first column."""
    return front_probabilities({0: right}, losses, np.zeros(losses.shape[1]), seed)


def test_what_no_draw_can_change_is_certain() -> None:
    rng = np.random.default_rng(0)
    right = answers(rng, [0.9, 0.9, 0.5, 0.89], 2000)
    # The second has the least of what is not drawn; the third is dominated by far; the fourth has
    # the most, and is as good as the first.
    others = np.array([2.0, 1.0, 2.0, 3.0])
    losses = np.column_stack([-right.mean(axis=1), others])
    first, second, third, _ = probabilities(right, losses)
    assert (second, third) == (1.0, 0.0)
    assert 0.0 < first < 1.0


def test_two_networks_alike_take_turns_and_the_same_network_twice_counts_once() -> None:
    right = answers(np.random.default_rng(0), [0.5], 1000)
    other = ~right
    both = np.concatenate([right, other, right])
    losses = np.column_stack([-both.mean(axis=1), np.ones(3)])
    first, second, again = probabilities(both, losses)
    assert first + second == 1.0
    assert again == 0.0
    # By how much one leads is a normal variable, with the draws' variance of 5 splits.
    lead = 2 * right.mean() - 1
    z = lead / np.sqrt(5 * (1 - lead**2) / 1000)
    assert first == pytest.approx(NormalDist().cdf(z), abs=0.05)


def by_hand(counted: dict[int, np.ndarray], losses: np.ndarray, n_draws: int) -> list[float]:
    """How often each row is nondominated where the images are drawn one by one, a fifth as many as
    there are, so that a draw has five times the variance: no weights, and a loop over all pairs."""
    n, n_images = losses.shape[0], len(next(iter(counted.values()))[0])
    rng = np.random.default_rng(7)
    n_on_front = np.zeros(n)
    for _ in range(n_draws):
        drawn = losses.copy()
        images = rng.integers(n_images, size=n_images // 5)
        for column, right in counted.items():
            drawn[:, column] = -right[:, images].mean(axis=1)
        for i in range(n):
            n_on_front[i] += not any(
                (drawn[j] <= drawn[i]).all() and ((drawn[j] < drawn[i]).any() or j < i)
                for j in range(n)
                if j != i
            )
    return (n_on_front / n_draws).tolist()


def test_both_accuracies_are_drawn_on_the_same_images() -> None:
    rng = np.random.default_rng(5)
    difficulty = rng.random(2000)
    right = np.array([difficulty + 0.1 * rng.random(2000) < at for at in (0.95, 0.94, 0.93)])
    certified = right & np.array([difficulty < at for at in (0.55, 0.58, 0.6)])
    certified[1] = right[1] & (rng.random(2000) < 0.64)
    losses = np.column_stack([-right.mean(axis=1), -certified.mean(axis=1)])
    found = front_probabilities({0: right, 1: certified}, losses, np.zeros(2), n_draws=4000)
    assert found == pytest.approx(by_hand({0: right, 1: certified}, losses, 400), abs=0.05)
    assert 0 < found[1] < found[2] < 1
    # The third is certified on the most images, which alone would keep it on every front.
    assert front_probabilities({0: right}, losses, np.zeros(2))[2] == 1


def test_of_two_accuracies_both_must_be_beyond_chance() -> None:
    """A network that leads by far in one accuracy and by chance in the other keeps its rivals; one
    of which no image is certified, or that is certified on all, is no question of chance."""
    losses = np.array([[-0.99, -0.5], [-0.5, -0.49], [-0.5, -0.1], [-0.5, 0.0]])
    assert contenders(losses, 2000, [0, 1]) == [0, 1]
    assert contenders(losses, 2000, [0]) == [0]
    assert contenders(np.array([[-0.99, 0.0], [-0.5, 0.0]]), 2000, [0, 1]) == [0]
    assert contenders(np.array([[-0.5, 0.0], [-0.5, 0.0]]), 2000, [0, 1]) == [0, 1]


def test_who_is_no_contender_is_on_no_front_that_is_drawn() -> None:
    rng = np.random.default_rng(1)
    accuracies = rng.uniform(0.6, 0.99, 60).tolist()
    right = answers(rng, accuracies, 1500)
    losses = np.column_stack([-right.mean(axis=1), rng.random(60), rng.random(60)])
    kept = contenders(losses, 1500, [0])
    assert set(np.flatnonzero(nondominated(losses))) <= set(kept)
    left = sorted(set(range(60)) - set(kept))
    assert left
    shares = np.array(probabilities(right, losses))
    assert (shares[left] == 0).all()
    alone = probabilities(right[kept], losses[kept])
    assert alone == pytest.approx(shares[kept], abs=0.06)


def test_the_draws_are_the_same_for_the_same_seed() -> None:
    right = answers(np.random.default_rng(0), [0.8, 0.81, 0.79], 300)
    losses = np.column_stack([-right.mean(axis=1), np.zeros(3)])
    assert probabilities(right, losses) == probabilities(right, losses)
    assert probabilities(right, losses) != probabilities(right, losses, seed=1)
