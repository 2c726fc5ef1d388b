import numpy as np
import pytest

from study.pareto.dominance import hypervolume, nondominated
from study.pareto.growing import GrowingFront


@pytest.mark.parametrize("seed", range(10))
def test_a_front_that_grew_is_the_front_of_all_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    front, rows = GrowingFront([1.0, 1.0, 1.0]), np.empty((0, 3))
    for _ in range(20):
        # On a coarse grid, so that equal rows come, in one part and in several.
        part = rng.integers(0, 6, size=(rng.integers(0, 5), 3)) / 5
        front.add(part)
        rows = np.concatenate([rows, part])
        expected = np.unique(rows[nondominated(rows)], axis=0)
        assert np.array_equal(front.losses, expected)
        assert front.hypervolume == pytest.approx(hypervolume(rows, [1.0, 1.0, 1.0]))


def test_nothing_has_no_volume() -> None:
    front = GrowingFront([1.0, 1.0])
    front.add(np.empty((0, 2)))
    assert (len(front.losses), front.hypervolume) == (0, 0.0)
