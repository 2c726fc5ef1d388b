"""The optimizer of a trial, and its learning rate over time."""

import bisect
import math

import torch

from models import IResNet
from study.config.trial import TrainingConfig

# The largest learning rate of fine-tuning, as a part of the training's.
_FINE_TUNE_LR = 0.1


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
        # A milestone holds from its own step on, although floats round.
        n_decays = bisect.bisect_right(settings.lr_milestones, progress + 1e-9)
        return settings.lr * settings.lr_decay**n_decays
    if progress < settings.warmup_fraction:
        return settings.lr * progress / settings.warmup_fraction
    rest = (progress - settings.warmup_fraction) / (1 - settings.warmup_fraction)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * rest))


def fine_tune_learning_rate(settings: TrainingConfig, step: int, n_steps: int) -> float:
    """The learning rate of step 0, 1, ... of fine-tuning: it decays along half a cosine from a part
    of the training's to zero."""
    decay = 0.5 * (1 + math.cos(math.pi * step / n_steps))
    return settings.lr * _FINE_TUNE_LR * decay
