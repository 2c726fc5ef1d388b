"""An Optuna sampler behind Tune's interface for searchers.

What the sampler observes of a sample, once it will not be trained again:

    completed       the values that `observation` gives for its completed trainings
    stopped early   pruned, without values: half a training does not say how good the sample is
    failed          failed; with gp, the worst values observed so far
"""

import pickle
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState
from ray.tune.search import ConcurrencyLimiter, Searcher
from ray.tune.search.search_generator import SearchGenerator

from study.config.imports import called, users_code
from study.config.space import Value, is_active
from study.config.study import StudyConfig
from study.errors import require
from study.metrics.reports import TrialReport, TrialStatus
from study.pareto import points
from study.pareto.repeats import SampleLosses, is_dominated_beyond_spread
from study.search import observation
from study.search.bounded_tpe import BoundedTPESampler
from study.search.distributions import distribution, from_optuna, sobol_samples, to_optuna
from study.search.halving import SuccessiveHalving
from study.search.observation import Outcome
from study.search.stopping import Stopping
from study.search.suggestion import Suggestion

# Version of a pickled searcher, raised whenever older pickles cannot be continued.
_FORM = 5
# Attributes that make up the state of a search, besides its rungs and its stopping criterion.
_SAVED = ("_study", "_n_samples", "_open", "_observed", "_n_started", "_waiting", "_n_taken")
# A trial's seed is search.seed times this, plus the trial's number: studies share no seeds.
_SEED_STRIDE = 100_000


@dataclass
class _Sample:
    """A proposed sample and its trials: `number` of the first, Tune's ids of those `running`, and
    the outcomes of those `completed`, which trained for all of their epochs."""

    trial: Trial
    number: int
    values: dict[str, Value]
    is_given: bool = False
    n_started: int = 0
    running: set[str] = field(default_factory=set)
    completed: list[Outcome] = field(default_factory=list)


