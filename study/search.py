"""Space, objectives and constraints -> an Optuna sampler behind Ray's searcher interface.

What a trial is told to the sampler as:

    completed       its values, and by how much it violates each constraint
    stopped early   pruned, without values: half-trained values are no values
    failed          failed
"""

import json
import pickle
import sys
from collections.abc import Mapping
from itertools import product
from typing import Any

import optuna
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import Trial, TrialState
from ray.tune.search import Searcher

from study.config import StudyConfig
from study.metrics import TrialReport, TrialStatus
from study.search_space import CategoricalParameter, FloatParameter, Parameter, Value
from study.successive_halving import SuccessiveHalving

# A seed of a trial is that of its study and its number; this keeps studies apart.
_SEED_STRIDE = 100_000


class OptunaSearcher(Searcher):
    """Proposes samples of a study's space to Ray Tune.

    The state of the search, the sampler's random state included, is part of Tune's snapshot
    of the experiment, so that after a crash the two agree: a trial that the snapshot does not
    know was never proposed, and its number is given out again.

    Each suggestion is {"number": n, "seed": s, "sample": {...}}; `number` counts from 0 and
    identifies the trial in the study, across restarts.
    """

    def __init__(self, study: StudyConfig, halving: SuccessiveHalving | None = None) -> None:
        """halving: what the study's scheduler must remember, if it has anything to remember:
        Tune's snapshot has the state of a searcher, and none of a scheduler."""
        super().__init__()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._config = study
        self._study = optuna.create_study(
            sampler=_sampler(study),
            directions=[objective.direction.value for objective in study.objectives],
        )
        if study.search.sampler == "grid":
            # Optuna's own grid sampler ends a study by itself, which is Ray's part here.
            keys = [key for key, _ in study.space]
            for point in product(*(_grid(parameter) for _, parameter in study.space)):
                self._study.enqueue_trial(dict(zip(keys, point, strict=True)))
        self._n_asked = 0
        self._trials: dict[str, Trial] = {}
        self._halving = halving

    # Ray declares no text here, but FINISHED, which it asks for, is one.
    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]
        """The next sample; FINISHED after the study's number of trials."""
        if self._n_asked >= self._config.n_trials:
            return Searcher.FINISHED
        self._n_asked += 1
        trial = self._study.ask()
        self._trials[trial_id] = trial
        return {
            "number": trial.number,
            "seed": self._config.search.seed * _SEED_STRIDE + trial.number,
            "sample": {key: _suggest(trial, key, p) for key, p in self._config.space},
        }

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the sampler how a trial ended. Telling it twice changes nothing."""
        trial = self._trials.pop(trial_id, None)
        if trial is None:
            return
        report = TrialReport.from_result(result) if result and not error else None
        if report is None or report.status is TrialStatus.FAILED:
            self._study.tell(trial, state=TrialState.FAIL)
        elif report.status is TrialStatus.COMPLETED:
            assert report.epoch is not None
            metrics = report.epoch.metrics()
            for constraint in self._config.constraints:
                value = metrics[constraint.metric]
                violation = constraint.violation(value)
                if not constraint.holds(value):
                    # Optuna calls 0 feasible, and refuses NaN and infinity.
                    violation = max(violation, sys.float_info.min)
                trial.set_constraint(
                    constraint.metric,
                    violation if violation < sys.float_info.max else sys.float_info.max,
                )
            self._study.tell(trial, [metrics[o.metric] for o in self._config.objectives])
        else:
            self._study.tell(trial, state=TrialState.PRUNED)

    def save(self, checkpoint_path: str) -> None:
        """Write the state of the search; Tune calls it at each of its snapshots."""
        with open(checkpoint_path, "wb") as file:
            rungs = None if self._halving is None else self._halving.rungs
            pickle.dump((self._study, self._trials, self._n_asked, rungs), file)

    def restore(self, checkpoint_path: str) -> None:
        """Go on from a state that `save` wrote."""
        with open(checkpoint_path, "rb") as file:
            self._study, self._trials, self._n_asked, rungs = pickle.load(file)
        if self._halving is not None:
            self._halving.rungs = rungs


def _sampler(study: StudyConfig) -> BaseSampler:
    search = study.search
    match search.sampler:
        case "tpe":
            return TPESampler(seed=search.seed, n_startup_trials=search.n_startup_trials)
        case "gp":
            return GPSampler(seed=search.seed, n_startup_trials=search.n_startup_trials)
        case "nsga2":
            # At least a few generations, whatever the number of trials.
            population_size = max(4, min(50, study.n_trials // 5))
            return NSGAIISampler(seed=search.seed, population_size=population_size)
        case "random" | "grid":
            return RandomSampler(seed=search.seed)


def _suggest(trial: Trial, key: str, parameter: Parameter) -> Value:
    if isinstance(parameter, CategoricalParameter):
        chosen: Value = json.loads(str(trial.suggest_categorical(key, _grid(parameter))))
        return chosen
    if isinstance(parameter, FloatParameter):
        return trial.suggest_float(
            key, parameter.low, parameter.high, log=parameter.log, step=parameter.step
        )
    return trial.suggest_int(
        key, parameter.low, parameter.high, log=parameter.log, step=parameter.step
    )


def _grid(parameter: Parameter) -> list[Any]:
    """Every value, as Optuna knows it: choices as JSON text, since they may be lists."""
    values = parameter.grid()
    assert values is not None
    if isinstance(parameter, CategoricalParameter):
        return [json.dumps(value) for value in values]
    return values
