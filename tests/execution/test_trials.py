import random
from typing import Any

import pytest
from ray.tune.experiment import Trial

from study.execution import trials as tune_trials
from study.execution.trials import EndedTrials
from study.metrics.reports import TrialStatus
from tests.support.studies import completed, failed, running
from tests.support.tune import fake_trial


@pytest.mark.parametrize("seed", range(20))
def test_it_knows_what_looking_at_every_trial_would_show(seed: int) -> None:
    rng = random.Random(seed)
    ended, trials, before = EndedTrials(), list[Any](), set[str]()
    for _ in range(50):
        states = (Trial.RUNNING, Trial.PENDING, Trial.TERMINATED)
        for _ in range(rng.randrange(4)):
            trials.append(fake_trial(len(trials), rng.choice(states), {}))
        if trials and rng.random() < 0.5:
            # What is tried again goes to the end, as new ones come in the same step or not.
            trials.append(trials.pop(rng.randrange(len(trials))))
        for trial in trials:
            if not trial.is_finished() and rng.random() < 0.1:
                trial.status = rng.choice((Trial.TERMINATED, Trial.ERROR, Trial.PENDING))
        just_ended = [trial.trial_id for trial in ended.update(trials)]
        now = {trial.trial_id for trial in trials if trial.is_finished()}
        assert len(just_ended) == len(set(just_ended))
        assert set(just_ended) == now - before
        assert {t.trial_id for t in trials if t in ended} == now
        assert len(ended) == len(now)
        running = [trial.trial_id for trial in ended.running]
        assert sorted(running) == sorted(t.trial_id for t in trials if t.trial_id not in now)
        before = now


@pytest.mark.parametrize(
    ("of_tune", "result", "status"),
    [
        (Trial.PENDING, {}, TrialStatus.RUNNING),
        (Trial.RUNNING, running(), TrialStatus.RUNNING),
        (Trial.RUNNING, completed(), TrialStatus.RUNNING),
        (Trial.TERMINATED, {}, TrialStatus.STOPPED_EARLY),
        (Trial.TERMINATED, running(), TrialStatus.STOPPED_EARLY),
        (Trial.TERMINATED, completed(), TrialStatus.COMPLETED),
        (Trial.TERMINATED, failed("diverged"), TrialStatus.FAILED),
        (Trial.ERROR, running(), TrialStatus.FAILED),
        (Trial.ERROR, {}, TrialStatus.FAILED),
    ],
)
def test_a_status_follows_from_tune_s_and_the_last_report(
    of_tune: str, result: dict[str, Any], status: TrialStatus
) -> None:
    trial = fake_trial(3, of_tune, result)
    assert tune_trials.status(trial) is status
    view = tune_trials.view(trial)
    assert (view.status, view.suggestion.trial_id) == (status, "0003")
    assert (view.error is not None) == (of_tune == Trial.ERROR)
    assert tune_trials.folder_name(trial) == "0003_tune3"