class OptunaSearcher(Searcher):
    """Proposes samples of a study's space to Ray Tune, each as the config of a `Suggestion`.

    The state of the search, with the sampler's random state, is part of Tune's snapshot of the
    experiment, so that the two agree after a crash: a trial that is not in the snapshot was never
    proposed, and its number is used again.
    """

    def __init__(
        self,
        study: StudyConfig,
        halving: SuccessiveHalving | None = None,
        stopping: Stopping | None = None,
        n_searches: int = 0,
    ) -> None:
        """`halving` are the rungs of the study's scheduler, which are saved here, since Tune does
        not save them. `n_searches`: how often the study was extended since it was begun."""
        super().__init__()
        self._form = _FORM
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._config = study
        self._distributions = {key: distribution(p) for key, p in study.space}
        self._study = optuna.create_study(
            sampler=make_sampler(study),
            directions=[direction.value for direction in observation.directions(study)],
        )
        self._n_searches = n_searches
        self._n_started = 0
        self._n_samples = 0
        self._given = self._given_samples()
        self._open: list[_Sample] = []
        self._observed: list[_Sample] = []  # kept only for repeats, which are compared to them
        # With same_up_to: samples whose trial ended, by number, and the results taken in order.
        self._waiting: dict[int, tuple[_Sample, TrialReport | None]] = {}
        self._n_taken = 0
        self._halving = halving
        self._stopping = stopping or Stopping(study)

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state.get("_form") != _FORM:
            raise AttributeError("its search is kept in another form")
        self.__dict__.update(state)

    def _given_samples(self) -> list[dict[str, Any]]:
        """The samples to try before any of Optuna's sampler, in Optuna's form."""
        study, search = self._config, self._config.search
        # Not Optuna's grid sampler: it ends a study by itself, which is Ray's task here.
        samples = study.grid() if search.sampler == "grid" else search.first
        space = dict(study.space)
        given = [{key: to_optuna(space[key], sample[key]) for key in sample} for sample in samples]
        n_startup = search.n_startup_trials
        of_sobol = {"sobol": study.n_trials, "tpe": n_startup, "gp": n_startup}
        n_samples = min(of_sobol.get(search.sampler, 0), study.n_trials)
        n_left = max(0, n_samples - len(given))
        # Their values of parameters whose `when` does not hold are never asked for.
        return given + sobol_samples(self._distributions, n_left, search.seed)

    # Ray's annotation lacks str, which FINISHED is, although Ray expects it.
    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The config of the next trial: an open sample again, or a new one. FINISHED if no further
        trial shall start; None while running trials decide whether a sample is trained again, or
        what is proposed next."""
        self._stopping.start_clock()
        if not self._has_results():
            return None
        self._stopping.end_of_search = self._stopping.end_of_search or self._stopping.reason()
        if self._stopping.end_of_search is not None:
            return Searcher.FINISHED
        sample = next((s for s in self._open if not s.running), None)
        if sample is None and self._n_samples < self._config.n_trials:
            sample = self._new_sample()
        if sample is None and self._config.search.repeats > 1:
            if self._open:
                return None
            self._stopping.end_of_search = "every sample was trained as often as it was worth it"
        if sample is None:
            return Searcher.FINISHED
        number = self._n_started
        self._n_started += 1
        sample.n_started += 1
        sample.running.add(trial_id)
        seed = self._config.search.seed * _SEED_STRIDE + number
        return asdict(Suggestion(number, seed, sample.number, sample.values, sample.is_given))

    def _new_sample(self) -> _Sample:
        if self._n_samples < len(self._given):
            # One at a time: Optuna scans all enqueued ones each time.
            self._study.enqueue_trial(self._given[self._n_samples])
        trial = self._study.ask()
        values: dict[str, Value] = {}
        for key, parameter in self._config.space:
            if is_active(parameter, values):
                # As Study.ask does with each distribution that it is given.
                drawn = trial._suggest(key, self._distributions[key])
                values[key] = from_optuna(parameter, drawn)
        is_given = self._n_samples < min(len(self._config.search.first), len(self._given))
        sample = _Sample(trial, self._n_started, values, is_given)
        self._n_samples += 1
        self._open.append(sample)
        return sample

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Record how a trial ended. The sampler observes the sample unless it is to be trained
        again. A second call for the same trial changes nothing."""
        sample = next((s for s in self._open if trial_id in s.running), None)
        if sample is None:
            return
        sample.running.remove(trial_id)
        report = TrialReport.from_result(result) if result and not error else None
        if self._config.search.same_up_to is None:
            self._take(sample, report)
        else:
            self._open.remove(sample)
            self._waiting[sample.number] = sample, report

    def _has_results(self) -> bool:
        """Whether the results that the next sample depends on are there; they are taken then. With
        same_up_to these are the same however many trials run at a time."""
        search = self._config.search
        is_free = self._n_samples < len(self._given) or search.sampler == "random"
        is_last = self._n_samples >= self._config.n_trials
        if search.same_up_to is None or is_last or (is_free and search.stop is None):
            return True
        while self._n_taken <= self._n_samples - search.same_up_to:
            if self._n_taken not in self._waiting:
                return False
            sample, report = self._waiting.pop(self._n_taken)
            self._n_taken += 1
            self._open.append(sample)
            self._take(sample, report)
        return True

    def _take(self, sample: _Sample, report: TrialReport | None) -> None:
        outcome = observation.of_report(report, self._config)
        if outcome is not None:
            self._stopping.observe(outcome)
            sample.completed.append(outcome)
            if sample.n_started < self._config.search.repeats and not self._is_dominated(sample):
                return
        self._observe(sample, report)

    def _is_dominated(self, sample: _Sample) -> bool:
        """Whether training a sample again would not change the front."""

        objectives = self._config.objectives

        def losses(of: _Sample) -> SampleLosses:
            # A network counts if it was admitted in each training.
            in_each = [outcome.admitted for outcome in of.completed]
            names = set.intersection(*map(set, in_each)) if in_each else set[float | None]()
            return {
                name: points.scaled_losses([admitted[name] for admitted in in_each], objectives)
                for name in names
            }

        others = [losses(s) for s in (*self._observed, *self._open) if s is not sample]
        return is_dominated_beyond_spread(losses(sample), others)

    def _observe(self, sample: _Sample, last: TrialReport | None) -> None:
        self._open.remove(sample)
        if self._config.search.repeats > 1:
            self._observed.append(sample)
        if sample.completed:
            violations = observation.violations(self._config, sample.completed)
            for name, violation in violations.items():
                sample.trial.set_constraint(name, violation)
            self._study.tell(sample.trial, observation.values(self._config, sample.completed))
        elif last is not None and last.status is not TrialStatus.FAILED:
            self._study.tell(sample.trial, state=TrialState.PRUNED)
        else:
            self._tell_failed(sample.trial)

    def _tell_failed(self, trial: Trial) -> None:
        observed = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if self._config.search.sampler != "gp" or not observed:
            self._study.tell(trial, state=TrialState.FAIL)
            return
        # gp's model ignores failed trials, and would propose the same sample forever.
        for name in observed[0].constraints:
            trial.set_constraint(name, max(t.constraints[name] for t in observed))
        worst = [
            max(values) if direction is StudyDirection.MINIMIZE else min(values)
            for direction, *values in zip(
                self._study.directions, *(t.values for t in observed), strict=True
            )
        ]
        self._study.tell(trial, worst)

    def save(self, checkpoint_path: str) -> None:
        """Write the state of the search; Tune calls it at each snapshot."""
        state = {name: getattr(self, name) for name in _SAVED}
        state |= {"n_searches": self._n_searches, "stopping": self._stopping.get_state()}
        if self._halving is not None:
            state |= {"rungs": self._halving.rungs, "stopped": self._halving.stopped}
        with open(checkpoint_path, "wb") as file:
            pickle.dump(state, file)

    def restore(self, checkpoint_path: str) -> None:
        """Continue from a state that `save` wrote; reopen the search if it was extended since."""
        with open(checkpoint_path, "rb") as file:
            state = pickle.load(file)
        # Searches of before 2026-12-03 had no same_up_to.
        vars(self).update((name, state[name]) for name in _SAVED if name in state)
        self._given = self._given_samples()
        self._stopping.set_state(state["stopping"])
        if self._n_searches > state["n_searches"]:
            self._stopping.go_on()
        if self._halving is not None:
            self._halving.rungs, self._halving.stopped = state["rungs"], state["stopped"]


