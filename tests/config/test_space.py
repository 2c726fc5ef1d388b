from typing import Any

import pytest

from study.config.space import CategoricalParameter, FloatParameter, IntParameter
from study.errors import ConfigError


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: FloatParameter("float", 2.0, 1.0), "low: must be at most high, 1, but got 2.0"),
        (lambda: IntParameter("int", 0, 1, log=True), "low: must be above 0 where log is true, bu"),
        (lambda: FloatParameter("float", 0.1, 1.0, True, 0.1), "step: must be left out where log"),
        (lambda: IntParameter("int", 1, 9, True, 2), "step: must be left out where log is true, "),
        (lambda: CategoricalParameter("categorical", ()), "choices: must have one or more values"),
        (lambda: CategoricalParameter("categorical", (1, 1)), "choices: must have each value once"),
        (lambda: CategoricalParameter("categorical", ([1], [1])), "choices: must have each value"),
    ],
)
def test_a_parameter_checks_itself(make: Any, line: str) -> None:
    with pytest.raises(ConfigError, match=f"^{line}"):
        make()


def test_grids() -> None:
    assert FloatParameter("float", 0.3, 0.9).grid() is None
    assert FloatParameter("float", 0.3, 0.3).grid() == [0.3]
    values = FloatParameter("float", 0.3, 0.9, step=0.2).grid()
    assert values == [0.3, 0.5, 0.7, 0.9]
    assert IntParameter("int", 1, 7, step=3).grid() == [1, 4, 7]
    assert CategoricalParameter("categorical", ("a", [1, 2])).grid() == ["a", [1, 2]]


def test_what_a_parameter_contains() -> None:
    real = FloatParameter("float", 0.3, 0.9, step=0.2)
    whole = IntParameter("int", 1, 7, step=3)
    choice = CategoricalParameter("categorical", (0.0, [1, 2]))
    for parameter in (real, whole, choice):
        assert all(parameter.contains(value) for value in parameter.grid() or [])
    assert real.contains(0.3 + 0.2 + 0.2)
    assert not any(real.contains(value) for value in (0.1, 0.4, 1.1, "0.5", True, None))
    assert not any(whole.contains(value) for value in (0, 2, 10, 4.0, True, "4"))
    assert not any(choice.contains(value) for value in (0, [1], "0.0"))
