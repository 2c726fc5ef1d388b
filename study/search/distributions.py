"""The space of a study, and its samples, in Optuna's form."""

import json
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import QMCSampler
from optuna.trial import TrialState, create_trial

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


def sobol_samples(
    distributions: Mapping[str, BaseDistribution], n_samples: int, seed: int
) -> list[dict[str, Any]]:
    """The first samples of a scrambled Sobol sequence (Sobol 1967, Owen 1995), in Optuna's form,
    which cover the space evenly. `seed` decides the scrambling; a larger `n_samples` only adds."""
    with warnings.catch_warnings():
        # Experimental: Optuna may still change its arguments.
        warnings.simplefilter("ignore", ExperimentalWarning)
        sampler = QMCSampler(scramble=True, seed=seed, warn_independent_sampling=False)
    study = optuna.create_study(sampler=sampler)
    # Not study.ask, which scans all earlier trials each time.
    trial = create_trial(state=TrialState.WAITING)
    space = dict(distributions)
    samples = [sampler.sample_relative(study, trial, space) for _ in range(n_samples)]
    for sample in samples:
        for key, of in space.items():
            if isinstance(of, FloatDistribution):
                # Rounding may have put a value outside.
                sample[key] = min(max(sample[key], of.low), of.high)
    return samples
