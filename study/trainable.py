"""The Ray worker: a sample -> train -> report; checkpoint and restore."""

import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from ray import tune

from models import IResNet
from study import data, figures
from study.errors import StorageError
from study.ladder import Projection, projections, save
from study.metrics import EpochReport, TrialReport, TrialStatus
from study.study_config import StudyConfig
from study.training import Training, choose_algorithms

_STATE_FILE = "state.pt"
OUTCOME_FOLDER = "outcome"
"""Below the last checkpoint of a completed trial: what Training.save_outcome writes."""
REPORTS_FILE = "reports.json"
"""In each checkpoint: every report up to it, from which the records can be made again."""
FAILED = "failed"
"""Key of a trial's config: why it is not tried again; it then says so, and trains nothing."""


def read_reports(text: bytes) -> list[EpochReport]:
    """The reports in a REPORTS_FILE, in the order of their epochs."""
    return [EpochReport(**fields) for fields in json.loads(text)]


def projection_folder(outcome: Path, index: int) -> Path:
    """Below an outcome: the network of one of its projections, in the order of the report."""
    return outcome / "projections" / str(index)


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
        self._reports: list[EpochReport] = []
        self._failed: str | None = config.get(FAILED)
        if self._failed is not None:
            return
        trial = self._study.settle(config["sample"], config["seed"])
        choose_algorithms(trial.training.deterministic)
        device = "cuda" if self._study.resources.gpus > 0 else "cpu"
        self._training = Training(trial, device, data.load(trial.data))
        self._last_report: dict[str, Any] = {}
        self._projections: list[Projection] = []

    def step(self) -> dict[str, Any]:
        if self._failed is not None:
            failed = TrialReport(TrialStatus.FAILED, reason=self._failed)
            return {**failed.to_result(), "done": True}
        # A trial that is restored from its very last checkpoint has nothing left to train:
        # it says again what it said then.
        if self._training.status is TrialStatus.RUNNING:
            report = self._training.run_to_report()
            if report.epoch is not None:
                self._reports.append(report.epoch)
            self._last_report = report.to_result()
            self._project()
        return {**self._last_report, "done": self._training.status is not TrialStatus.RUNNING}

    def _project(self) -> None:
        """Project the network of a completed trial, and say so in its last report."""
        if self._training.status is not TrialStatus.COMPLETED:
            return
        self._projections = list(projections(self._training))
        report = TrialReport.from_result(self._last_report)
        assert report is not None
        reports = tuple(projection.report for projection in self._projections)
        self._last_report = replace(report, projections=reports).to_result()

    def save(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().save(*args, **kwargs)
        except OSError as error:
            raise StorageError(f"a checkpoint cannot be written: {error}") from error

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        folder = Path(checkpoint_dir)
        reports = json.dumps([asdict(report) for report in self._reports])
        (folder / REPORTS_FILE).write_text(reports)
        if self._failed is not None:
            return
        state = {"training": self._training.state_dict(), "last_result": self._last_report}
        # torch's own writer tells a full disk from other errors in its text alone.
        buffer = io.BytesIO()
        torch.save(state, buffer)
        (folder / _STATE_FILE).write_bytes(buffer.getbuffer())
        if self._training.status is TrialStatus.COMPLETED:
            outcome = folder / OUTCOME_FOLDER
            outcome.mkdir()
            self._training.save_outcome(outcome)
            figures.save_figures(outcome)
            self._save_reconstructions(outcome, self._training.model)
            for index, projection in enumerate(self._projections):
                rung = projection_folder(outcome, index)
                rung.mkdir(parents=True)
                save(self._training, projection, rung)
                self._save_reconstructions(rung, projection.model)

    def _save_reconstructions(self, folder: Path, model: IResNet) -> None:
        images, found = self._training.reconstructions(model)
        figures.save_reconstructions(
            folder / figures.RECONSTRUCTIONS, images.numpy(), found.numpy()
        )

    def load_checkpoint(self, checkpoint: str | dict[str, Any] | None) -> None:
        assert isinstance(checkpoint, str)
        self._reports = read_reports((Path(checkpoint) / REPORTS_FILE).read_bytes())
        if self._failed is not None:
            return
        state = torch.load(
            Path(checkpoint) / _STATE_FILE,
            map_location=self._training.device,
            weights_only=True,
        )
        self._training.load_state_dict(state["training"])
        self._last_report = state["last_result"]
        self._project()  # their networks are not in the state
