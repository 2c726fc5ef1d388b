"""Train a trial in this process."""

from collections.abc import Iterator
from pathlib import Path

import torch

from study.config.data import DataConfig
from study.config.trial import EvaluationConfig, ModelConfig, TrainingConfig, TrialConfig
from study.metrics.reports import EpochReport, TrialReport, TrialStatus
from study.trial.measured.network_files import save_network
from study.trial.randomness import choose_algorithms
from study.trial.training import Training

TINY = TrialConfig(
    seed=3,
    data=DataConfig(val_fraction=0.2, shift=1),
    model=ModelConfig(blocks=(1, 1), channel_multiplier=4, dropout=0.2),
    training=TrainingConfig(max_epochs=3, batch_size=128, lr=0.1),
    # Within a large radius every attack succeeds at once.
    evaluation=EvaluationConfig(n_inverse_samples=32, radius=4.0),
    objectives=("val_accuracy", "block_lipschitz_upper_bound", "inverse_steps"),
)


def train(config: TrialConfig, device: str | torch.device = "cpu") -> Iterator[TrialReport]:
    """Train from the start; yields a report after each reporting epoch."""
    choose_algorithms(config.training.deterministic, config.training.compile)
    training = Training(config, device)
    while training.status is TrialStatus.RUNNING:
        yield training.run_to_report()


def trained(config: TrialConfig) -> Training:
    """The completed training of a trial."""
    training = Training(config)
    while training.status is TrialStatus.RUNNING:
        training.run_to_report()
    assert training.status is TrialStatus.COMPLETED
    return training


def epoch_of(report: TrialReport) -> EpochReport:
    """What was measured; the trial has not failed."""
    assert report.epoch is not None, report.reason
    return report.epoch


def failure_of(report: TrialReport) -> str:
    """Why the trial has failed."""
    assert (report.status, report.epoch) == (TrialStatus.FAILED, None)
    assert report.reason is not None
    return report.reason


def save_outcome(training: Training, folder: Path) -> None:
    """Save the network of a completed trial, like its worker."""
    save_network(
        folder, training.certified(), training.answers(), training.config, training.dataset
    )
