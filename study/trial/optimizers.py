"""The optimizer of a trial, and its learning rate over time."""

import bisect
import math

import torch

from models import IResNet
from study.config.trial import TrainingConfig


def make_optimizer(model: IResNet, settings: TrainingConfig) -> torch.optim.SGD:
    """SGD over all parameters of a model."""
    return torch.optim.SGD(
        model.parameters(),
        lr=settings.lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """For all parameters, from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def learning_rate(settings: TrainingConfig, progress: float) -> float:
    """The learning rate when a fraction `progress` in [0, 1) of the training is done."""
    if settings.lr_schedule == "step":
        # A milestone counts from the step that it names, for all that floats round.
        n_decays = bisect.bisect_right(settings.lr_milestones, progress + 1e-9)
        return settings.lr * settings.lr_decay**n_decays
    if progress < settings.warmup_fraction:
        return settings.lr * progress / settings.warmup_fraction
    rest = (progress - settings.warmup_fraction) / (1 - settings.warmup_fraction)
    return settings.lr * cosine_decay(rest)


def cosine_decay(progress: float) -> float:
    """From 1 at progress 0 to 0 at progress 1, along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * progress))
