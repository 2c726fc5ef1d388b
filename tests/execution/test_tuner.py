from pathlib import Path
from typing import Any

import pytest
from ray import tune

from study.errors import LaunchError
from study.execution import tuner
from study.execution.messages import Messages
from study.execution.progress import Progress
from study.execution.recorder import Recorder
from study.search.stopping import Stopping
from tests.support.records import STUDY


class Restored:
    """What Tuner.restore gives of a study whose callbacks came out of a pickle."""

    def __init__(self, callbacks: list[Any]) -> None:
        self._local_tuner: Any = self
        self._callbacks = callbacks

    def get_run_config(self) -> tune.RunConfig:
        return tune.RunConfig(callbacks=self._callbacks)


def test_a_study_goes_on_with_its_records_at_another_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    messages = Messages()
    recorder = Recorder("tiny", "sqlite:////old/mlflow.db", messages)
    made: Any = Restored([Progress(STUDY.config, Stopping(STUDY.config), messages), recorder])
    monkeypatch.setattr(tune.Tuner, "restore", lambda *_, **__: made)
    assert tuner.restored(STUDY, "http://new:5000") is made
    assert recorder.tracking_uri == "http://new:5000"
    made._local_tuner = None  # as under Ray's client
    with pytest.raises(LaunchError, match="ray://"):
        tuner.restored(STUDY, "http://new:5000")


def test_a_tuner_that_tune_has_kept_has_its_recorder_where_it_is_looked_for(
    tmp_path: Path,
) -> None:
    """With the real Tune, as far as it goes without a cluster."""
    recorder = Recorder("tiny", "sqlite:////old/mlflow.db", Messages())
    settings = tune.RunConfig(storage_path=str(tmp_path), callbacks=[recorder])
    internal = tune.Tuner(lambda config: None, run_config=settings)._local_tuner
    assert internal is not None
    assert internal.get_run_config().storage_path == str(tmp_path)
    assert internal.get_run_config().callbacks == [recorder]
