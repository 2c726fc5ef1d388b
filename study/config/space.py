"""The parameters that a study varies: float, int and categorical, each checking itself.

A parameter may have a condition, `when`: {name of an earlier parameter: value or list of values}.
It is then part of a sample only if each parameter named there has that value, or one of the list.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from models import setting
from study.errors import quoted, require

MOST_VALUES = 1_000_000
"""The largest number of values of a parameter with a step, and of samples in a whole grid."""
Value = bool | int | float | str | list[Any] | None


@dataclass(frozen=True)
class _Range:
    """A number in [low, high], uniform or log-uniform; with a step, low plus a multiple of it."""

    numbers: ClassVar[type[int] | tuple[type[int], type[float]]]
    type: str
    low: float
    high: float
    log: bool = False
    step: float | None = None
    when: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        high = quoted(self.high).removesuffix(".0")
        require(self.low <= self.high, f"must be at most high, {high}", "low", self.low)
        if self.log:
            require(self.low > 0, "must be above 0 where log is true", "low", self.low)
            # The step of an integer is 1 by default.
            has_step = self.step not in (None, type(self).step)
            require(not has_step, "must be left out where log is true", "step", self.step)

    def extremes(self) -> list[Value]:
        """The ends of the range: a rule that holds at both ends holds in between."""
        return [self.low, self.high]

    def contains(self, value: object) -> bool:
        """Whether a sample could have this value."""
        if not isinstance(value, self.numbers) or isinstance(value, bool):
            return False
        if not self.low <= value <= self.high:
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return abs(steps - round(steps)) < 1e-9


@dataclass(frozen=True)
class FloatParameter(_Range):
    """A real number."""

    numbers = (int, float)
    type: Literal["float"]
    step: float | None = setting(None, gt=0)

    def nearest(self, value: float) -> float:
        """The space's own form of a value that `contains` accepts: always a float, so 0 becomes
        0.0, and with a step the exact value on the grid."""
        grid = self.grid() or [value]
        return float(min(grid, key=lambda step: abs(step - value)))

    def grid(self) -> list[float] | None:
        """All values, for a grid; None if there are too many to list."""
        if self.low == self.high:
            return [self.low]
        if self.step is None or self.high - self.low > MOST_VALUES * self.step:
            return None
        count = int((self.high - self.low) / self.step + 1e-9) + 1
        # Rounded, so that 0.3 + 2 * 0.3 is 0.9.
        values = (float(f"{self.low + index * self.step:.12g}") for index in range(count))
        return [min(max(value, self.low), self.high) for value in values]


@dataclass(frozen=True)
class IntParameter(_Range):
    """An integer."""

    numbers = int
    type: Literal["int"]
    low: int
    high: int
    step: int = setting(1, ge=1)

    def grid(self) -> list[Value] | None:
        """All values, for a grid; None if there are too many to list."""
        if self.high - self.low > MOST_VALUES * self.step:
            return None
        return list(range(self.low, self.high + 1, self.step))


@dataclass(frozen=True)
class CategoricalParameter:
    """One of the choices, without an order."""

    type: Literal["categorical"]
    choices: tuple[Any, ...]
    when: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        require(bool(self.choices), "must have one or more values", "choices", [])
        n_distinct, choices = len(set(map(json.dumps, self.choices))), list(self.choices)
        require(n_distinct == len(choices), "must have each value once", "choices", choices)

    def extremes(self) -> list[Value]:
        """Every choice; also serves as `grid`."""
        return list(self.choices)

    def contains(self, value: object) -> bool:
        """Whether the value is a choice, compared as JSON text, as samplers do: 0 is not 0.0."""
        return json.dumps(value) in [json.dumps(choice) for choice in self.choices]

    grid = extremes


Parameter = FloatParameter | IntParameter | CategoricalParameter
PARAMETER_TYPES: dict[str, type[Parameter]] = {
    "float": FloatParameter,
    "int": IntParameter,
    "categorical": CategoricalParameter,
}


def is_active(parameter: Parameter, sample: Mapping[str, Value]) -> bool:
    """Whether a parameter's `when` holds, given the sample's values of the parameters before it."""
    return all(
        name in sample and sample[name] in (wanted if isinstance(wanted, list) else [wanted])
        for name, wanted in (parameter.when or {}).items()
    )


def values_needed(space: Mapping[str, Parameter]) -> dict[str, dict[str, Value]]:
    """For each parameter, the first allowed value of every earlier parameter that its `when` needs,
    directly or not. Raises ConfigError unless each `when` is on values of earlier parameters."""
    needed: dict[str, dict[str, Value]] = {}
    for key, parameter in space.items():
        own: dict[str, Value] = {}
        for name, wanted in (parameter.when or {}).items():
            place, values = f"space.{key}.when", wanted if isinstance(wanted, list) else [wanted]
            rule = f"must name parameters that stand ahead of {key} in the space"
            require(name in needed, rule, place, name)
            require(bool(values), "must have one or more values", place, wanted)
            for value in values:
                is_value = space[name].contains(value)
                require(is_value, f"must be a value of space.{name}", place, value)
            own = {**needed[name], **own, name: values[0]}
        needed[key] = own
    return needed
