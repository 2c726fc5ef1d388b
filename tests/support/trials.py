"""A trial, trained in this process."""

from collections.abc import Iterator
from pathlib import Path

import torch

from study.config.trial import TrialConfig
from study.metrics.reports import TrialReport, TrialStatus
from study.trial.network_files import save_network
from study.trial.randomness import choose_algorithms
from study.trial.training import Training


def train(config: TrialConfig, device: str | torch.device = "cpu") -> Iterator[TrialReport]:
    """Train from the start and yield a report after each reporting epoch, to the last."""
    choose_algorithms(config.training.deterministic)
    training = Training(config, device)
    while training.status is TrialStatus.RUNNING:
        yield training.run_to_report()


def save_outcome(training: Training, folder: Path) -> None:
    """Write the network of a completed trial, as its worker does."""
    save_network(folder, training.certified(), training.right(), training.config, training.dataset)
