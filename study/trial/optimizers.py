"""The optimizer of a trial, and its learning rate over time."""

import bisect
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from models import IResNet, NormalizedConv2d, map_kernels
from study.config.trial import TrainingConfig
from study.trial.orthogonalization import orthogonalized

# The largest learning rate of fine-tuning, relative to the training's. With 0.4 and 100 steps per
# rung, 55 blocks on MNIST have an accuracy of 0.976 at bound 0.125 and of 0.959 at 0.027; with 0.1,
# of 0.964 and 0.935.
_FINE_TUNE_LR = 0.4
# AdamW's: short trainings leave no time for averages over a thousand steps, and biases in blocks
# of a small coefficient have gradients far below torch's default eps of 1e-8.
_BETAS, _EPS = (0.9, 0.99), 1e-10
# The step of a normalized layer's bias, relative to AdamW's step times the targets up to the layer.
# With 1, 55 blocks at coeff 0.9 are as accurate, but float32 loses four times as much in their
# inverse; with 0.3, five blocks need up to one more inverse step; with 0.03, accuracy drops a bit.
_BIAS_STEP = 0.1


Beside = Sequence[tuple[Tensor, Tensor]]
"""Pairs of a parameter of a model, (*shape) and no kernel, and a further one, (K, *shape), whose
steps are as large as if it were that parameter."""


def make_optimizer(model: IResNet, settings: TrainingConfig, beside: Beside = ()) -> "Optimizer":
    """The optimizer of the settings, over all parameters of a model and those beside them."""
    kind = Muon if settings.optimizer == "muon" else Sgd
    return kind(model, settings, beside)


