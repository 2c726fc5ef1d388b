"""Norms on the torus, in a form that only tests and benchmarks need."""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.convolution_norm import _few_out, _matrix_norms, _smallest_grid
from models.gram_symbols import SHIFTS, GramSymbols


def torus_norms(
    weight: Tensor, size: tuple[int, int], shifts: Sequence[tuple[float, float]] = SHIFTS
) -> tuple[Tensor, Tensor]:
    """The smallest norm, over shifted grids, of circular convolutions on the torus.

    With the one shift (0, 0) it is the largest singular value of the kernel's DFT with H + r by
    W + r points. It is the stage from which `convolution_norm_bounds` starts.

    Args:
        weight: (L, c_out, c_in, k_h, k_w), odd kernels; computed in float64.
        size: (H, W) of the map.
        shifts: one or more of SHIFTS.

    Returns:
        Norms (L,), float64, and which of the shifts each is of, int64 (L,).
    """
    weight = _few_out(weight, size)
    if weight.shape[-2:] == (1, 1):  # the same symbol at every frequency of every grid
        norms = _matrix_norms(weight[..., 0, 0])
        return norms, torch.zeros_like(norms, dtype=torch.int64)
    squared, which = _smallest_grid(GramSymbols(weight, size), shifts)
    return squared.clamp(min=0).sqrt(), which
