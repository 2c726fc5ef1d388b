"""Values as text, with as many digits as they are reported in; and as JSON has them."""

import math
from collections.abc import Sequence

from study.metrics.definitions import METRICS, Decimals
from study.results.front import Point

# Fractions have as many decimals as tell those apart that are shown, and no fewer.
_FEWEST_DECIMALS = 4


class Numbers:
    """The texts of some points' metrics. Two values have the same text where they are equal as
    reported, and nowhere else."""

    def __init__(self, points: Sequence[Point]) -> None:
        self._decimals = {
            name: _decimals([p.metrics[name] for p in points if name in p.metrics], most)
            for name, most in (
                (name, metric.resolution.n)
                for name, metric in METRICS.items()
                if isinstance(metric.resolution, Decimals)
            )
        }

    def decimals(self, name: str) -> int | None:
        """How many digits behind the point a metric is written with; None where it is written with
        significant digits."""
        return self._decimals.get(name)

    def text(self, name: str, value: float | None) -> str:
        """A value of a metric; empty for None."""
        if value is None:
            return ""
        if name in self._decimals:
            return f"{value:.{self._decimals[name]}f}"
        return f"{value:.{METRICS[name].resolution.n}g}"

    def with_error(self, point: Point, name: str) -> str:
        """A point's value of a metric, with its standard error where it has one."""
        text = self.text(name, point.metrics.get(name))
        error = (point.standard_error or {}).get(name)
        return text if error is None else f"{text} +-{error:.2g}"


def finite(value: float | None) -> float | None:
    """A value as JSON has it: None where it is not finite."""
    return value if value is not None and math.isfinite(value) else None


def _decimals(values: Sequence[float], most: int) -> int:
    distinct = set(values)
    for n in range(min(_FEWEST_DECIMALS, most), most):
        if len({f"{value:.{n}f}" for value in distinct}) == len(distinct):
            return n
    return most
