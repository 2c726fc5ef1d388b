import random
from typing import Any

import pytest
from ray.tune.experiment import Trial

from study.ended import Ended
from tests.test_recorder import fake_trial


@pytest.mark.parametrize("seed", range(20))
def test_it_knows_what_looking_at_every_trial_would_show(seed: int) -> None:
    rng = random.Random(seed)
    ended, trials, before = Ended(), list[Any](), set[str]()
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
        news = [trial.trial_id for trial in ended.look(trials)]
        now = {trial.trial_id for trial in trials if trial.is_finished()}
        assert len(news) == len(set(news))
        assert set(news) == now - before
        assert {t.trial_id for t in trials if t in ended} == now
        assert len(ended) == len(now)
        running = [trial.trial_id for trial in ended.running]
        assert sorted(running) == sorted(t.trial_id for t in trials if t.trial_id not in now)
        before = now
