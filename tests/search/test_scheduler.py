import math
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from study.config.study import StudyConfig
from study.metrics.definitions import Direction
from study.metrics.goals import Objective
from study.metrics.reports import TrialReport, TrialStatus
from study.search.scheduler import HalvingScheduler, make_halving, make_scheduler
from study.search.searcher import OptunaSearcher
from study.search.suggestion import Suggestion
from tests.support.studies import completed, epoch_report, failed, running, tiny


def halved(name: str, **settings: Any) -> StudyConfig:
    scheduler = {"name": name, "grace_period": 1, "reduction_factor": 2, **settings}
    return tiny(training={"max_epochs": 9}, scheduler=scheduler)


def config(number: int) -> dict[str, Any]:
    """The config of the Tune trial with this number."""
    return asdict(Suggestion(number, seed=number, repeat_of=number, sample={}))


def tell(scheduler: TrialScheduler, number: int, result: dict[str, Any]) -> str:
    trial: Any = SimpleNamespace(trial_id=str(number), config=config(number))
    return scheduler.on_trial_result(None, trial, result)


def test_fifo_stops_none() -> None:
    assert make_halving(tiny()) is None
    scheduler = make_scheduler(tiny(), None)
    results = (running(val_accuracy=0.0, block_lipschitz_upper_bound=9.0), failed("diverged"))
    assert {tell(scheduler, 0, result) for result in results} == {TrialScheduler.CONTINUE}


def test_what_a_driver_that_died_had_decided_is_forgotten() -> None:
    """Tune restores its undone decisions, but the trial goes on from an older checkpoint."""
    stop = {"0": TrialScheduler.STOP, "1": TrialScheduler.CONTINUE}
    tune = SimpleNamespace(_cached_trial_decisions=dict(stop), _queued_trial_decisions=dict(stop))
    scheduler: Any = make_scheduler(tiny(), None)
    scheduler.on_trial_add(SimpleNamespace(_tune_controller=tune), SimpleNamespace(trial_id="0"))
    scheduler.on_trial_add(SimpleNamespace(_tune_controller=tune), SimpleNamespace(trial_id="2"))
    left = {"1": TrialScheduler.CONTINUE}
    assert (tune._cached_trial_decisions, tune._queued_trial_decisions) == (left, left)


