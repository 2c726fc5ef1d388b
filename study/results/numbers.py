"""The metrics of points as text, and which of them to show."""

import math
from collections.abc import Collection, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN

from study.metrics.definitions import (
    ATTACKED_ACCURACY,
    CERTIFIED_ACCURACY,
    INVERSE_LIPSCHITZ_UPPER_BOUND,
    INVERSE_STEPS,
    METRICS,
    PROVEN_METRICS,
    TEST_ACCURACY,
    TEST_CERTIFIED_ACCURACY,
    VAL_ACCURACY,
    Direction,
    meaning,
)
from study.metrics.goals import Objective
from study.metrics.rounding import Decimals, Digits, decimals_text, number_text
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
        names = {*METRICS, *(name for point in points for name in point.metrics)}
        self._decimals = {
            name: _decimals([p.metrics[name] for p in points if name in p.metrics], resolution.n)
            for name, resolution in ((name, meaning(name).resolution) for name in names)
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


class JustifiedNumbers(Numbers):
    """Metrics of points with the digits that their uncertainty justifies: that is the standard
    error of repeats, or else half of the confidence interval. Without one, as in other tables."""

    def with_error(self, point: Point, name: str) -> str:
        """As "0.981", "0.981 +-0.012" or "(2.1 +-0.3)e-07"."""
        interval, error = point.interval_of(name), (point.standard_error or {}).get(name)
        if interval is None or error == 0:
            return super().with_error(point, name)
        value, half = point.metrics[name], (interval[1] - interval[0]) / 2
        is_plain = value == 0 or 1e-4 <= abs(value) < 1e6
        exponent = 0 if is_plain else math.floor(math.log10(abs(value)))
        # Metrics are rounded to five decimals or four digits.
        n = min(5, _justified_decimals((half if error is None else error) / 10**exponent))
        text = decimals_text(value, n, exponent, _toward(name))
        if error is not None:
            text += f" +-{decimals_text(error, n, exponent)}"
        return text if is_plain else f"({text})e{exponent:+03d}"


def _toward(name: str) -> str:
    """The mode of `decimal` in which a metric is rounded, so that what is proven stays proven."""
    known = meaning(name)
    if known.is_within_radius and name != ATTACKED_ACCURACY:
        return ROUND_FLOOR
    is_bound = isinstance(known.resolution, Digits) and known.resolution.up
    return ROUND_CEILING if is_bound else ROUND_HALF_EVEN


def best_beyond_noise(
    points: Sequence[Point], objective: Objective, rivals: Collection[str]
) -> int | None:
    """Index of the point that is best in an objective beyond the noise, among those whose handles
    are `rivals`; None if there is none.

    Its confidence interval must exclude the value of the second best. A proven bound without an
    interval must differ as printed; another metric by more than its `indifference`, if known.
    """
    name, known = objective.metric, meaning(objective.metric)
    sign = -1 if objective.direction is Direction.MAXIMIZE else 1
    values = {
        row: point.metrics[name]
        for row, point in enumerate(points)
        if point.handle in rivals and math.isfinite(point.metrics.get(name, math.nan))
    }
    ranked = sorted(values, key=lambda row: sign * values[row])
    if len(ranked) < 2 or values[ranked[0]] == values[ranked[1]]:
        return None
    best, second = (values[row] for row in ranked[:2])
    interval = points[ranked[0]].interval_of(name)
    if interval is not None:
        is_apart = not interval[0] <= second <= interval[1]
    else:
        is_known = known.indifference > 0 and not known.is_same(best, second)
        is_apart = name in PROVEN_METRICS or is_known
    return ranked[0] if is_apart else None


def leading_metrics(points: Sequence[Point], objectives: Sequence[Objective]) -> list[str]:
    """The metrics to show of these points, the most telling first: all objectives, and some others
    that the points have. What a network does comes before what is proven of one block."""
    sought = [objective.metric for objective in objectives]
    known = {name for point in points for name in point.metrics}
    first = [name for name in _FIRST if name in sought or name in _ALWAYS & known]
    return list(dict.fromkeys([*first, *sought, *(name for name in _LAST if name in known)]))


def _justified_decimals(uncertainty: float) -> int:
    """Decimals, below 0 for tens and so on, that leave an uncertainty > 0 two digits if these are
    at most 35, else one (Particle Data Group, Review of Particle Physics, Introduction)."""
    exponent = math.floor(math.log10(uncertainty))
    return 1 - exponent if uncertainty / 10**exponent < 3.55 else -exponent


def _decimals(values: Sequence[float], most: int) -> int:
    distinct = set(values)
    for n in range(min(FEWEST_DECIMALS, most), most):
        if len({f"{value:.{n}f}" for value in distinct}) == len(distinct):
            return n
    return most
