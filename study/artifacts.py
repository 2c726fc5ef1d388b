"""File names: what a trial leaves in its checkpoints, and what a run has in MLflow."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from study.metrics import EpochReport

# In each checkpoint of a trial.
REPORTS = "reports.json"
"""Every report up to this checkpoint. MLflow's records can be made again from it, which is why
nothing is lost with MLflow or with a driver."""
TRAINING_STATE = "state.safetensors"
"""What the training needs to go on."""
OUTCOME = "outcome"
"""Folder in the last checkpoint of a completed trial: its network, and below it those projected."""

# Of a network: in an outcome's folder, and among the artifacts of its run. The files of the network
# itself are named in models.stored.
CERTIFICATE = "certificate.json"
INVERSE = "inverse.json"
"""Error against steps of the inverse, and the steps that the certificate predicts."""
LAYERS_FIGURE = "layers.png"
"""The layers' bounds (paper, Figure 2)."""
INVERSE_FIGURE = "inverse.png"
"""Error against steps of the inverse (paper, Figure 4)."""
RECONSTRUCTIONS = "reconstructions.png"
"""Images above their reconstructions (paper, Figure 3)."""

# Of a run of MLflow alone.
MODEL = "model"
"""Name of a run's logged model."""
STUDY_FILE = "study.yaml"
"""Of the study's run: the study, every default spelled out."""
PAGE = "report.html"
"""Of the study's run: the report as a page."""


def write_reports(folder: Path, reports: Sequence[EpochReport]) -> None:
    """Write the reports up to a checkpoint into its folder."""
    (folder / REPORTS).write_text(json.dumps([asdict(report) for report in reports]))


def read_reports(content: bytes) -> list[EpochReport]:
    """The reports in a REPORTS file, in the order of their epochs."""
    return [EpochReport(**fields) for fields in json.loads(content)]


def projection_folder(outcome: Path, index: int) -> Path:
    """Below an outcome: the network of one of its projections, in the order of the report."""
    return outcome / "projections" / str(index)
