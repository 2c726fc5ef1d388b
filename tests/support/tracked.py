"""Trials and networks logged to MLflow, with made-up figures and untrained weights."""

from pathlib import Path

from models import IResNet, write_network
from study.metrics.artifacts import projection_folder
from study.metrics.reports import ProjectionReport
from study.tracking.study_record import StudyRecord
from study.tracking.tracker import Tracker

DATA = {"name": "digits", "normalization": {"from": "uint8", "scale": 1 / 255, "offset": -0.5}}
SAMPLE = {"coeff": 0.5, "n_power_iterations": 3, "dropout": 0.1}


def start(tracker: Tracker, study: StudyRecord, trial_id: str = "0000", **changes: float) -> None:
    sample = {**SAMPLE, **changes}
    tracker.start_trial(trial_id, sample, study.config.resolve(sample, seed=1))


def log_networks(
    tracker: Tracker,
    trial_id: str,
    outcome: Path,
    *reports: ProjectionReport,
    precision: str = "float32",
) -> None:
    """Log a trial that has completed, with projections; its networks are untrained."""
    for folder in (outcome, *(projection_folder(outcome, k) for k in range(len(reports)))):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("certificate.json", "inverse.json"):
            (folder / name).write_text("{}")
        architecture = {"in_shape": [1, 8, 8], "n_classes": 10, "blocks": [1], "norm": "none"}
        model = IResNet((1, 8, 8), 10, (1,), norm="none")
        description = {"architecture": architecture, "data": DATA, "precision": precision}
        write_network(folder, model, description)
    tracker.log_networks(trial_id, outcome, reports)
