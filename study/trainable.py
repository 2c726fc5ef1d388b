"""The Ray worker: a sample -> train -> report; checkpoint and restore."""

from pathlib import Path
from typing import Any

import torch
from ray import tune

from study import data
from study.config import StudyConfig
from study.metrics import TrialReport, TrialStatus
from study.training import Training, choose_algorithms

_STATE_FILE = "state.pt"
OUTCOME_FOLDER = "outcome"
"""Below the last checkpoint of a completed trial: what Training.save_outcome writes."""


class TrialTrainable(tune.Trainable):
    """One worker process; it trains one trial after another and keeps the data in memory.

    A step is one reporting epoch. `config` is a suggestion of study.search.
    """

    def setup(self, config: dict[str, Any], study: StudyConfig) -> None:  # type: ignore[override]
        """`study` comes by way of tune.with_parameters."""
        self._study = study
        torch.set_num_threads(max(1, int(study.resources.cpus)))
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        trial = self._study.settle(config["sample"], config["seed"])
        choose_algorithms(trial.training.deterministic)
        device = "cuda" if self._study.resources.gpus > 0 else "cpu"
        self._training = Training(trial, device, data.load(trial.data))
        self._last_report: dict[str, Any] = {}

    def step(self) -> dict[str, Any]:
        # A trial that is restored from its very last checkpoint has nothing left to train:
        # it says again what it said then.
        if self._training.status is TrialStatus.RUNNING:
            self._last_report = self._training.run_to_report().to_result()
        report = TrialReport.from_result(self._last_report)
        assert report is not None
        return {**self._last_report, "done": report.status is not TrialStatus.RUNNING}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        folder = Path(checkpoint_dir)
        state = {"training": self._training.state_dict(), "last_result": self._last_report}
        torch.save(state, folder / _STATE_FILE)
        if self._training.status is TrialStatus.COMPLETED:
            (folder / OUTCOME_FOLDER).mkdir()
            self._training.save_outcome(folder / OUTCOME_FOLDER)

    def load_checkpoint(self, checkpoint: str | dict[str, Any] | None) -> None:
        assert isinstance(checkpoint, str)
        state = torch.load(
            Path(checkpoint) / _STATE_FILE,
            map_location=self._training.device,
            weights_only=True,
        )
        self._training.load_state_dict(state["training"])
        self._last_report = state["last_result"]
