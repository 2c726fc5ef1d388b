"""Proven bounds of the error of an inverse, in float32 and float64."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from operator import mul
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.blocks.invertible_block import BlockBound, InvertibleBlock
from models.floats.threads import single_threaded_operations
from models.floats.torch_modes import reduced_products, refuse_flushed_denormals
from models.network.double_double import DoubleDouble, add, bound_after, residual_of, takes
from models.norms.rounding import ROOM, UNITS, Running, after_block, norm_of

# How the inverse in float64 is solved; its own error is bounded by its residual.
_RTOL, _MAX_STEPS = 1e-14, 200
# The most Newton steps in double-double arithmetic that follow, the rtol to which each is solved,
# and the residual, relative to z, that needs no further one: at least the first of these, and more
# where all blocks before it cannot make more of it than this share of a unit of rounding.
_N_NEWTON_STEPS = 2
_STEP_RTOL = 1e-6
_ENOUGH = 1e-22
_SHARE = 2**-10


@torch.no_grad()
def error_bounds(
    body: Sequence[nn.Module], z: Tensor, iterates: Iterable[Tensor], bounds: Sequence[BlockBound]
) -> tuple[Tensor, Tensor]:
    """Returns the `error_bound` (T, B) and the `image_error_bound` (B,) of `IResNet.inverse`:
    proven, float64, l2, rounding included. Infinite where a block is not proven to be invertible;
    the second also where products may have been computed in less than the precision of z.

    The blocks are inverted once more in float64, and blocks of ReLU are refined by Newton steps in
    double-double arithmetic where that counts beside the rounding of z: in float64 alone, the bound
    of a deep network would be far above its error. Let x_t be these iterates, r_t = x_t + g(x_t) -
    x_{t+1}, and c_t the bounds of the blocks' inverses. Then the exact preimages are within
    e_t = c_t (e_{t+1} + ||r_t||) of the x_t.

    The values of the forward pass are within some distance d_t of x_t. A running error analysis
    around x_t bounds the rounding of a block there by p_t + q_t d_t. So d_t is at most
    c_t (d_{t+1} + ||r_t|| + p_t + q_t d_t), which bounds it where c_t q_t < 1.

    Args:
        body: of a network in eval mode.
        z: its features (B, C, H, W), float32 or float64, as the weights.
        iterates: for each block, from the last one on, the solution (B, C, H, W) before it.
        bounds: the proven bounds of the blocks, in the order of the forward pass.

    Raises:
        ValueError: if torch flushes denormal numbers to zero.
    """
    refuse_flushed_denormals()
    with single_threaded_operations():
        return _error_bounds(body, z, iter(iterates), list(bounds))


def _error_bounds(
    body: Sequence[nn.Module], z: Tensor, iterate: Iterator[Tensor], left: list[BlockBound]
) -> tuple[Tensor, Tensor]:
    device, dtype, is_in_full = z.device, z.dtype, reduced_products(z) is None
    # On the CPU, where a sum of products is one.
    z = z.cpu().double()
    x, error = (z, torch.zeros_like(z)), z.new_zeros(len(z))
    of_pass = error
    errors = error.new_full((len(left), len(z)), math.inf)
    # By how much the blocks from the first on amplify a residual.
    grown = list(accumulate((bound.inverse_lipschitz_upper_bound for bound in left), mul))
    # Without blocks nothing is rounded.
    of_image = error.new_full((len(z),), math.inf if left else 0.0)
    for module in reversed(body):
        if not isinstance(module, InvertibleBlock):
            first, second = (cast(Any, module).inverse(part) for part in x)
            x = first, second
            continue
        proven = left.pop()
        inverse_lipschitz = proven.inverse_lipschitz_upper_bound
        residual = None if math.isinf(inverse_lipschitz) else module.exact_g()
        if residual is None:
            break
        residual = residual.cpu()
        enough = max(_ENOUGH, _SHARE * UNITS[dtype][0] / grown[len(left)])
        x, off = _preimage(module, residual.double(), x, proven.expands, enough)
        error = inverse_lipschitz * (error + off)
        without = inverse_lipschitz * (of_pass + off)
        of_pass = _off_the_pass(residual, x, dtype, inverse_lipschitz, without)
        distance = ROOM * (norm_of(next(iterate).cpu().double() - x[0]) + norm_of(x[1]))
        errors[len(left)] = distance + error
        if not left and is_in_full:
            of_image = distance + of_pass
    errors, of_image = (
        of.nan_to_num(nan=math.inf, posinf=math.inf).to(device) for of in (errors, of_image)
    )
    return errors, of_image


def _off_the_pass(
    residual: nn.Sequential,
    x: DoubleDouble,
    dtype: torch.dtype,
    inverse_lipschitz: float,
    without: Tensor,
) -> Tensor:
    """Bound (B,), float64, l2, of x's distance from a block's input in a forward pass in `dtype`.
    `residual` is the block's g in plain modules, `without` (B,) the bound if it did not round."""
    center = x[0].to(dtype)
    moved = norm_of(x[0] - center.double()) + norm_of(x[1])
    # Bounds of the rounding at the center and within a distance of it, in which they are linear. A
    # distance like the norm of the center keeps their difference from being lost in rounding.
    distance = 1 + norm_of(center)
    spread = torch.stack([torch.zeros_like(moved), distance])
    after = after_block(residual.to(dtype), Running(center, spread, torch.zeros_like(spread)), 0.0)
    at_center, within = ROOM * inverse_lipschitz * after.error
    slope = ROOM * (within - at_center) / distance
    off = ROOM * (without + at_center + slope * moved) / (1 - slope)
    return torch.where(slope < 1, off, math.inf)


