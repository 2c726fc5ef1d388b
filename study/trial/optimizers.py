"""The optimizer of a trial, and its learning rate over time."""

import bisect
import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from models import IResNet
from study.config.trial import TrainingConfig

# The largest learning rate of fine-tuning, as a part of the training's.
_FINE_TUNE_LR = 0.1


class Sgd:
    """Stochastic gradient descent with momentum, over all parameters of a model.

    The numbers are those of torch.optim.SGD. Each class there imports torch._dynamo, which takes
    seconds in every worker.

    Attributes:
        lr: learning rate of the next step.
    """

    def __init__(self, model: IResNet, settings: TrainingConfig) -> None:
        self.lr = settings.lr
        self._settings = settings
        self._parameters = list(model.parameters())
        self._momentum: list[Tensor | None] = [None] * len(self._parameters)

    def zero_grad(self) -> None:
        """Drop the gradients of the last step."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters by their gradients; one that has none stays."""
        used = [index for index, p in enumerate(self._parameters) if p.grad is not None]
        momentum = [self._momentum[index] for index in used]
        sgd(
            [self._parameters[index] for index in used],
            [grad for p in self._parameters if (grad := p.grad) is not None],
            momentum,
            weight_decay=self._settings.weight_decay,
            momentum=self._settings.momentum,
            lr=self.lr,
            dampening=0,
            nesterov=self._settings.nesterov,
            maximize=False,
            foreach=True,
        )
        # Filled in by the first step.
        for index, buffer in zip(used, momentum, strict=True):
            self._momentum[index] = buffer

    def state_dict(self) -> dict[str, Any]:
        """All that load_state_dict needs to go on from here; it shares the tensors."""
        return {"momentum": list(self._momentum)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state_dict() of an optimizer of a model like this one's."""
        # On the device and in the layout of its parameter.
        self._momentum = [
            None if buffer is None else torch.empty_like(parameter).detach().copy_(buffer)
            for parameter, buffer in zip(self._parameters, state["momentum"], strict=True)
        ]


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
