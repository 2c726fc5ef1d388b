"""TPE whose proposals do not slow down with the number of trials."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from study.metrics.definitions import Direction
from study.pareto.points import as_losses
from study.search.halving import best

# TPE models the best tenth of the ended trials (at most 25 with one objective) and all others. Once
# there are more than _LIMIT, the sampler is shown the _N_BEST best, which include that tenth, and
# every second one of the others.
_LIMIT, _N_BEST = 500, 100
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


class BoundedTPESampler(TPESampler):
    """Optuna's TPE sampler, shown all running trials but at most 500 ended ones. Up to that number
    of ended trials it proposes what Optuna's would."""

    def __init__(self, seed: int, n_startup_trials: int) -> None:
        super().__init__(seed=seed, n_startup_trials=n_startup_trials)
        self._hidden: set[int] = set()  # numbers of trials

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        super().before_trial(study, trial)
        ended = self._shown(study.get_trials(deepcopy=False, states=_ENDED))
        while len(ended) > _LIMIT:
            self._hidden |= _unneeded(ended, study)
            ended = self._shown(ended)

    def _shown(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        return [trial for trial in trials if trial.number not in self._hidden]

    # Private to Optuna, but TPE fits all of its models here, for one objective or several. It gets
    # the trials from one method of the study, which is replaced in a copy of the study.
    def _sample(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        view = copy.copy(study)
        # mypy: the method is replaced in this one object alone, which is the copy.
        view._get_trials = lambda *args, **kwargs: (  # type: ignore[method-assign]
            self._shown(study._get_trials(*args, **kwargs))
        )
        return super()._sample(view, trial, search_space)


def _unneeded(trials: Sequence[FrozenTrial], study: Study) -> set[int]:
    """The numbers of the trials to hide from the sampler: every second one of those that are not
    the _N_BEST best."""
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    directions = [Direction(direction.name.lower()) for direction in study.directions]
    losses = as_losses([trial.values for trial in complete], directions)
    violations = [sum(max(v, 0.0) for v in trial.constraints.values()) for trial in complete]
    kept = {complete[row].number for row in best(losses, np.array(violations), _N_BEST)}
    others = [trial.number for trial in trials if trial.number not in kept]
    return set(others[::2])
