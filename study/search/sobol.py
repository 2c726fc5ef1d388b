"""A scrambled Sobol sequence, which covers a space evenly (Sobol 1967, Owen 1995)."""

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import QMCSampler
from optuna.trial import TrialState, create_trial


def sobol_samples(
    distributions: Mapping[str, BaseDistribution], n_samples: int, seed: int
) -> list[dict[str, Any]]:
    """The first samples of a sequence, in Optuna's form; they do not depend on `n_samples`. `seed`
    is that of the scrambling."""
    with warnings.catch_warnings():
        # Experimental: Optuna may still change its arguments.
        warnings.simplefilter("ignore", ExperimentalWarning)
        sampler = QMCSampler(scramble=True, seed=seed, warn_independent_sampling=False)
    study = optuna.create_study(sampler=sampler)
    # Not study.ask, which scans all earlier trials each time.
    trial = create_trial(state=TrialState.WAITING)
    space = dict(distributions)
    samples = [sampler.sample_relative(study, trial, space) for _ in range(n_samples)]
    return [{key: _inside(space[key], value) for key, value in s.items()} for s in samples]


def _inside(distribution: BaseDistribution, value: Any) -> Any:
    """The value, or the end of the range if rounding put it outside."""
    if isinstance(distribution, FloatDistribution):
        return min(max(value, distribution.low), distribution.high)
    return value
