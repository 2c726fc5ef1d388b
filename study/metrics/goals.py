"""Goals of a study: objectives to optimize, and constraints to meet."""

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any, Literal

from study.metrics.definitions import INVERSE_LIPSCHITZ_UPPER_BOUND, Direction, meaning

_HOLDS = {"<": lt, "<=": le, ">": gt, ">=": ge}


@dataclass(frozen=True)
class Objective:
    """A metric and its direction; `reference` is its coordinate of the reference point."""

    metric: str
    direction: Direction
    reference: float

    def __str__(self) -> str:
        return self.direction.value


@dataclass(frozen=True)
class Constraint:
    """A bound on a metric that a network must meet to be on the front; infinite for INVERTIBLE."""

    metric: str
    operator: Literal["<", "<=", ">", ">="]
    bound: float

    @property
    def direction(self) -> Direction:
        """MINIMIZE if values below the bound meet the constraint, else MAXIMIZE."""
        return Direction.MINIMIZE if self.operator in ("<", "<=") else Direction.MAXIMIZE

    def holds(self, value: float) -> bool:
        """Whether a value meets the constraint; NaN never does."""
        return bool(_HOLDS[self.operator](value, self.bound))

    def violation(self, value: float) -> float:
        """By how much the bound is missed; above 0 exactly if `holds` is false, inf for NaN."""
        is_upper = self.direction is Direction.MINIMIZE
        missed = value - self.bound if is_upper else self.bound - value
        if math.isnan(missed):
            return math.inf
        # On the bound itself, a strict constraint is missed by 0 but does not hold.
        return missed if self.holds(value) else max(missed, sys.float_info.min)

    def relative_violation(self, value: float) -> float:
        """The violation relative to |bound|, or to 1 if that is 0; 0 exactly if `holds` is true.
        An infinite bound is met or missed, so a violation of it is 1."""
        if self.holds(value):
            return 0.0
        if math.isinf(self.bound):
            return 1.0
        return max(self.violation(value) / (abs(self.bound) or 1.0), sys.float_info.min)

    def broken_by(self, name: str, value: float) -> str:
        """How a value breaks the constraint, in words, with a name for its metric."""
        if self == INVERTIBLE:
            return "no proven inverse"
        # Of a bound of 0 there are no percents.
        beyond = f", {self.relative_violation(value):.1%} beyond" if self.bound else ""
        return f"{name} must be {self}, but is {value:.4g}{beyond}"

    def phrase(self, name: str) -> str:
        """The constraint in words, with a name for its metric."""
        return "a proven inverse" if self == INVERTIBLE else f"{name} {self}"

    def __str__(self) -> str:
        return f"{self.operator} {self.bound:g}"


INVERTIBLE = Constraint(INVERSE_LIPSCHITZ_UPPER_BOUND, "<", math.inf)
"""The inverse is proven to exist; in a study file `invertible: true`."""


def reference_text(objectives: Iterable[Objective]) -> str:
    """The reference point of the hypervolume as text: name and coordinate of each objective, as
    log10 where the volume takes the logarithm."""
    parts = []
    for objective in objectives:
        known = meaning(objective.metric)
        name = f"log10({objective.metric})" if known.in_decades else objective.metric
        parts.append(f"{name} {known.scaled(objective.reference):g}")
    return ", ".join(parts)


def relative_violations(values: Mapping[Constraint, float]) -> dict[str, float]:
    """The relative violation of each constraint by its value, under its key in a study file."""
    violations = (c.relative_violation(value) for c, value in values.items())
    return dict(zip(as_in_a_file(values), violations, strict=True))


def as_in_a_file(constraints: Iterable[Constraint]) -> dict[str, Any]:
    """Constraints in the form that they have in a study file, by metric."""
    pairs = (("invertible", True) if c == INVERTIBLE else (c.metric, str(c)) for c in constraints)
    return dict(pairs)
