import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from study.metrics.definitions import Direction
from study.pareto import dominance
from study.pareto.points import as_losses

# Small integers, so that equal values and equal points are common.
POINTS = st.integers(1, 4).flatmap(
    lambda m: arrays(
        np.float64, st.tuples(st.integers(0, 12), st.just(m)), elements=st.integers(0, 4)
    )
)


def dominated_by_brute_force(points: np.ndarray) -> list[bool]:
    return [
        any((q <= p).all() and (q < p).any() for q in points)
        for p in points
    ]  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(points=POINTS)
def test_nondominated_is_what_no_other_dominates_and_of_equals_the_first(
    points: np.ndarray,
) -> None:
    kept = dominance.nondominated(points)
    is_first = [not any((points[:i] == p).all(axis=1)) for i, p in enumerate(points)]
    dominated = dominated_by_brute_force(points)
    assert kept.tolist() == [a and not b for a, b in zip(is_first, dominated, strict=True)]
    # Which are distinct too, where every difference counts.
    assert np.array_equal(dominance.distinct_front(points, np.zeros(points.shape[1])), kept)


@settings(deadline=None, max_examples=200)
@given(
    points=st.lists(
        st.tuples(st.floats(-1, 0, width=16), st.floats(2, 3), st.floats(0, 1)), max_size=12
    ),
    steps=st.sampled_from([0.05, 0.2]),
    data=st.data(),
)
def test_a_distinct_front_is_an_epsilon_pareto_set(
    points: list[tuple[float, float, float]], steps: float, data: st.DataObject
) -> None:
    """Every row is as good as a kept one, and no kept one as good as another."""
    losses, parts = np.array(points).reshape(-1, 3), (0.0, steps, 1.0)

    def beats_or_equals(a: np.ndarray, b: np.ndarray) -> bool:
        # The first column alone is below 0, and there every difference counts.
        return all(x <= y * (1 + part) for x, y, part in zip(a, b, parts, strict=True))

    kept = dominance.distinct_front(losses, np.array(parts))
    assert not (kept & ~dominance.nondominated(losses)).any()
    assert all(any(beats_or_equals(a, b) for a in losses[kept]) for b in losses)
    for a, b in itertools.permutations(losses[kept].tolist(), 2):
        assert not beats_or_equals(a, b) or a[0] >= b[0]
    order = data.draw(st.permutations(range(len(losses))))
    again = dominance.distinct_front(losses[order], np.array(parts))
    assert sorted(losses[order][again].tolist()) == sorted(losses[kept].tolist())


@settings(deadline=None, max_examples=200)
@given(
    sets=st.tuples(st.integers(0, 4), st.integers(0, 8), st.integers(1, 3)).flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.integers(-3, 3))
    ),
    parts=st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * 3),
)
def test_distinct_fronts_are_those_of_each_set(
    sets: np.ndarray, parts: tuple[float, float, float]
) -> None:
    indifference = np.array(parts[: sets.shape[-1]])
    fronts = dominance.distinct_fronts(sets, indifference)
    assert fronts.shape == sets.shape[:2]
    for losses, front in zip(sets, fronts, strict=True):
        assert front.tolist() == dominance.distinct_front(losses, indifference).tolist()


@settings(deadline=None, max_examples=200)
@given(points=POINTS)
def test_fronts_are_peeled_off_one_by_one(points: np.ndarray) -> None:
    numbers = dominance.front_ranks(points)
    assert numbers.shape == (len(points),)
    left, number = np.arange(len(points)), 0
    while len(left) > 0:
        dominated = np.array(dominated_by_brute_force(points[left]))
        assert (numbers[left[~dominated]] == number).all()
        left, number = left[dominated], number + 1


@settings(deadline=None, max_examples=100)
@given(points=POINTS)
def test_hypervolume_is_the_count_of_dominated_unit_cells(points: np.ndarray) -> None:
    """On an integer grid the dominated region is a union of unit cells."""
    m = points.shape[1]
    reference = np.full(m, 3.0)
    cells = itertools.product(range(3), repeat=m)
    count = sum(any((p <= np.array(cell)).all() for p in points) for cell in cells)
    assert dominance.hypervolume(points, reference) == pytest.approx(count)


def test_objectives_become_losses() -> None:
    directions = [Direction.MAXIMIZE, Direction.MINIMIZE]
    assert as_losses([[0.9, 0.5]], directions).tolist() == [[-0.9, 0.5]]
    assert as_losses([], directions).shape == (0, 2)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_is_finite(value: float) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        as_losses([[value, 0.0]], [Direction.MAXIMIZE, Direction.MINIMIZE])


@pytest.mark.parametrize("seed", range(10))
def test_a_front_that_grew_is_the_front_of_all_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    front, rows = dominance.GrowingFront([1.0, 1.0, 1.0]), np.empty((0, 3))
    for n_rows in (0, *rng.integers(0, 5, size=20)):
        # On a coarse grid, so that equal rows come, in one part and in several.
        part = rng.integers(0, 6, size=(n_rows, 3)) / 5
        front.add(part)
        rows = np.concatenate([rows, part])
        expected = np.unique(rows[dominance.nondominated(rows)], axis=0)
        assert np.array_equal(front.losses, expected)
        assert front.hypervolume == pytest.approx(dominance.hypervolume(rows, [1.0, 1.0, 1.0]))
