"""Norms on the torus, for tests and benchmarks only."""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.norms.convolution_norm import _few_out, _matrix_norms, _smallest_grid
from models.norms.gram_symbols import SHIFTS, GramSymbols


def torus_norms(
    weight: Tensor, size: tuple[int, int], shifts: Sequence[tuple[float, float]] = SHIFTS
) -> tuple[Tensor, Tensor]:
    """The smallest norm, over shifted grids, of circular convolutions on the torus.

    With the single shift (0, 0) this is the largest singular value of the kernel's DFT with H + r
    by W + r points. It is the first stage of `convolution_norm_bounds`.

    Args:
        weight: (L, c_out, c_in, k_h, k_w), odd kernels; computed in float64.
        size: (H, W) of the map.
        shifts: one or more of SHIFTS.

    Returns:
        Norms (L,), float64, and the index of the shift of each, int64 (L,).
    """
    weight = _few_out(weight, size)
    if weight.shape[-2:] == (1, 1):  # the same symbol at every frequency of every grid
        norms = _matrix_norms(weight[..., 0, 0])
        return norms, torch.zeros_like(norms, dtype=torch.int64)
    squared, which = _smallest_grid(GramSymbols(weight, size), shifts)
    return squared.clamp(min=0).sqrt(), which
