"""The metrics of points as text, and which of them to show."""

from collections.abc import Sequence

from study.metrics.definitions import (
    ATTACKED_ACCURACY,
    CERTIFIED_ACCURACY,
    INVERSE_LIPSCHITZ_UPPER_BOUND,
    INVERSE_STEPS,
    METRICS,
    TEST_ACCURACY,
    TEST_CERTIFIED_ACCURACY,
    VAL_ACCURACY,
    Decimals,
    meaning,
    number_text,
)
from study.metrics.goals import Objective
from study.results.front import Point

# Metrics listed before the other objectives, those of them always listed, and metrics listed last.
_FIRST = (VAL_ACCURACY, CERTIFIED_ACCURACY, INVERSE_LIPSCHITZ_UPPER_BOUND, INVERSE_STEPS)
_ALWAYS = {CERTIFIED_ACCURACY, INVERSE_LIPSCHITZ_UPPER_BOUND}
_LAST = (ATTACKED_ACCURACY, TEST_ACCURACY, TEST_CERTIFIED_ACCURACY)

FEWEST_DECIMALS = 4
"""Decimals of a fraction; more if these do not tell the fractions of a table apart."""


class Numbers:
    """Metrics of points as text. Two texts of a metric are equal exactly if the values are equal at
    the metric's resolution."""

    def __init__(self, points: Sequence[Point]) -> None:
        self._decimals = {
            name: _decimals([p.metrics[name] for p in points if name in p.metrics], resolution.n)
            for name, resolution in ((name, m.resolution) for name, m in METRICS.items())
            if isinstance(resolution, Decimals)
        }

    def decimals(self, name: str) -> int | None:
        """Number of decimals of a metric as text; None if it has significant digits instead."""
        return self._decimals.get(name)

    def text(self, name: str, value: float | None) -> str:
        """A value of a metric as text; empty for None."""
        if value is None:
            return ""
        if name in self._decimals:
            return f"{value:.{self._decimals[name]}f}"
        return number_text(value, meaning(name).resolution.n)

    def with_error(self, point: Point, name: str) -> str:
        """A point's value of a metric, with its standard error if it has one."""
        text = self.text(name, point.metrics.get(name))
        error = (point.standard_error or {}).get(name)
        return text if error is None else f"{text} +-{error:.2g}"


def leading_metrics(points: Sequence[Point], objectives: Sequence[Objective]) -> list[str]:
    """The metrics to show of these points, the most telling first: all objectives, and some others
    that the points have. What a network does comes before what is proven of one block."""
    sought = [objective.metric for objective in objectives]
    known = {name for point in points for name in point.metrics}
    first = [name for name in _FIRST if name in sought or name in _ALWAYS & known]
    return list(dict.fromkeys([*first, *sought, *(name for name in _LAST if name in known)]))


def _decimals(values: Sequence[float], most: int) -> int:
    distinct = set(values)
    for n in range(min(FEWEST_DECIMALS, most), most):
        if len({f"{value:.{n}f}" for value in distinct}) == len(distinct):
            return n
    return most
