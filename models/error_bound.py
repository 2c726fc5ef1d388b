"""A proven bound of the error of an inverse, in any precision."""

import copy
import math
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.certificate import BlockBound
from models.residual_block import ResidualBlock
from models.rounding import ROOM, Running, after_block, norm_of

# Of the inverse in float64, whose own error is bounded by its residual.
_RTOL, _MAX_STEPS = 1e-14, 200


@torch.no_grad()
def error_bound(
    body: Sequence[nn.Module], z: Tensor, iterates: Iterable[Tensor], bounds: Sequence[BlockBound]
) -> Tensor:
    """Bounds (T, B), float64, l2, of the distances of `iterates` from the exact preimages of z
    under the T blocks from each one on. Infinite where a block is not proven to be invertible.

    The blocks are inverted once more in float64. With r_t = x_t + g(x_t) - x_{t+1} for its iterates
    x_t and the bounds c_t of the blocks' inverses, these are off by at most e_t =
    c_t (e_{t+1} + ||r_t||), rounding included.

    Args:
        body: of a network in eval mode.
        z: its features (B, C, H, W).
        iterates: for each block, from the last one on, the solution (B, C, H, W) before it.
        bounds: proven of the blocks, in the order of the forward pass.
    """
    left, iterate = list(bounds), iter(iterates)
    x, error, errors = z.double(), z.new_zeros(len(z), dtype=torch.float64), []
    for module in reversed(body):
        if not isinstance(module, ResidualBlock):
            x = cast(Any, module).inverse(x)
            continue
        block, proven = _in_float64(module), left.pop()
        before = block.inverse(
            x, rtol=_RTOL, max_steps=_MAX_STEPS, expanding=proven.expands
        ).last_iterate
        error = proven.inverse_lipschitz_upper_bound * (error + _residual_bound(block, before, x))
        error = error.nan_to_num(nan=math.inf, posinf=math.inf)
        x = before
        distance = norm_of(next(iterate).double() - x).nan_to_num(nan=math.inf)
        errors.append(ROOM * distance + error)
    return torch.stack(errors[::-1])


def _in_float64(block: ResidualBlock) -> ResidualBlock:
    """A copy in plain modules."""
    exact = copy.copy(block)
    exact._modules = {"residual": block.deployed().double()}
    return exact


def _residual_bound(block: ResidualBlock, x: Tensor, z: Tensor) -> Tensor:
    """Proven bound (B,) of ||x + g(x) - z||, l2, in float64, the rounding of this included."""
    zero = x.new_zeros(len(x))
    image = after_block(block.residual, Running(x, zero, zero), 0.0)
    # The difference, rounded entry by entry, is good to a unit of itself.
    return ROOM * (norm_of(image.value - z) + image.error)
