"""The sampler against Optuna's own, which is shown everything."""

import pickle
from collections.abc import Callable

import optuna
import pytest
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import TrialState

from study.search import bounded_tpe
from study.search.bounded_tpe import BoundedTPESampler

GOALS = {"one": ["maximize"], "three": ["maximize", "minimize", "minimize"]}


def losses(x: float, y: float) -> list[float]:
    """A front from (0, 0) to (1, 0)."""
    return [x - y, x * x + y, y + (1 - x) / 9]


def searched(sampler: BaseSampler, goals: list[str], n_trials: int) -> optuna.Study:
    """A search of which some trials break the constraint, are pruned, or fail."""
    study = optuna.create_study(sampler=sampler, directions=goals)
    for number in range(n_trials):
        trial = study.ask()
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        if number % 9 == 5:
            study.tell(trial, state=TrialState.PRUNED)
        elif number % 9 == 7:
            study.tell(trial, state=TrialState.FAIL)
        else:
            trial.set_constraint("y", y - 0.8)
            study.tell(trial, losses(x, y)[: len(goals)])
    return study


def samplers(seed: int) -> list[BaseSampler]:
    return [made(seed=seed, n_startup_trials=5) for made in (TPESampler, BoundedTPESampler)]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_tpe, "_LIMIT", 60)
    monkeypatch.setattr(bounded_tpe, "_N_BEST", 30)


@pytest.mark.parametrize("goals", GOALS.values(), ids=GOALS)
def test_up_to_the_limit_its_proposals_are_optunas(goals: list[str]) -> None:
    plain, bounded = (searched(s, goals, 60) for s in samplers(0))
    assert [t.params for t in bounded.trials] == [t.params for t in plain.trials]


@pytest.mark.parametrize("goals", GOALS.values(), ids=GOALS)
def test_of_more_it_is_shown_no_more_than_the_limit(goals: list[str]) -> None:
    sampler = BoundedTPESampler(seed=0, n_startup_trials=5)
    searched(sampler, goals, 300)
    assert 30 <= len(sampler._shown) <= 60
    assert {t.state for t in sampler._shown} == {TrialState.COMPLETE, TrialState.PRUNED}


def test_it_is_shown_all_of_the_best() -> None:
    """TPE's are the 25 best that meet the constraint."""
    sampler = BoundedTPESampler(seed=0, n_startup_trials=5)
    trials = searched(sampler, GOALS["one"], 300).trials
    feasible = [t for t in trials if t.state is TrialState.COMPLETE and t.params["y"] <= 0.8]
    assert len(feasible) > 60
    best = sorted(feasible, key=lambda t: -t.values[0])[:25]
    shown = [t.params for t in sampler._shown]
    assert all(t.params in shown for t in best)


def test_it_goes_on_after_a_restart_as_if_there_had_been_none() -> None:
    def run(restart: Callable[[optuna.Study], optuna.Study]) -> list[dict[str, float]]:
        study = searched(BoundedTPESampler(seed=3, n_startup_trials=5), GOALS["three"], 90)
        study = restart(study)
        for _ in range(10):
            trial = study.ask()
            x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
            study.tell(trial, losses(x, y))
        return [t.params for t in study.trials]

    assert run(lambda study: study) == run(lambda study: pickle.loads(pickle.dumps(study)))
