"""The parameters that a study varies: float, int and categorical, each checking itself."""

import json
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from study.config.rules import check, require

Value = bool | int | float | str | list[Any] | None


@dataclass(frozen=True)
class FloatParameter:
    """A real number in [low, high], uniform, or uniform in its logarithm."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    type: Literal["float"]
    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        check(self, "low <= high")
        require(not self.log or self.low > 0, "low > 0 where log", low=self.low)
        check(self, "step > 0")
        require(
            not (self.log and self.step), "log or step, not both,", log=self.log, step=self.step
        )

    def extremes(self) -> list[Value]:
        """The ends of the range: a rule that holds for both holds in between."""
        return [self.low, self.high]

    def contains(self, value: object) -> bool:
        """Whether a sample could have this value."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return _is_reached(value, self.low, self.high, self.step)

    def nearest(self, value: float) -> float:
        """The value of a sample that is meant by one which `contains` accepts: 0 means 0.0, and
        with a step what is a step in all but rounding means that step."""
        grid = self.grid() or [value]
        return float(min(grid, key=lambda step: abs(step - value)))

    def grid(self) -> list[float] | None:
        """Every value, for a grid; None where there are too many to list."""
        if self.low == self.high:
            return [self.low]
        if self.step is None:
            return None
        count = int((self.high - self.low) / self.step + 1e-9) + 1
        # Rounded, so that 0.3 + 2 * 0.3 is the 0.9 of whoever writes it.
        values = (float(f"{self.low + index * self.step:.12g}") for index in range(count))
        return [min(max(value, self.low), self.high) for value in values]


@dataclass(frozen=True)
class IntParameter:
    """An integer in [low, high], uniform, or uniform in its logarithm."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    type: Literal["int"]
    low: int
    high: int
    log: bool = False
    step: int = 1

    def __post_init__(self) -> None:
        check(self, "low <= high")
        require(not self.log or self.low > 0, "low > 0 where log", low=self.low)
        check(self, "step >= 1")
        require(
            not (self.log and self.step > 1), "log or step, not both,", log=self.log, step=self.step
        )

    def extremes(self) -> list[Value]:
        """The ends of the range: a rule that holds for both holds in between."""
        return [self.low, self.high]

    def contains(self, value: object) -> bool:
        """Whether a sample could have this value."""
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        return _is_reached(value, self.low, self.high, self.step)

    def grid(self) -> list[Value] | None:
        """Every value, for a grid."""
        return list(range(self.low, self.high + 1, self.step))


@dataclass(frozen=True)
class CategoricalParameter:
    """One of the choices, without an order."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    type: Literal["categorical"]
    choices: tuple[Any, ...]

    def __post_init__(self) -> None:
        require(len(self.choices) >= 1, "one or more choices", choices=list(self.choices))
        n_distinct = len({_hashable(choice) for choice in self.choices})
        require(n_distinct == len(self.choices), "distinct choices", choices=list(self.choices))

    def extremes(self) -> list[Value]:
        """Every choice."""
        return list(self.choices)

    def contains(self, value: object) -> bool:
        """Whether it is one of the choices, as text: samplers know them so, and 0 is not 0.0."""
        return json.dumps(value) in [json.dumps(choice) for choice in self.choices]

    def grid(self) -> list[Value] | None:
        """Every choice, for a grid."""
        return list(self.choices)


def _is_reached(value: float, low: float, high: float, step: float | None) -> bool:
    """Whether a value is in [low, high] and, with a step, a whole number of steps above low."""
    if not low <= value <= high:
        return False
    steps = 0.0 if step is None else (value - low) / step
    return abs(steps - round(steps)) < 1e-9


def _hashable(value: Any) -> Any:
    """A hashable stand-in for a value of YAML, which may be a list or a mapping."""
    if isinstance(value, dict):
        return repr(value)  # no setting is a mapping: the check of the choice refuses it
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


Parameter = FloatParameter | IntParameter | CategoricalParameter
PARAMETER_TYPES: dict[str, type[Parameter]] = {
    "float": FloatParameter,
    "int": IntParameter,
    "categorical": CategoricalParameter,
}
