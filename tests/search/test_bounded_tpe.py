"""The sampler against Optuna's own, which is shown everything."""

import pickle
from collections.abc import Callable

import optuna
import pytest
from optuna.samplers import BaseSampler, TPESampler
from optuna.samplers._tpe import sampler as of_optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from study.search import bounded_tpe
from study.search.bounded_tpe import BoundedTPESampler

GOALS = {"one": ["maximize"], "three": ["maximize", "minimize", "minimize"]}
LIMIT, N_BEST, N_OPEN = 60, 30, 4


def searched(study: optuna.Study, n_trials: int) -> None:
    """A search with some trials open at a time, of which some break the constraint, are pruned, or
    fail."""
    waiting: list[Trial] = []
    for number in range(n_trials + N_OPEN):
        if number < n_trials:
            trial = study.ask()
            trial.suggest_float("x", 0, 1)
            trial.suggest_float("y", 0, 1)
            waiting.append(trial)
        if number < N_OPEN:
            continue
        # Not in the order in which they began.
        trial = waiting.pop(number % len(waiting))
        if trial.number % 9 == 5:
            study.tell(trial, state=TrialState.PRUNED)
        elif trial.number % 9 == 7:
            study.tell(trial, state=TrialState.FAIL)
        else:
            x, y = trial.params["x"], trial.params["y"]
            trial.set_constraint("y", y - 0.8)
            # A front from (0, 0) to (1, 0).
            study.tell(trial, [x - y, x * x + y, y + (1 - x) / 9][: len(study.directions)])


def made(sampler: type[BaseSampler], goals: list[str]) -> optuna.Study:
    settings: dict[str, int] = {"seed": 0, "n_startup_trials": 5}
    return optuna.create_study(sampler=sampler(**settings), directions=goals)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_tpe, "_LIMIT", LIMIT)
    monkeypatch.setattr(bounded_tpe, "_N_BEST", N_BEST)


@pytest.mark.parametrize("goals", GOALS.values(), ids=GOALS)
def test_up_to_the_limit_its_proposals_are_optunas(goals: list[str]) -> None:
    plain, bounded = made(TPESampler, goals), made(BoundedTPESampler, goals)
    for study in (plain, bounded):
        searched(study, LIMIT + N_OPEN)
    assert [t.params for t in bounded.trials] == [t.params for t in plain.trials]
    searched(plain, 60)
    searched(bounded, 60)
    assert [t.params for t in bounded.trials] != [t.params for t in plain.trials]


@pytest.mark.parametrize("goals", GOALS.values(), ids=GOALS)
def test_of_more_no_model_is_of_more_than_the_limit_and_those_that_run(
    goals: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    split, seen = of_optuna._split_trials, list[list[FrozenTrial]]()

    def watched(
        study: optuna.Study, trials: list[FrozenTrial], n_below: int
    ) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
        seen.append(trials)
        return split(study, trials, n_below)

    monkeypatch.setattr(of_optuna, "_split_trials", watched)
    study = made(BoundedTPESampler, goals)
    searched(study, 200)
    assert len(seen) >= 190
    n_ended = [sum(t.state is not TrialState.RUNNING for t in trials) for trials in seen]
    assert max(n_ended) == LIMIT
    assert min(n_ended[-100:]) > N_BEST
    assert any(t.state is TrialState.RUNNING for t in seen[-1])
    if len(goals) == 1:  # TPE's are the 25 best that meet the constraint
        ended = [t for t in study.trials if t.state is TrialState.COMPLETE]
        feasible = [t for t in ended[:150] if t.params["y"] <= 0.8]
        best = sorted(feasible, key=lambda t: -t.values[0])[:25]
        assert {t.number for t in best} <= {t.number for t in seen[-1]}


def test_it_goes_on_after_a_restart_as_if_there_had_been_none() -> None:
    def run(restart: Callable[[optuna.Study], optuna.Study]) -> list[dict[str, float]]:
        study = made(BoundedTPESampler, GOALS["three"])
        searched(study, 90)
        study = restart(study)
        searched(study, 10)
        return [t.params for t in study.trials]

    assert run(lambda study: study) == run(lambda study: pickle.loads(pickle.dumps(study)))
