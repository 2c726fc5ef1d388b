import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.pareto.dominance import nondominated
from study.pareto.knee import knee, trade_off

NOTHING = np.zeros(2)


def test_the_knee_is_the_corner_and_not_what_is_closest_to_the_ideal() -> None:
    # From the corner at (0.1, 0.6) one pays 0.4 for 0.1 to the left, and to the right 0.9 for 0.6.
    # (0.4, 0.45) is closer to (0, 0), but it lies on the straight line from the corner.
    points = np.array([[0.0, 1.0], [0.1, 0.6], [0.4, 0.4], [1.0, 0.0]])
    distances = np.linalg.norm(points, axis=1)
    assert distances.argmin() == 2
    expected = [0.1 / 0.4, min(0.4 / 0.1, 0.3 / 0.2, 0.9 / 0.6), 0.2 / 0.3, 0.4 / 0.6]
    assert trade_off(points, NOTHING) == pytest.approx(expected)
    assert knee(points, NOTHING) == 1


def test_a_range_within_the_noise_weighs_no_more_than_the_noise() -> None:
    # In units of their ranges the first is as good as the last; what it gains is noise.
    points = np.array([[-0.981, 1.0], [-0.980, 0.5], [-0.979, 0.2]])
    assert knee(points, np.array([0.0, 0.0])) == 1
    assert knee(points, np.array([0.02, 0.0])) == 2


def test_of_two_alike_the_first_is_the_knee() -> None:
    assert knee(np.array([[0.0, 1.0], [1.0, 0.0]]), NOTHING) == 0


@settings(deadline=None, max_examples=100)
@given(
    points=st.lists(
        st.tuples(*[st.floats(0, 1, width=16) for _ in range(3)]), min_size=1, max_size=12
    )
)
def test_trade_offs_are_those_of_the_definition(points: list[tuple[float, float, float]]) -> None:
    front = np.array(points)
    front = front[nondominated(front)]
    ranges = [max(column) - min(column) or 1.0 for column in zip(*front.tolist(), strict=True)]

    def bargain(a: list[float], b: list[float]) -> float:
        changes = [(y - x) / r for x, y, r in zip(a, b, ranges, strict=True)]
        return sum(max(c, 0) for c in changes) / sum(max(-c, 0) for c in changes)

    rows = front.tolist()
    expected = [
        min((bargain(a, b) for j, b in enumerate(rows) if j != i), default=np.inf)
        for i, a in enumerate(rows)
    ]
    assert trade_off(front, np.zeros(3)) == pytest.approx(expected)
    other_units = front * [1000.0, 1.0, 0.001] + [7.0, 0.0, -3.0]
    assert trade_off(other_units, np.zeros(3)) == pytest.approx(expected, rel=1e-5)
