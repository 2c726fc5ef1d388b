"""Bounds of the rounding in the evaluation of a residual block in float64."""

import math

import torch
from torch import Tensor, nn

from models.activations import Softplus

# Far above what the underflow of one layer's products adds up to, far below what matters.
_UNDERFLOW = 2.0**-900


def scaled_norm(x: Tensor) -> Tensor:
    """l2 norm of each sample of x (b, ...), whose squares neither underflow nor overflow."""
    dims = tuple(range(1, x.dim()))
    largest = x.abs().amax(dim=dims, keepdim=True)
    usable = (largest > 0) & largest.isfinite()
    unit = torch.where(usable, largest, 1.0)
    norm: Tensor = torch.linalg.vector_norm(x / unit, dim=dims) * unit.flatten()
    return norm


def evaluation_rounding(residual: nn.Sequential, x: Tensor) -> Tensor:
    """Bound (B,) of the rounding of x + residual(x) in float64, l2; x (B, C, H, W).

    Each output of a convolution in float64 is assumed to be a sum of its products, in any order, as
    torch's are on CPUs and GPUs; no Winograd and no Fourier form. Sums of n products are good to
    n 2^-53 times the sum of their absolute values (Higham 2002, section 3.1). These are bounded
    layer by layer: the norm of a convolution with the absolute kernel is at most that of the sum
    over its taps.
    """
    n_pixels, channels = x.shape[2] * x.shape[3], x.shape[1]
    of_x = scaled_norm(x) + _UNDERFLOW
    magnitude = of_x
    n_terms = 2
    for module in residual:
        if isinstance(module, nn.Conv2d):
            kernel = module.weight.abs()
            # On the CPU, where certificates are computed too.
            norm = torch.linalg.matrix_norm(kernel.sum(dim=(2, 3)).cpu(), ord=2).item()
            magnitude = magnitude * norm + _UNDERFLOW
            n_terms, channels = max(n_terms, kernel[0].numel() + 1), len(kernel)
            if module.bias is not None:
                magnitude = magnitude + scaled_norm(module.bias[None]) * n_pixels**0.5
        elif isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            scale = module.weight.abs() * (module.running_var + module.eps).rsqrt()
            offset = module.bias.abs() + scale * module.running_mean.abs()
            magnitude = magnitude * scale.max() + scaled_norm(offset[None]) * n_pixels**0.5
            magnitude = magnitude + _UNDERFLOW
        elif isinstance(module, Softplus):
            # At most |u| + log(2).
            magnitude = magnitude + (n_pixels * channels) ** 0.5 * math.log(2)
    # A factor of 2 for the terms of higher order, and for the few other operations.
    n_layers = len(residual) + 1
    rounding: Tensor = 2 * n_layers * n_terms * 2**-53 * (magnitude + of_x)
    return rounding
