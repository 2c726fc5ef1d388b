import numpy as np
import pytest

from study.pareto.dominance import hypervolume, nondominated
from study.pareto.growing import GrowingFront


@pytest.mark.parametrize("seed", range(10))
def test_a_front_that_grew_is_the_front_of_all_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    front, rows = GrowingFront([1.0, 1.0, 1.0]), np.empty((0, 3))
    for n_rows in (0, *rng.integers(0, 5, size=20)):
        # On a coarse grid, so that equal rows come, in one part and in several.
        part = rng.integers(0, 6, size=(n_rows, 3)) / 5
        front.add(part)
        rows = np.concatenate([rows, part])
        expected = np.unique(rows[nondominated(rows)], axis=0)
        assert np.array_equal(front.losses, expected)
        assert front.hypervolume == pytest.approx(hypervolume(rows, [1.0, 1.0, 1.0]))
