from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from study.scheduling import make_scheduler
from tests.studies import running, tiny


def test_fifo_stops_none() -> None:
    assert type(make_scheduler(tiny())) is FIFOScheduler


@pytest.mark.parametrize(
    ("metric", "good", "bad"),
    [("val_accuracy", 0.9, 0.1), ("lipschitz_upper_bound", 0.1, 0.9)],
)
def test_asha_stops_the_worse_side_of_its_objective(metric: str, good: float, bad: float) -> None:
    study = tiny(
        training={"max_epochs": 9},
        scheduler={"name": "asha", "metric": metric, "grace_period": 1, "reduction_factor": 2},
    )
    scheduler = make_scheduler(study)
    decisions = []
    for number, value in enumerate([good, good, bad, bad]):
        trial: Any = SimpleNamespace(trial_id=str(number), last_result={}, status="RUNNING")
        scheduler.on_trial_add(None, trial)  # type: ignore[arg-type]
        result = {**running(**{metric: value}), "training_iteration": 1}
        decisions.append(scheduler.on_trial_result(None, trial, result))  # type: ignore[arg-type]
    assert decisions[0] == TrialScheduler.CONTINUE
    assert decisions[-1] == TrialScheduler.STOP
