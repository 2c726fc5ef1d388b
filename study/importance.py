"""How much of the spread of an objective each hyperparameter accounts for: an estimate."""

import json
import random
from collections.abc import Mapping, Sequence

import optuna
from optuna.trial import create_trial

from study.distributions import distribution, to_optuna
from study.search_space import Parameter, Value

MOST_TRIALS = 200
"""Of more trials, so many are drawn: the regression trees' time grows with them."""
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
        values: finite, n: what came of each.

    Returns:
        Parameter -> its share of the variance over the space, adding up to 1, largest first, of
        those that vary; interactions are counted to none of them. None where there are too few
        trials to say anything, or nothing varies.
    """
    chosen = list(range(len(samples)))
    if len(chosen) > MOST_TRIALS:
        chosen = sorted(random.Random(seed).sample(chosen, MOST_TRIALS))
    varied = [
        (key, parameter)
        for key, parameter in space
        if len({json.dumps(samples[i][key]) for i in chosen}) > 1
    ]
    # Trials that differ by their seeds alone say nothing of hyperparameters.
    if len(chosen) < _FEWEST_TRIALS or not varied or len({values[i] for i in chosen}) == 1:
        return None
    # It brings in scikit-learn, which every command would wait for.
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
