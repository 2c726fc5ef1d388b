"""How much of the spread of an objective each hyperparameter accounts for: an estimate."""

import json
import random
from collections.abc import Mapping, Sequence

import optuna
from optuna.trial import create_trial

from study.config.space import Parameter, Value
from study.search.distributions import distribution, to_optuna

MOST_TRIALS = 200
"""Most trials that are used, drawn at random if there are more: each tree takes longer."""
_FEWEST_TRIALS = 4


def importance(
    space: Sequence[tuple[str, Parameter]],
    samples: Sequence[Mapping[str, Value]],
    values: Sequence[float],
    seed: int = 0,
) -> dict[str, float] | None:
    """fANOVA (Hutter et al. 2014) on a random forest over the trials.

    Args:
        samples: of the space, n.
        values: n finite ones, the objective of each sample.

    Returns:
        Parameter -> its share of the variance over the space, for the parameters that vary, the
        largest first. They add up to 1: interactions count for none of them. None where there are
        too few trials, or nothing varies.
    """
    chosen = list(range(len(samples)))
    if len(chosen) > MOST_TRIALS:
        chosen = sorted(random.Random(seed).sample(chosen, MOST_TRIALS))
    varied = [
        (key, parameter)
        for key, parameter in space
        if len({json.dumps(samples[i][key]) for i in chosen}) > 1
    ]
    # Trials that differ in their seeds alone say nothing about hyperparameters.
    if len(chosen) < _FEWEST_TRIALS or not varied or len({values[i] for i in chosen}) == 1:
        return None
    # Imported here, since it imports scikit-learn, for which every command would wait.
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    distributions = {key: distribution(parameter) for key, parameter in varied}
    study.add_trials(
        create_trial(
            params={key: to_optuna(parameter, samples[i][key]) for key, parameter in varied},
            distributions=distributions,
            value=values[i],
        )
        for i in chosen
    )
    evaluator = FanovaImportanceEvaluator(seed=seed)
    return dict(get_param_importances(study, evaluator=evaluator))
