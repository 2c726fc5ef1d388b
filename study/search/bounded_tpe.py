"""TPE whose proposals do not slow down with the number of trials."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from study.metrics.definitions import Direction
from study.pareto.dominance import as_losses
from study.search.halving import best

# TPE models the 25 best trials, and all others. Of more trials than the limit it is shown so many
# of the best, among which it finds those 25, and every second one of the others.
_LIMIT, _N_BEST = 500, 100


class BoundedTPESampler(TPESampler):
    """Optuna's sampler, shown at most 500 of the finished trials. Up to that number its proposals
    are Optuna's own if trials end in the order in which they began."""

    def __init__(self, seed: int, n_startup_trials: int) -> None:
        super().__init__(seed=seed, n_startup_trials=n_startup_trials)
        self._shown: list[FrozenTrial] = []
        self._study_of_shown: Study | None = None

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        if self._study_of_shown is None:
            self._study_of_shown = optuna.create_study(directions=study.directions)
            self._study_of_shown.add_trials(self._shown)
        return super().sample_independent(
            self._study_of_shown, trial, param_name, param_distribution
        )

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        super().after_trial(study, trial, state, values)
        if state is TrialState.FAIL:
            return
        ended = optuna.create_trial(
            state=state,
            values=values,
            params=trial.params,
            distributions=trial.distributions,
            constraints=trial.constraints,
        )
        self._shown.append(ended)
        if len(self._shown) > _LIMIT:
            self._shown = _thinned(self._shown, study)
        self._study_of_shown = None


def _thinned(trials: Sequence[FrozenTrial], study: Study) -> list[FrozenTrial]:
    """The best trials and every second one of the others, in their order."""
    complete = [row for row, trial in enumerate(trials) if trial.state is TrialState.COMPLETE]
    directions = [Direction(direction.name.lower()) for direction in study.directions]
    losses = as_losses([trials[row].values for row in complete], directions)
    violations = [sum(max(v, 0.0) for v in trials[row].constraints.values()) for row in complete]
    kept = {complete[row] for row in best(losses, np.array(violations), _N_BEST)}
    others = [row for row in range(len(trials)) if row not in kept]
    return [trials[row] for row in sorted(kept | set(others[1::2]))]
