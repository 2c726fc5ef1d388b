"""Power iteration on zero-padded convolutions; those of one shape form one batch. Norms are l2.

The operator is the convolution itself, with its zero padding and at the size of its map, not the
kernel flattened to a matrix (Gouk et al. 2018, as used by Behrmann et al., section 3).
"""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

# This multiple of the identity is added to M^T M. That keeps the eigenvectors, and the direction of
# a vector that M maps to zero. Far below the rounding of any sigma^2 that matters.
_SHIFT = 1e-14
# Least divisor of a normalization: a zero vector stays zero. Its square is a normal float32.
_LEAST_NORM = 1e-18


def adjoint_kernel(weight: Tensor) -> Tensor:
    """The kernel (..., c_in, c_out, k, k) of the adjoint of the convolution with the kernel
    (..., c_out, c_in, k, k). The adjoint of the adjoint is the convolution itself."""
    return weight.transpose(-4, -3).flip(-1, -2)


def power_iteration(weight: Tensor, vector: Tensor, n_iterations: int) -> tuple[Tensor, Tensor]:
    """Power iteration on a batch of L convolutions of one shape.

    Args:
        weight: (L, c_out, c_in, k_h, k_w) with c_in <= c_out, k_h and k_w odd.
        vector: (L, c_in, H, W), unit l2 norm per layer: where to start.
        n_iterations: at least 1. Each applies the convolution and then its adjoint.

    Returns:
        The refined unit vectors (L, c_in, H, W), and G (L, c_out, c_in, k_h, k_w) such that
        sigma_l = <G_l, weight_l> estimates the spectral norm from below.
    """
    vector, outer = iterate(weight.permute(0, 1, 3, 4, 2), vector, n_iterations)
    return vector, outer.permute(0, 1, 4, 2, 3)


def iterate(weight: Tensor, vector: Tensor, n_iterations: int) -> tuple[Tensor, Tensor]:
    """`power_iteration` for kernels (L, c_out, k_h, k_w, c_in), with G in that layout too."""
    kernel = (weight.shape[2], weight.shape[3])
    matrix = weight.flatten(2)
    for _ in range(n_iterations):
        image = torch.bmm(matrix, _patches(vector, kernel))
        back = _patches_adjoint(torch.bmm(matrix.transpose(1, 2), image), vector.shape, kernel)
        vector = _normalized(torch.add(back, vector, alpha=_SHIFT))
    outer = torch.bmm(_normalized(image), _patches(vector, kernel).transpose(1, 2))
    return vector, outer.view_as(weight)


def _patches(x: Tensor, kernel: tuple[int, int]) -> Tensor:
    """What each tap of a zero-padded kernel sees: (L, c, H, W) -> (L, k_h k_w c, H W).
    nn.functional.unfold, which puts the channels first, takes several times as long on the CPU."""
    if kernel == (1, 1):
        return x.flatten(2)
    (k_h, k_w), n_layers = kernel, x.shape[0]
    padded = F.pad(x, (k_w // 2, k_w // 2, k_h // 2, k_h // 2))
    windows = padded.unfold(2, k_h, 1).unfold(3, k_w, 1)  # (L, c, H, W, k_h, k_w)
    return windows.permute(0, 4, 5, 1, 2, 3).reshape(n_layers, -1, x.shape[2] * x.shape[3])


def _patches_adjoint(patches: Tensor, shape: torch.Size, kernel: tuple[int, int]) -> Tensor:
    """The adjoint of `_patches`: (L, k_h k_w c, H W) -> shape = (L, c, H, W)."""
    if kernel == (1, 1):
        return patches.view(shape)
    (k_h, k_w), (n_layers, channels, height, width) = kernel, shape
    taps = patches.view(n_layers, k_h, k_w, channels, height, width)
    padded = patches.new_zeros(n_layers, channels, height + k_h - 1, width + k_w - 1)
    for y, x in product(range(k_h), range(k_w)):
        padded[:, :, y : y + height, x : x + width].add_(taps[:, y, x])
    return padded[:, :, k_h // 2 : k_h // 2 + height, k_w // 2 : k_w // 2 + width]


def _normalized(vector: Tensor) -> Tensor:
    """Scale the vector of each leading index to unit l2 norm; a zero vector stays zero."""
    norm = torch.linalg.vector_norm(vector, dim=tuple(range(1, vector.dim())), keepdim=True)
    unit: Tensor = vector / norm.clamp(min=_LEAST_NORM)
    return unit