class StudyGenerator(SearchGenerator):
    """Asks a searcher for trials, up to a number in total and a number at a time.

    Tune restores both limits, and the end of the search, from its state. The limits given here
    replace the restored ones, since the study may have been extended.
    """

    def __init__(self, searcher: Searcher, n_trials: int, n_at_once: int) -> None:
        """`n_trials` includes the trials of earlier launches."""
        self._limiter = ConcurrencyLimiter(searcher, max_concurrent=n_at_once)
        super().__init__(self._limiter)
        self._n_trials, self._n_at_once = n_trials, n_at_once

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state({**state, "total_samples": self._n_trials, "finished": False})
        # Tune has just restored it.
        self._limiter.max_concurrent = self._n_at_once


class PickledNSGAIISampler(NSGAIISampler):
    """Optuna's sampler, which since 5.1 has a lock, and so could not be pickled."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_thread_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._thread_lock = threading.Lock()


def make_sampler(study: StudyConfig) -> BaseSampler:
    """The Optuna sampler of a study. Raises ConfigError or OwnCodeError if the user's own fails."""
    search = study.search
    match search.sampler:
        case "tpe":
            return BoundedTPESampler(search.seed, search.n_startup_trials)
        case "gp":
            return GPSampler(seed=search.seed, n_startup_trials=search.n_startup_trials)
        case "nsga2":
            # At least a few generations, whatever the number of trials.
            population_size = max(4, min(50, study.n_trials // 5))
            return PickledNSGAIISampler(seed=search.seed, population_size=population_size)
        # For grid and sobol, `_given_samples` has every sample, and this sampler proposes none.
        case "random" | "grid" | "sobol":
            return RandomSampler(seed=search.seed)
        case path:
            return _own_sampler(path, search.seed)


def _own_sampler(path: str, seed: int) -> BaseSampler:
    key, rule = "search.sampler", f"{path} must give a sampler"
    with users_code(f"{rule} that can be pickled", key, f"the sampler {path}"):
        sampler: BaseSampler = called(path)(seed)
        # Part of the state of the search.
        pickle.dumps(sampler)
    rule = f"{rule} of Optuna, but gives a {type(sampler).__name__}"
    require(isinstance(sampler, BaseSampler), rule, key)
    return sampler
