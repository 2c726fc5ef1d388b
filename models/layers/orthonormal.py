"""Pointwise convolutions whose matrix has orthonormal rows, up to a factor: all singular values of
the effective weight meet their target.

An optimizer may move the matrix anywhere. A step of the iteration for its polar factor (Higham,
Functions of Matrices, 8.3) then takes it back, at the cost of two products of matrices: no estimate
of its norm is needed.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.layers.kernel_batches import map_kernels
from models.layers.normalized import NormalizedConv2d

# The largest eigenvalue of W W^T from which a step starts. Below 3 every singular value stays
# positive; at 2, the largest of them becomes sqrt(1/2).
_LARGEST = 2.0


class OrthonormalConv2d(NormalizedConv2d):
    """1 x 1 convolution with the weight coeff * W, where the rows of W are orthonormal, and a bias.

    The rows are orthonormal at the start, and `retract` brings them back to that: it is exact only
    in the limit, so `certify` says what the norm of the effective weight is.

    Args:
        in_channels: of the input, at least out_channels.
        out_channels: of the output.
        coeff: target of every singular value of the effective weight, > 0.
    """

    def __init__(self, in_channels: int, out_channels: int, *, coeff: float) -> None:
        weight = torch.empty(out_channels, in_channels, 1, 1)
        super().__init__(nn.init.orthogonal_(weight), torch.zeros(out_channels), coeff)

    def effective_weight(self) -> Tensor:
        return self.weight * self.coeff

    def extra_repr(self) -> str:
        c_out, c_in, _, _ = self.weight.shape
        return f"{c_in}, {c_out}, coeff={self.coeff}"


@torch.no_grad()
def retract(layers: Sequence[OrthonormalConv2d], n_steps: int) -> None:
    """Move the matrix of every layer, in place, by n_steps towards its polar factor, the nearest
    matrix with orthonormal rows. Its singular vectors stay, and a singular value s = 1 + d becomes
    s (3 - s^2) / 2: never above 1, and 1 - 1.5 d^2 up to d^3. A matrix whose norm may be above
    sqrt(2) is scaled down first. Under autocast the products are computed in its dtype."""
    weights: list[Tensor] = [layer.weight for layer in layers]
    for _ in range(n_steps if layers else 0):
        torch._foreach_add_(weights, map_kernels(_correction, weights))


def _correction(kernels: Tensor) -> Tensor:
    """W (3 - W W^T / s) / (2 sqrt(s)) - W for each W, with s = 1 unless W W^T is too large."""
    matrices = kernels.flatten(2)
    if torch.is_autocast_enabled(matrices.device.type):
        matrices = matrices.to(torch.get_autocast_dtype(matrices.device.type))
    gram = torch.bmm(matrices, matrices.mT).to(kernels.dtype)
    # No eigenvalue is above the largest sum of the absolute values of a row.
    above = gram.abs().sum(dim=2).amax(dim=1) / _LARGEST
    scale = above.clamp(min=1).view(-1, 1, 1)
    factor = gram.mul_(-0.5 / (scale * scale.sqrt()))
    factor.diagonal(dim1=1, dim2=2).add_(1.5 * scale.rsqrt().squeeze(2) - 1)
    return torch.bmm(factor.to(matrices.dtype), matrices).view_as(kernels)
