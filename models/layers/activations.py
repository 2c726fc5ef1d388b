"""The activations of residual blocks: entrywise, with slopes in [0, 1], as `certify` requires."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Softplus(nn.Module):
    """log(1 + e^x), entrywise. torch's own is the identity above a threshold and jumps there, in
    float64 by far more than a rounding: a map with a jump has no Lipschitz constant."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.logaddexp(x, x.new_zeros(()))


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "softplus": Softplus,
}


def gradient_through(activation: nn.Module, output: Tensor, gradient: Tensor) -> Tensor:
    """The gradient by an activation's input, from the gradient by its output and from the output
    itself, all of one shape. Raises KeyError if it is none of the above."""
    through: Tensor = _GRADIENTS[type(activation)](activation, output, gradient)
    return through


_GRADIENTS: dict[type[nn.Module], Callable[[Any, Tensor, Tensor], Tensor]] = {
    nn.ReLU: lambda _, output, gradient: torch.ops.aten.threshold_backward(gradient, output, 0),
    nn.ELU: lambda k, output, gradient: torch.where(
        output > 0, gradient, gradient * (output + k.alpha)
    ),
    Softplus: lambda _, output, gradient: gradient * -torch.expm1(-output),
}
