"""The space of a study, and its samples, in Optuna's form."""

import json
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from study.config.space import CategoricalParameter, FloatParameter, Parameter, Value


def distribution(parameter: Parameter) -> BaseDistribution:
    """A parameter's range or choices in Optuna's form."""
    if isinstance(parameter, CategoricalParameter):
        return CategoricalDistribution([to_optuna(parameter, c) for c in parameter.choices])
    if isinstance(parameter, FloatParameter):
        return FloatDistribution(
            parameter.low, parameter.high, log=parameter.log, step=parameter.step
        )
    return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def to_optuna(parameter: Parameter, value: Value) -> Any:
    """A value in Optuna's form. Choices become JSON text, since they may be lists."""
    return json.dumps(value) if isinstance(parameter, CategoricalParameter) else value


def from_optuna(parameter: Parameter, value: Any) -> Value:
    """The inverse of to_optuna."""
    chosen: Value = json.loads(value) if isinstance(parameter, CategoricalParameter) else value
    return chosen
