import pickle
from dataclasses import replace
from typing import Any

import pytest
from ray import tune
from ray.tune import Callback

from study.errors import LaunchError
from study.execution.callbacks.failures import Failures
from study.execution.callbacks.interrupt import Interrupt
from study.execution.callbacks.own_callbacks import OwnCallbacks
from study.execution.callbacks.progress import Progress
from study.execution.callbacks.recorder import Recorder
from study.execution.driver import tuner
from study.execution.files.checkpoints import Checkpoints
from study.execution.files.snapshots import Snapshots
from study.search.scheduler import HalvingScheduler
from study.search.searcher import OptunaSearcher
from tests.support.records import STUDY
from tests.support.studies import tiny


class Restored:
    """What Tuner.restore gives of a study: its settings of before."""

    def __init__(self) -> None:
        self._local_tuner: Any = self
        self._tune_config = tune.TuneConfig(search_alg=None, max_concurrent_trials=7)
        self.run_config = tune.RunConfig(callbacks=[])

    def get_run_config(self) -> tune.RunConfig:
        return self.run_config


def searcher_of(made: Any) -> OptunaSearcher:
    searcher = made._tune_config.search_alg.searcher.searcher
    assert isinstance(searcher, OptunaSearcher)
    return searcher


def test_a_study_goes_on_as_it_is_asked_for_now_at_the_address_of_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: Any = Restored()
    monkeypatch.setattr(tune.Tuner, "restore", lambda *_, **__: made)
    config = tiny(search={"n_trials": 9}, scheduler={"name": "mo_asha"})
    config = replace(config, callbacks=("some.module:Callback",))
    longer = replace(STUDY, config=config)
    assert tuner.restored(longer, "http://new:5000", 2) is made
    parts = {type(callback): callback for callback in made.run_config.callbacks}
    # Tune pickles them, but another driver has its own.
    assert {type(pickle.loads(pickle.dumps(callback))) for callback in parts.values()} == {Callback}
    # The reasons are beside the list of them.
    order = (Interrupt, Recorder, OwnCallbacks, Snapshots, Checkpoints)
    assert [kind for kind in parts if kind in order] == [*order]
    assert [kind for kind in parts if kind in (Failures, Progress)] == [Failures, Progress]
    assert parts[Recorder].tracking_uri == "http://new:5000"
    assert parts[Progress].study.n_trials == 9
    assert parts[Recorder].stopping is parts[Progress].stopping is searcher_of(made)._stopping
    generator = made._tune_config.search_alg
    # As Tune's state has it, of a study of three trials.
    state = {"counter": 3, "total_samples": 3, "finished": True, "experiment": None}
    generator.set_state(state)
    assert not generator.is_finished()
    generator.set_state({**state, "counter": 9})
    assert generator.is_finished()
    assert made._tune_config.max_concurrent_trials is None
    assert generator.searcher.max_concurrent == 2
    generator.searcher.max_concurrent = 7  # as Tune's state has it
    generator.set_state(state)
    assert generator.searcher.max_concurrent == 2
    scheduler = made._tune_config.scheduler
    assert isinstance(scheduler, HalvingScheduler)
    assert scheduler.halving is searcher_of(made)._halving
    made._local_tuner = None  # as under Ray's client
    with pytest.raises(LaunchError, match="ray://"):
        tuner.restored(STUDY, "http://new:5000", 2)
