"""The l2 norm of each sample, without underflow or overflow of the squares."""

import torch
from torch import Tensor


def scaled_norm(x: Tensor) -> Tensor:
    """(b,): the l2 norm of each sample of x (b, ...), in its dtype."""
    dims = tuple(range(1, x.dim()))
    largest = x.abs().amax(dim=dims, keepdim=True)
    usable = (largest > 0) & largest.isfinite()
    unit = torch.where(usable, largest, 1.0)
    norm: Tensor = torch.linalg.vector_norm(x / unit, dim=dims) * unit.flatten()
    return norm
