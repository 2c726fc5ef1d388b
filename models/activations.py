"""The activations of residual blocks, by name.

Each acts entry by entry with slopes in [0, 1], which `certify` relies on.
"""

import torch
from torch import Tensor, nn


class Softplus(nn.Module):
    """log(1 + e^x), entry by entry.

    torch's own is the identity above a threshold, where it jumps, in float64 by far more than a
    rounding: a map with a jump has no Lipschitz constant.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.logaddexp(x, x.new_zeros(()))


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "softplus": Softplus,
}
