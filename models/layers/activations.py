"""The activations of residual blocks: entrywise, with slopes in [0, 1], as `certify` requires."""

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
