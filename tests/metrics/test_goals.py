import math
from typing import Any

import pytest

from study.metrics.goals import Constraint

OPERATORS = ("<", "<=", ">", ">=")
VALUES = (
    -math.inf,
    -2.0,
    -1.0,
    0.0,
    5e-324,
    1.0,
    math.nextafter(1.0, 2.0),
    1.5,
    math.inf,
    math.nan,
)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("bound", [-1.0, 0.0, 1.0, 1e300])
@pytest.mark.parametrize("value", VALUES)
def test_a_violation_is_above_zero_exactly_where_the_constraint_does_not_hold(
    operator: Any, bound: float, value: float
) -> None:
    constraint = Constraint("val_loss", operator, bound)
    holds = eval(f"value {operator} bound", {"value": value, "bound": bound})
    assert constraint.holds(value) is holds
    assert (constraint.violation(value) > 0) is not holds
    assert (constraint.relative_violation(value) > 0) is not holds
    assert constraint.relative_violation(value) >= 0
    assert not math.isnan(constraint.violation(value))


def test_a_violation_says_by_how_much_the_bound_is_missed() -> None:
    below, above = Constraint("val_loss", "<", 2.0), Constraint("val_loss", ">=", 0.0)
    assert (below.violation(5.0), below.violation(1.5)) == (3.0, -0.5)
    assert (below.relative_violation(5.0), below.relative_violation(1.5)) == (1.5, 0.0)
    assert above.relative_violation(-3.0) == 3.0  # of 1, where the bound is 0
