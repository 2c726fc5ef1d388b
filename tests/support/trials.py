"""Train a trial in this process."""

from collections.abc import Iterator
from pathlib import Path

import torch

from study.config.trial import TrialConfig
from study.metrics.reports import TrialReport, TrialStatus
from study.trial.measured.network_files import save_network
from study.trial.randomness import choose_algorithms
from study.trial.training import Training


def train(config: TrialConfig, device: str | torch.device = "cpu") -> Iterator[TrialReport]:
    """Train from the start; yields a report after each reporting epoch."""
    choose_algorithms(config.training.deterministic)
    training = Training(config, device)
    while training.status is TrialStatus.RUNNING:
        yield training.run_to_report()


def save_outcome(training: Training, folder: Path) -> None:
    """Save the network of a completed trial, like its worker."""
    save_network(
        folder, training.certified(), training.answers(), training.config, training.dataset
    )
