from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from study.config.extension import Extension, MoreEpochs
from study.errors import LaunchError
from study.execution import tuner
from study.execution.progress import Progress
from study.execution.recorder import Recorder
from study.search.searcher import OptunaSearcher
from study.search.suggestion import Origin, Suggestion
from tests.support.records import STUDY
from tests.support.studies import tiny


class Restored:
    """What Tuner.restore gives of a study that has had some trials: settings of before, results."""

    def __init__(self, results: Sequence[Any] = ()) -> None:
        self._local_tuner: Any = self
        self._tune_config = tune.TuneConfig(search_alg=None, max_concurrent_trials=7)
        self.run_config = tune.RunConfig(callbacks=[])
        self._results = results

    def get_run_config(self) -> tune.RunConfig:
        return self.run_config

    def get_results(self) -> Sequence[Any]:
        return self._results


class Result:
    """What Tune has of a trial that has ended."""

    def __init__(self, suggestion: Suggestion, checkpoint: str) -> None:
        self.config = suggestion.to_config()
        self.checkpoint = tune.Checkpoint(checkpoint)


def searcher_of(made: Any) -> OptunaSearcher:
    searcher = made._tune_config.search_alg.searcher.searcher
    assert isinstance(searcher, OptunaSearcher)
    return searcher


def test_a_study_goes_on_as_it_is_asked_for_now_at_the_address_of_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: Any = Restored()
    monkeypatch.setattr(tune.Tuner, "restore", lambda *_, **__: made)
    longer = replace(STUDY, config=tiny(search={"n_trials": 9}))
    assert tuner.restored(longer, "http://new:5000", n_at_once=2) is made
    parts = {type(callback): callback for callback in made.run_config.callbacks}
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
    made._local_tuner = None  # as under Ray's client
    with pytest.raises(LaunchError, match="ray://"):
        tuner.restored(STUDY, "http://new:5000", n_at_once=2)


def test_a_training_goes_on_from_the_checkpoint_that_tune_knows_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = [Suggestion(n, 100 + n, n, {"coeff": 0.1 * n}) for n in range(1, 4)]
    made: Any = Restored([Result(s, f"/x/tiny/{s.trial_id}_ab/checkpoint_4") for s in ended])
    monkeypatch.setattr(tune.Tuner, "restore", lambda *_, **__: made)
    extensions = (
        Extension(3, False, (MoreEpochs(2, 3, 8),)),
        Extension(4, False, (MoreEpochs(1, 3, 5),)),
    )
    tuner.restored(replace(STUDY, extensions=extensions), "http://new:5000", n_at_once=1)
    searcher = searcher_of(made)
    for number, origin in ((2, Origin(2, 3, "0002_ab/checkpoint_4", 8)), (1, None)):
        suggestion = Suggestion.of_config(dict(searcher.suggest(f"{number}") or {}))
        assert (suggestion.seed, suggestion.sample) == (100 + number, {"coeff": 0.1 * number})
        assert suggestion.origin == (origin or Origin(1, 3, "0001_ab/checkpoint_4", 5))


def test_tune_s_own_tuner_has_its_settings_where_they_are_replaced(tmp_path: Path) -> None:
    """With the real Tune, as far as it goes without a cluster."""
    recorder = Recorder("tiny", "sqlite:////old/mlflow.db", messages=None)  # type: ignore[arg-type]
    settings = tune.RunConfig(storage_path=str(tmp_path), callbacks=[recorder])
    internal = tune.Tuner(lambda config: None, run_config=settings)._local_tuner
    assert internal is not None
    assert internal.get_run_config().storage_path == str(tmp_path)
    assert internal.get_run_config().callbacks == [recorder]
    changed = [*internal.get_run_config().callbacks, recorder]
    internal.get_run_config().callbacks = changed
    assert internal._get_tune_run_arguments(lambda config: None)["callbacks"] is changed
    assert {"search_alg", "scheduler", "max_concurrent_trials"} <= vars(
        internal._tune_config
    ).keys()
