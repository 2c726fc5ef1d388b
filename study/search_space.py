"""The parameters that a study varies: float, int and categorical, each checking itself."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from study.trial_config import require

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
        require(self.low <= self.high, "low <= high", low=self.low, high=self.high)
        require(not self.log or self.low > 0, "low > 0 where log", low=self.low)
        require(self.step is None or self.step > 0, "step > 0", step=self.step)
        require(
            not (self.log and self.step), "log or step, not both,", log=self.log, step=self.step
        )

    def extremes(self) -> list[Value]:
        """The values at the edge of the range: what holds there holds in between."""
        return [self.low, self.high]

    def grid(self) -> list[Value] | None:
        """Every value, for a grid; None where there are too many to list."""
        if self.low == self.high:
            return [self.low]
        if self.step is None:
            return None
        count = int((self.high - self.low) / self.step + 1e-9) + 1
        return [self.low + index * self.step for index in range(count)]


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
        require(self.low <= self.high, "low <= high", low=self.low, high=self.high)
        require(not self.log or self.low > 0, "low > 0 where log", low=self.low)
        require(self.step >= 1, "step >= 1", step=self.step)
        require(
            not (self.log and self.step > 1), "log or step, not both,", log=self.log, step=self.step
        )

    def extremes(self) -> list[Value]:
        """The values at the edge of the range: what holds there holds in between."""
        return [self.low, self.high]

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

    def grid(self) -> list[Value] | None:
        """Every choice, for a grid."""
        return list(self.choices)


def _hashable(value: Any) -> Any:
    """What is equal where the values are: YAML has lists and mappings, which no set takes."""
    if isinstance(value, dict):
        return repr(value)  # no setting is one, which is said where a choice is settled
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


Parameter = FloatParameter | IntParameter | CategoricalParameter
PARAMETER_TYPES: dict[str, type[Parameter]] = {
    "float": FloatParameter,
    "int": IntParameter,
    "categorical": CategoricalParameter,
}
