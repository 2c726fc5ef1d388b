"""Convolutions of a block, scaled so that a proven bound follows."""

import torch
from torch import nn

from models.layers.spectral_norm import SpectralNormConv2d


def scale_convolution(module: nn.Module, upper_bound: float, factor: float, n_round: int) -> float:
    """Multiply the effective weight of a convolution by a factor in (0, 1), or by a little less:
    against rounding, and for each further round by as much again. Its bias stays. The target of a
    normalized one becomes at most its new bound.

    Args:
        upper_bound: proven of the norm of the convolution as it is, l2 to l2.

    Returns:
        What its effective weight was multiplied by.
    """
    assert isinstance(module, SpectralNormConv2d | nn.Conv2d)
    weight = module.weight
    by: float = factor * (1 - 2**n_round * max(1e-6, 2 * torch.finfo(weight.dtype).eps))
    if isinstance(module, SpectralNormConv2d):
        weight = module.effective_weight()
        # Rows that stay orthonormal are scaled to their target in any case. How far the norm is
        # above it, where they are not quite orthonormal, stays as it is.
        module.coeff = (
            module.coeff * by if module.orthonormal else min(module.coeff, upper_bound * factor)
        )
    module.weight.copy_(weight * by)
    return by