def _preimage(
    block: InvertibleBlock, residual: nn.Sequential, z: DoubleDouble, expanding: bool, enough: float
) -> tuple[DoubleDouble, Tensor]:
    """Returns (x, bound), for the g of a block in plain modules and float64: x with x + g(x) = z,
    nearly, and a proven bound (B,) of ||x + g(x) - z||, l2. A bound of `enough`, by the norm of z,
    will do."""
    settings = {"rtol": _RTOL, "max_steps": _MAX_STEPS, "expanding": expanding}
    start = block.exact_inverse(residual, z[0], **settings)
    x = start.last_iterate, torch.zeros_like(z[0])
    can_refine = takes(residual)
    if not can_refine or enough > UNITS[torch.float64][0]:
        bound = ROOM * (_residual_bound(residual, x[0], z[0]) + norm_of(z[1]))
        if not can_refine or _is_within(bound, enough, z):
            return x, bound
    missing, bound, own_error = _missing(residual, x, z)
    for _ in range(_N_NEWTON_STEPS):
        if _is_within(bound, enough, z):
            break
        step = block.newton_step(residual, x[0], missing, _STEP_RTOL)
        bound = bound_after(residual, x, step, missing, own_error)
        x = add(x, (step, torch.zeros_like(step)))
        if not _is_within(bound, enough, z):
            missing, bound, own_error = _missing(residual, x, z)
    return x, bound


def _is_within(bound: Tensor, enough: float, z: DoubleDouble) -> bool:
    return bool((bound <= enough * norm_of(z[0])).all())


def _missing(
    residual: nn.Sequential, x: DoubleDouble, z: DoubleDouble
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns (value, bound, error): x + g(x) - z as `residual_of` gives it, and a proven bound
    (B,) of the l2 norm of its exact value."""
    missing, own_error = residual_of(residual, x, z)
    return missing, ROOM * (norm_of(missing) + own_error), own_error


def _residual_bound(residual: nn.Sequential, x: Tensor, z: Tensor) -> Tensor:
    """Proven bound (B,) of ||x + g(x) - z||, l2, in float64, its own rounding included."""
    zero = x.new_zeros(len(x))
    image = after_block(residual, Running(x, zero, zero), 0.0)
    # The difference, rounded entry by entry, is good to a unit of itself.
    return ROOM * (norm_of(image.value - z) + image.error)
