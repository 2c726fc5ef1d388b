from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyarrow.fs import LocalFileSystem
from ray import tune

from study.config.extension import Extension, MoreEpochs
from study.errors import LaunchError
from study.execution import tuner
from study.execution.messages import Messages
from study.execution.progress import Progress
from study.execution.recorder import Recorder
from study.metrics.artifacts import write_reports
from study.search.scheduler import HalvingScheduler
from study.search.searcher import OptunaSearcher
from study.search.suggestion import Origin, Suggestion
from tests.support.records import STUDY
from tests.support.studies import epoch_report, tiny


class Restored:
    """What Tuner.restore gives of a study that has had some trials: settings of before, trials."""

    def __init__(self, trials: Sequence[Any] = ()) -> None:
        self._local_tuner: Any = self
        self._tune_config = tune.TuneConfig(search_alg=None, max_concurrent_trials=7)
        self._experiment_analysis = SimpleNamespace(trials=trials)
        self.run_config = tune.RunConfig(callbacks=[])

    def get_run_config(self) -> tune.RunConfig:
        return self.run_config


def tune_trial(folder: Path, number: int, n_reports: int, is_finished: bool = True) -> Any:
    """What Tune has of a trial, with its last checkpoint in the study's folder."""
    checkpoint = folder / f"{number:04d}_ab" / "checkpoint_4"
    checkpoint.mkdir(parents=True)
    write_reports(checkpoint, [epoch_report(n) for n in range(1, n_reports + 1)])
    suggestion = Suggestion(number, 100 + number, number, {"coeff": 0.1 * number})
    return SimpleNamespace(
        config=suggestion.to_config(),
        # Where it was before the study was moved, and where it is.
        checkpoint=tune.Checkpoint(f"/before/tiny/{number:04d}_ab/checkpoint_4"),
        storage=SimpleNamespace(
            trial_fs_path=str(checkpoint.parent), storage_filesystem=LocalFileSystem()
        ),
        is_finished=lambda: is_finished,
    )


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
    assert tuner.restored(longer, "http://new:5000", 2, is_extended=True) is made
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
    generator.searcher.max_concurrent = 7  # as Tune's state has it
    generator.set_state(state)
    assert generator.searcher.max_concurrent == 2
    made._local_tuner = None  # as under Ray's client
    with pytest.raises(LaunchError, match="ray://"):
        tuner.restored(STUDY, "http://new:5000", 2, is_extended=False)


def test_the_scheduler_has_the_rungs_that_the_searcher_saves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: Any = Restored()
    monkeypatch.setattr(tune.Tuner, "restore", lambda *_, **__: made)
    halved = replace(STUDY, config=tiny(scheduler={"name": "mo_asha"}))
    tuner.restored(halved, "http://new:5000", 2, is_extended=False)
    scheduler = made._tune_config.scheduler
    assert isinstance(scheduler, HalvingScheduler)
    assert scheduler.halving is searcher_of(made)._halving


def test_a_training_goes_on_from_the_checkpoint_that_tune_knows_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: Any = Restored([tune_trial(tmp_path, n, n_reports=3) for n in range(1, 4)])
    monkeypatch.setattr(tune.Tuner, "restore", lambda *_, **__: made)
    more = (MoreEpochs(2, 3, 8), MoreEpochs(1, 3, 5))
    study = replace(STUDY, storage=str(tmp_path), extension=Extension(0, more))
    tuner.restored(study, "http://new:5000", 1, is_extended=True)
    searcher = searcher_of(made)
    for number, max_epochs in ((2, 8), (1, 5)):
        suggestion = Suggestion.of_config(dict(searcher.suggest(f"{number}") or {}))
        assert (suggestion.seed, suggestion.sample) == (100 + number, {"coeff": 0.1 * number})
        assert suggestion.origin == Origin(number, 3, f"{number:04d}_ab/checkpoint_4", max_epochs)


@pytest.mark.parametrize("n_reports", [2, 3])
def test_a_training_that_had_not_ended_for_tune_does_not_go_on_yet(
    n_reports: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its state may be older than MLflow, which has the trial with three epochs."""
    trials = [
        tune_trial(tmp_path, 1, n_reports=3),
        tune_trial(tmp_path, 2, n_reports, is_finished=n_reports != 3),
    ]
    made: Any = Restored(trials)
    monkeypatch.setattr(tune.Tuner, "restore", lambda *_, **__: made)
    more = (MoreEpochs(1, 3, 8), MoreEpochs(2, 3, 8), MoreEpochs(7, 3, 8))
    study = replace(STUDY, storage=str(tmp_path), extension=Extension(0, more))
    with pytest.raises(LaunchError, match="--train: the state of tiny must have 0002 trained to"):
        tuner.restored(study, "http://new:5000", 1, is_extended=True)
    tuner.restored(study, "http://new:5000", 1, is_extended=False)
    assert [c.origin.number for c in searcher_of(made)._continuations] == [1]


def test_tune_s_own_tuner_has_its_settings_where_they_are_replaced(tmp_path: Path) -> None:
    """With the real Tune, as far as it goes without a cluster."""
    recorder = Recorder("tiny", "sqlite:////old/mlflow.db", Messages())
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
