"""What a study is after: objectives to optimize, and constraints to keep."""

import math
import sys
from dataclasses import dataclass
from typing import Literal

from study.metrics.definitions import Direction


@dataclass(frozen=True)
class Objective:
    """A metric and its direction; `reference` is its coordinate of the reference point."""

    metric: str
    direction: Direction
    reference: float


@dataclass(frozen=True)
class Constraint:
    """A metric that a network must keep on one side of a bound to be on the front."""

    metric: str
    operator: Literal["<", "<=", ">", ">="]
    bound: float

    def holds(self, value: float) -> bool:
        """Whether a value meets it; NaN never does."""
        return {
            "<": value < self.bound,
            "<=": value <= self.bound,
            ">": value > self.bound,
            ">=": value >= self.bound,
        }[self.operator]

    def violation(self, value: float) -> float:
        """By how much a value misses the bound: above 0 exactly where `holds` is false, at most 0
        where it is true, infinite for NaN."""
        missed = value - self.bound if self.operator in ("<", "<=") else self.bound - value
        if math.isnan(missed):
            return math.inf
        # On the bound itself a strict constraint is missed by nothing, and does not hold.
        return missed if self.holds(value) else max(missed, sys.float_info.min)

    def relative_violation(self, value: float) -> float:
        """0 exactly where `holds` is true; else the violation as a part of |bound|, or of 1 where
        the bound is 0."""
        if self.holds(value):
            return 0.0
        return max(self.violation(value) / (abs(self.bound) or 1.0), sys.float_info.min)

    def __str__(self) -> str:
        return f"{self.operator} {self.bound:g}"