class Optimizer(ABC):
    """Changes parameters by their gradients, at the settings' learning rates times `lr_factor`. The
    classes of torch.optim import torch._dynamo, which takes seconds in every worker; the functions
    that they call do not."""

    def __init__(self, model: IResNet, settings: TrainingConfig, beside: Beside = ()) -> None:
        self.lr_factor = 1.0
        self._settings = settings
        self._parameters: list[Tensor] = [*model.parameters(), *(further for _, further in beside)]
        self._state: dict[str, list[Any]] = {}

    @abstractmethod
    def step(self) -> None:
        """Change the parameters by their gradients, which all must have and which may change."""

    def state_dict(self) -> dict[str, Any]:
        """All that load_state_dict needs to go on from here; shares this optimizer's tensors."""
        return {name: list(tensors) for name, tensors in self._state.items()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state_dict() of such an optimizer of a model with the same parameters."""
        for name, tensors in self._state.items():
            for tensor, stored in zip(tensors, state[name], strict=True):
                tensor.copy_(stored)


class Sgd(Optimizer):
    """Stochastic gradient descent with momentum, with the same numbers as torch.optim.SGD."""

    def __init__(self, model: IResNet, settings: TrainingConfig, beside: Beside = ()) -> None:
        super().__init__(model, settings, beside)
        self._state = {"momentum": [torch.zeros_like(p) for p in self._parameters]}

    @torch.no_grad()
    def step(self) -> None:
        sgd(
            self._parameters,
            _gradients(self._parameters),
            self._state["momentum"],
            weight_decay=self._settings.weight_decay,
            momentum=self._settings.momentum,
            lr=self._settings.lr * self.lr_factor,
            dampening=0,
            nesterov=bool(self._settings.nesterov),
            maximize=False,
            foreach=True,
        )


class Muon(Optimizer):
    """Muon for the kernels of the invertible part, AdamW for all other parameters.

    The update of a kernel W is lr times its momentum as a matrix (c_out, k k c_in), orthogonalized:
    all its singular values are about lr. Under spectral normalization a kernel has a direction and
    no scale: its gradient shrinks as the kernel grows, and with the coefficient, but this update
    depends on neither. So kernels do not decay: decay would only let the same update turn them
    further. (Jordan et al. 2024; Newhouse et al. 2025, "Training Transformers with Enforced
    Lipschitz Constants".)

    AdamW's steps have a fixed size. In a deep network of small coefficient it could exceed the
    signal, and biases would drift until every ReLU is always on or off. So AdamW sees the bias of a
    normalized layer in units of _BIAS_STEP times the product of the targets up to its layer.
    """

    def __init__(self, model: IResNet, settings: TrainingConfig, beside: Beside = ()) -> None:
        super().__init__(model, settings, beside)
        self._kernels: list[Tensor] = [p for p in model.body.parameters() if p.dim() == 4]
        kernels = set(map(id, self._kernels))
        self._others = [p for p in self._parameters if id(p) not in kernels]
        self._dtype = torch.bfloat16 if settings.precision == "bf16" else None
        # The bias of each normalized layer -> the normalized layers of its block up to its own.
        self._paths: dict[Tensor, Sequence[NormalizedConv2d]] = {}
        for block in model.blocks:
            layers = block.normalized_layers()
            self._paths |= {layer.bias: layers[: index + 1] for index, layer in enumerate(layers)}
        self._units = model.head.units(model.classifier)
        for own, further in beside:
            if own in self._paths:
                self._paths[further] = self._paths[own]
            if own in self._units:
                self._units[further] = self._units[own]
        self._state = {
            "momentum": [torch.zeros_like(p) for p in self._kernels],
            "means": [torch.zeros_like(p) for p in self._others],
            "squares": [torch.zeros_like(p) for p in self._others],
            # On the host, where the factors that they decide are computed.
            "n_steps": [torch.zeros(()) for _ in self._others],
        }

    @torch.no_grad()
    def step(self) -> None:
        self._step_kernels()
        scaled = [*self._paths, *self._units]
        scales = [
            math.prod((layer.coeff for layer in path), start=_BIAS_STEP)
            for path in self._paths.values()
        ]
        scales += self._units.values()
        if scaled:
            torch._foreach_div_(scaled, scales)
        adam(
            self._others,
            _gradients(self._others),
            self._state["means"],
            self._state["squares"],
            [],
            self._state["n_steps"],
            foreach=True,
            decoupled_weight_decay=True,
            amsgrad=False,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            lr=self._settings.other_lr * self.lr_factor,
            weight_decay=self._settings.weight_decay,
            eps=_EPS,
            maximize=False,
        )
        if scaled:
            torch._foreach_mul_(scaled, scales)

    def _step_kernels(self) -> None:
        if not self._kernels:  # all blocks are the user's own
            return
        settings, directions = self._settings, self._state["momentum"]
        gradients = _gradients(self._kernels)
        torch._foreach_mul_(directions, settings.momentum)
        torch._foreach_add_(directions, gradients)
        if settings.nesterov is not False:
            # In the memory of the gradients, which are not needed again.
            torch._foreach_add_(gradients, directions, alpha=settings.momentum)
            directions = gradients
        updates = map_kernels(self._update, directions)
        torch._foreach_add_(self._kernels, updates, alpha=-settings.lr * self.lr_factor)

    def _update(self, directions: Tensor) -> Tensor:
        """Directions (L, c_out, k, k, c_in), each orthogonalized as a matrix (c_out, k k c_in)."""
        n_steps = self._settings.orthogonalization_steps
        return orthogonalized(directions.flatten(2), n_steps, self._dtype).view_as(directions)


def _gradients(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [grad for parameter in parameters if (grad := parameter.grad) is not None]


def lr_factor(settings: TrainingConfig, progress: float) -> float:
    """The learning rate relative to the largest, at `progress` in [0, 1) through the training."""
    if settings.lr_schedule == "step":
        # A milestone holds from its own step on; the tolerance is for rounding.
        return settings.lr_decay ** bisect.bisect_right(settings.lr_milestones, progress + 1e-9)
    if progress < settings.warmup_fraction:
        return progress / settings.warmup_fraction
    rest = (progress - settings.warmup_fraction) / (1 - settings.warmup_fraction)
    return 0.5 * (1 + math.cos(math.pi * rest))


def fine_tune_lr_factor(step: int, n_steps: int) -> float:
    """The rate in step 0, 1, ... of fine-tuning, relative to the training's largest: half a cosine
    from 0.4 to zero."""
    return _FINE_TUNE_LR * 0.5 * (1 + math.cos(math.pi * step / n_steps))
