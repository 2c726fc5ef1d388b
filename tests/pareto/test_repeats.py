from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from study.pareto.dominance import Losses, distinct_front
from study.pareto.repeats import SampleLosses, front_shares, is_dominated_beyond_spread, spread


def front(*indifference: float) -> Callable[[Losses], NDArray[np.bool_]]:
    return lambda losses: distinct_front(losses, np.array(indifference))


def sample(**points: list[list[float]]) -> SampleLosses:
    return {name: np.array(losses) for name, losses in points.items()}


def test_spread_is_the_pooled_standard_deviation() -> None:
    rng = np.random.default_rng(0)
    groups = [rng.normal(size=(n, 2)) for n in (1, 2, 5, 3)]
    squares = sum(((g - g.mean(axis=0)) ** 2).sum(axis=0) for g in groups)
    expected = np.sqrt(squares / (0 + 1 + 4 + 2))
    np.testing.assert_allclose(spread([dict(enumerate(groups))]), expected)
    np.testing.assert_allclose(spread([{0: g} for g in groups]), expected)


def test_without_repeats_there_is_no_spread_and_nothing_is_dominated_beyond_it() -> None:
    first, second = sample(own=[[0.0, 0.0]]), sample(own=[[9.0, 9.0]])
    assert spread([first, second]) is None
    assert not is_dominated_beyond_spread(second, [first])
    assert not is_dominated_beyond_spread(sample(own=[[1.0], [2.0]]), [])
    # A sample without points: nothing of it was feasible.
    assert is_dominated_beyond_spread({}, [])


def test_dominated_beyond_the_spread_means_by_two_standard_errors_in_every_objective() -> None:
    best = sample(own=[[0.0, 0.0], [0.2, 0.2]])  # standard deviation 0.1414, mean 0.1
    error = 2 * np.sqrt(0.02) * np.sqrt(1 / 1 + 1 / 2)
    for distance, dominated in ((error * 1.01, True), (error * 0.99, False)):
        other = sample(own=[[0.1 + distance, 0.1 + distance]])
        assert is_dominated_beyond_spread(other, [best]) == dominated
    far_in_one_only = sample(own=[[9.0, 0.1]])
    assert not is_dominated_beyond_spread(far_in_one_only, [best])


def test_a_sample_is_kept_for_one_point_that_is_not_dominated() -> None:
    best = sample(own=[[0.0, 0.0], [0.01, 0.01]])
    assert is_dominated_beyond_spread(sample(own=[[5.0, 5.0]]), [best])
    assert not is_dominated_beyond_spread(sample(own=[[5.0, 5.0]], at=[[-1.0, 5.0]]), [best])


def test_front_shares_are_those_of_two_normal_means() -> None:
    """Two points in one objective: a closed form for normal residuals."""
    rng = np.random.default_rng(3)
    n, distance = 400, 0.1
    noise = rng.normal(size=(2, n, 1))
    noise -= noise.mean(axis=1, keepdims=True)
    deviation = float(np.sqrt((noise**2).sum() / (2 * (n - 1))))
    better, worse = front_shares([noise[0], noise[1] + distance], front(0))
    expected = NormalDist().cdf(distance / (deviation * np.sqrt(2 / n)))
    tolerance = 3 * np.sqrt(expected * (1 - expected) / 500) + 0.01
    assert better == pytest.approx(expected, abs=tolerance)
    assert better + worse == pytest.approx(1)


def test_front_shares_of_points_trained_once_vary_as_the_others_do() -> None:
    shares = front_shares([np.array([[0.0], [1.0]]), np.array([[0.6]])], front(0))
    assert all(0 < share < 1 for share in shares)


def test_front_shares_without_differences_are_the_front() -> None:
    twice = [np.array([[0.0, 1.0]] * 2), np.array([[1.0, 0.0]] * 2), np.array([[1.0, 1.0]] * 2)]
    assert front_shares(twice, front(0, 0)) == [1.0, 1.0, 0.0]


def test_front_shares_do_not_live_on_differences_that_are_none() -> None:
    twice = [np.array([[-1.0, 2.01]] * 2), np.array([[-0.995, 2.0]] * 2)]
    assert front_shares(twice, front(0, 0)) == [1.0, 1.0]
    assert front_shares(twice, front(0, 0.05)) == [1.0, 0.0]
    assert front_shares(twice, front(0, 0.004)) == [1.0, 1.0]
