"""The inverse of x - W^T k(W x + b) by scalar equations, where the rows of W are nearly orthogonal
and equally long.

With W W^T = s I + R, u = W x + b solves u - s k(u) = w with w = v + R k(u), v = W z + b, for the
image z of x, and x = z + W^T k(u). Without R, w is v, and these are scalar equations. With R, w is
the fixed point of a map with the Lipschitz constant |R| / (1 - s), in the few dimensions of u. If w
is off by d in w = v + R k(u), the image of x is off by at most |W| |d|.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.inverse.fixed_point import Solution, fixed_point, nan_where_unconverged
from models.layers.activations import Softplus

# The largest |R| / (1 - s) with which scalar equations are solved.
_SLOWEST = 0.1
# Newton steps of a scalar equation: the most, and the change that ends them, in units of rounding.
_MOST_STEPS, _UNITS = 100, 4

Entrywise = Callable[[Tensor], Tensor]
OfRows = Callable[[Tensor, Tensor], Tensor]
# Activation without a closed form of the scalar equation -> its slope.
_SLOPES: dict[type[nn.Module], Entrywise] = {
    nn.ELU: lambda u: u.clamp(max=0).exp(),
    Softplus: torch.sigmoid,
}


class Near(NamedTuple):
    """W W^T = scale I + rest."""

    scale: float
    rest: Tensor


def decoupled(weight: Tensor) -> Near | None:
    """s and R for W (n, channels); None where s is not below 1, or R is too large to iterate."""
    gram = weight @ weight.T
    scale = gram.diagonal().mean().item()
    rest = gram - scale * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    is_near = rest.norm().item() <= _SLOWEST * (1 - scale)  # false for NaN
    return Near(scale, rest) if is_near else None


def scalar_solution(activation: nn.Module, scale: float | Tensor) -> Entrywise | None:
    """The entrywise map w -> k(u) for the u with u - s k(u) = w, an activation k with slopes in
    [0, 1], and s = `scale` < 1, a number or one for each entry; None for an activation that is not
    known here."""
    kind = type(activation)
    if kind is nn.ReLU:
        return lambda w: activation(w) / (1 - scale)
    if (kind is nn.ELU and activation.alpha != 1) or kind not in _SLOPES:
        return None
    return lambda w: activation(_by_newton(activation, _SLOPES[kind], scale, w))


def _by_newton(activation: nn.Module, slope: Entrywise, scale: float | Tensor, w: Tensor) -> Tensor:
    """u with u - s k(u) = w. The left side is concave in u and rises by 1 - s at least: after one
    Newton step every further one moves up, to the solution and not beyond."""
    u, unit = w, torch.finfo(w.dtype).eps
    for _ in range(_MOST_STEPS):
        step = (u - scale * activation(u) - w) / (1 - scale * slope(u))
        u = u - step
        if not bool((step.abs() > _UNITS * unit * (1 + u.abs())).any()):  # NaN stays
            break
    return u


def solve_decoupled(
    weight: Tensor, near: Near, solve: OfRows, v: Tensor, z: Tensor,
    **settings: Any,
) -> Solution:  # fmt: skip
    """The x (B, H, W, channels) with x - W^T k(W x + b) = z; settings as in `fixed_point`, whose
    iterates are w.

    Args:
        weight, near: W (n, channels), and what `decoupled` says of it.
        solve: the map w -> k(u) with u - s k(u) = w: entrywise, for the samples `rows` of z, as in
            `fixed_point`.
        v: W z + b, (B, H, W, n).
        z: (B, H, W, channels).
    """

    def step(w: Tensor, rows: Tensor) -> Tensor:
        return v[rows] + solve(w, rows) @ near.rest

    solution = fixed_point(step, v, **settings)
    everyone = torch.arange(len(v), device=v.device)
    x = z + solve(solution.last_iterate, everyone) @ weight
    # As far as the image of x is off z, in exact arithmetic: |W| times a step of w.
    norm = (near.scale + near.rest.norm()).sqrt()
    return replace(
        solution,
        value=nan_where_unconverged(x, solution.converged),
        last_iterate=x,
        residual_norm=norm * solution.residual_norm,
    )