@pytest.mark.parametrize("name", ["fifo", "mo_asha"])
def test_who_waits_for_a_worker_gets_its_own_and_who_waits_for_a_place_the_next(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = halved(name) if name != "fifo" else tiny()
    scheduler: Any = make_scheduler(study, make_halving(study))
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    trials = [
        SimpleNamespace(trial_id=f"id{9 - n}", status=Trial.PENDING, config=config(n))
        for n in range(4)
    ]
    live: list[Any] = trials[:3]
    controller = SimpleNamespace(get_live_trials=lambda: live)

    assert scheduler.choose_trial_to_run(controller) is None
    trials[0].status = Trial.RUNNING
    now += 29
    assert scheduler.choose_trial_to_run(controller) is None
    now += 2
    live = trials
    assert scheduler.choose_trial_to_run(controller) is trials[1]
    # It is asked again, of a set that may have another order, before the trial runs.
    live = trials[::-1]
    assert scheduler.choose_trial_to_run(controller) is trials[1]
    trials[1].status = Trial.RUNNING
    assert scheduler.choose_trial_to_run(controller) is trials[2]
    trials[2].status = Trial.RUNNING
    assert scheduler.choose_trial_to_run(controller) is None
    # One that lost its place waits from then on.
    now += 20
    trials[1].status = Trial.PENDING
    assert scheduler.choose_trial_to_run(controller) is None
    now += 15
    assert scheduler.choose_trial_to_run(controller) is trials[3]
    trials[3].status = Trial.RUNNING
    assert scheduler.choose_trial_to_run(controller) is None


GOES_ON, STOPS = TrialScheduler.CONTINUE, TrialScheduler.STOP


def told(study: StudyConfig, *reports: dict[str, float]) -> list[str]:
    """What the scheduler tells trials that report in turn at the first rung."""
    scheduler = make_scheduler(study, make_halving(study))
    return [tell(scheduler, number, running(**report)) for number, report in enumerate(reports)]


@pytest.mark.parametrize(
    ("metric", "good", "bad"),
    [("val_accuracy", 0.9, 0.1), ("block_lipschitz_upper_bound", 0.1, 0.9)],
)
def test_asha_stops_the_worse_side_of_its_objective(metric: str, good: float, bad: float) -> None:
    decided = told(halved("asha", metric=metric), *({metric: v} for v in (good, good, bad, bad)))
    assert (decided[0], *decided[2:]) == (GOES_ON, STOPS, STOPS)


@pytest.mark.parametrize(
    ("name", "ladder", "bound", "decided"),
    [
        ("asha", (), 1.5, GOES_ON),
        ("mo_asha", (), 1.5, STOPS),
        ("mo_asha", (), 1.0, STOPS),  # on the bound itself "< 1" does not hold
        # A network that breaks it may have projections that do not.
        ("mo_asha", (0.5,), 1.5, GOES_ON),
    ],
)
def test_mo_asha_without_a_ladder_puts_what_breaks_the_constraint_last(
    name: str, ladder: tuple[float, ...], bound: float, decided: str
) -> None:
    study = halved(name)
    study = replace(study, search=replace(study.search, ladder=ladder))
    worse = {"val_accuracy": 0.1, "block_lipschitz_upper_bound": 0.99, "inverse_steps": 9.0}
    better = {"val_accuracy": 0.9, "block_lipschitz_upper_bound": bound, "inverse_steps": 4.0}
    assert told(study, worse, better) == [GOES_ON, decided]


def test_mo_asha_keeps_both_ends_of_a_front_and_stops_what_they_dominate() -> None:
    accurate = {"val_accuracy": 0.9, "block_lipschitz_upper_bound": 0.9, "inverse_steps": 9.0}
    smooth = {"val_accuracy": 0.6, "block_lipschitz_upper_bound": 0.1, "inverse_steps": 3.0}
    neither = {"val_accuracy": 0.5, "block_lipschitz_upper_bound": 0.95, "inverse_steps": 9.5}
    decided = told(halved("mo_asha"), neither, neither, accurate, smooth, neither)
    assert decided == [GOES_ON, STOPS, GOES_ON, GOES_ON, STOPS]


def test_mo_asha_stops_first_what_is_not_proven_to_be_invertible() -> None:
    """Its bound is infinite, which must not end the study either."""
    bound = "inverse_lipschitz_upper_bound"
    goals = (
        Objective("val_accuracy", Direction.MAXIMIZE, 0.0),
        Objective(bound, Direction.MINIMIZE, 1e6),
    )
    study = replace(halved("mo_asha"), objectives=goals, constraints=())
    proven = {"val_accuracy": 0.1, bound: 1e5}
    unproven = {"val_accuracy": 0.9, bound: math.inf}
    assert told(study, proven, unproven, proven) == [GOES_ON, STOPS, GOES_ON]


def test_bounds_of_the_inverse_are_compared_by_their_decades() -> None:
    bound = "inverse_lipschitz_upper_bound"
    study = replace(halved("mo_asha"), objectives=(Objective(bound, Direction.MINIMIZE, 1e9),))
    halving = make_halving(study)
    tell(make_scheduler(study, halving), 0, running(**{bound: 1e4}))
    assert halving.rungs[1][0].losses == (4.0,)


def test_the_last_report_of_a_trial_is_not_compared() -> None:
    study = halved("mo_asha")
    halving = make_halving(study)
    scheduler = make_scheduler(study, halving)
    assert tell(scheduler, 0, completed()) == TrialScheduler.CONTINUE
    assert tell(scheduler, 1, failed("diverged")) == TrialScheduler.CONTINUE
    assert halving is not None
    assert not any(halving.rungs.values())


def restored(last: TrialReport) -> dict[str, Any]:
    """The first result of a trial that was restored from its checkpoint at epoch 5."""
    earlier = tuple(epoch_report(epoch, val_accuracy=epoch / 10) for epoch in range(1, 5))
    return replace(last, earlier=earlier).to_result()


def test_a_restored_trial_is_recorded_at_every_rung_that_it_went_past() -> None:
    """A kill may leave the driver an older state."""
    study = halved("mo_asha")
    halving = make_halving(study)
    assert halving is not None
    scheduler = make_scheduler(study, halving)
    runs = TrialReport(TrialStatus.RUNNING, epoch_report(5, val_accuracy=0.5))
    assert tell(scheduler, 0, restored(runs)) == TrialScheduler.CONTINUE
    ended: Any = SimpleNamespace(trial_id="1", config=config(1))
    last = TrialReport(TrialStatus.COMPLETED, epoch_report(5, val_accuracy=0.5))
    # It asks nothing of the controller.
    scheduler.on_trial_complete(None, ended, restored(last))  # type: ignore[arg-type]
    assert {rung: set(entries) for rung, entries in halving.rungs.items()} == {
        1: {0, 1},
        2: {0, 1},
        4: {0, 1},
        8: set(),
    }
    for rung in (1, 2, 4):
        (accuracy, *_) = (-loss for loss in halving.rungs[rung][0].losses)
        assert accuracy == pytest.approx(rung / 10)


def test_rungs_are_kept_with_the_state_of_the_search(tmp_path: Any) -> None:
    """A resumed study makes both parts anew, and then loads the searcher's state."""
    study = halved("mo_asha")
    halving = make_halving(study)
    searcher, scheduler = OptunaSearcher(study, halving), make_scheduler(study, halving)
    for number in range(4):
        tell(scheduler, number, running(val_accuracy=0.9))
    searcher.save(str(tmp_path / "state"))

    anew = make_halving(study)
    searcher, scheduler = OptunaSearcher(study, anew), make_scheduler(study, anew)
    searcher.restore(str(tmp_path / "state"))
    assert halving is not None
    assert isinstance(scheduler, HalvingScheduler)
    assert scheduler.halving.rungs == halving.rungs
    assert set(scheduler.halving.rungs[1]) == {0, 1, 2, 3}
    assert scheduler.halving.stopped == halving.stopped != {}
    assert tell(scheduler, 4, running(val_accuracy=0.1)) == TrialScheduler.STOP
