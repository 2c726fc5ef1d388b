"""What the evaluation of a residual block in float64 can be off by."""

import math

import torch
from torch import Tensor, nn


def evaluation_rounding(residual: nn.Sequential, x: Tensor) -> Tensor:
    """Bound (B,) of the rounding of x + residual(x) in float64, l2; x (B, C, H, W).

    Assumed of a convolution in float64 is that each output is a sum of its products, in any order,
    as torch's are on CPUs and GPUs; no Winograd and no Fourier form. Sums of n products are good
    to n 2^-53 times the sum of their absolute values (Higham 2002, section 3.1). These are bounded
    layer by layer: the norm of a convolution with the absolute kernel is at most that of the sum
    over its taps.
    """
    n_pixels, channels = x.shape[2] * x.shape[3], x.shape[1]
    magnitude = x.flatten(1).norm(dim=1)
    jumps = torch.zeros_like(magnitude)
    n_terms = 2
    for module in residual:
        if isinstance(module, nn.Conv2d):
            kernel = module.weight.abs()
            # On the CPU, where certificates are computed too.
            norm = torch.linalg.matrix_norm(kernel.sum(dim=(2, 3)).cpu(), ord=2).item()
            magnitude, jumps = magnitude * norm, jumps * norm
            n_terms, channels = max(n_terms, kernel[0].numel() + 1), len(kernel)
            if module.bias is not None:
                magnitude = magnitude + module.bias.norm() * n_pixels**0.5
        elif isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            scale = module.weight.abs() * (module.running_var + module.eps).rsqrt()
            offset = module.bias.abs() + scale * module.running_mean.abs()
            magnitude = magnitude * scale.max() + offset.norm() * n_pixels**0.5
            jumps = jumps * scale.max()
        elif isinstance(module, nn.Softplus):
            # At most |u| + log(2) / beta. Torch's jumps where it becomes the identity.
            root = (n_pixels * channels) ** 0.5
            magnitude = magnitude + root * math.log(2) / module.beta
            jumps = jumps + root * math.exp(-module.threshold) / module.beta
    # A factor of 2 for what the terms of higher order add, and for the few other operations.
    n_layers = len(residual) + 1
    rounding: Tensor = 2 * n_layers * n_terms * 2**-53 * (magnitude + x.flatten(1).norm(dim=1))
    return rounding + jumps
