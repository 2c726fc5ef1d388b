from typing import Any

import pytest

from study.config.space import CategoricalParameter, FloatParameter, IntParameter


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: FloatParameter("float", 2.0, 1.0), r"low <= high must hold, but got low=2.0"),
        (lambda: FloatParameter("float", 0.0, 1.0, log=True), "low > 0 where log must hold"),
        (lambda: FloatParameter("float", 0.0, 1.0, step=0.0), "step > 0 must hold"),
        (lambda: FloatParameter("float", 0.1, 1.0, True, 0.1), "log or step, not both, must hold"),
        (lambda: IntParameter("int", 2, 1), "low <= high must hold, but got low=2, high=1"),
        (lambda: IntParameter("int", 0, 1, log=True), "low > 0 where log must hold, but got low=0"),
        (lambda: IntParameter("int", 0, 1, step=0), "step >= 1 must hold, but got step=0"),
        (lambda: CategoricalParameter("categorical", ()), "one or more choices must hold"),
        (lambda: CategoricalParameter("categorical", (1, 1)), "distinct choices must hold"),
        (lambda: CategoricalParameter("categorical", (1, 1.0)), "distinct choices must hold"),
        (
            lambda: CategoricalParameter("categorical", ([1, [2]], [1, [2]])),
            "distinct choices must hold",
        ),
        (
            lambda: CategoricalParameter("categorical", ({"a": []}, {"a": []})),
            "distinct choices must hold",
        ),
    ],
)
def test_a_parameter_checks_itself(make: Any, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
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
