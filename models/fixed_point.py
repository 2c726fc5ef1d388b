"""Fixed-point iteration with a stop per sample.

The inverse of a residual block x + g(x) = y is the fixed point of x -> y - g(x)
(Behrmann et al., "Invertible Residual Networks", Theorem 1 and equation 4).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Solution:
    """What a fixed-point iteration found, per sample; check `converged` before using `value`.

    A solution of one equation has vectors of shape (B,). The inverse of a network
    solves one equation a block and stacks them: (T, B), in the order of the forward
    pass, and `value` is then NaN where any block did not converge.

    Attributes:
        value: (B, ...) the fixed point, as far as `converged` says. NaN for a sample that
            did not converge: there is no answer, so none is given.
        last_iterate: (B, ...) where the iteration stood when it ended, converged or not.
        n_steps: int64, evaluations of the map.
        residual_norm: l2 norm of the last step, ||fn(x) - x||. A measurement, no bound on
            the error: for a map with Lipschitz constant L < 1 the error of `value` is at
            most L / (1 - L) times this, in exact arithmetic.
        converged: bool, the last step was at most atol + rtol * ||fn(x)||. If false: raise
            max_steps, loosen rtol, or certify the map first, since a map that is no
            contraction need not converge at all.
    """

    value: Tensor
    last_iterate: Tensor
    n_steps: Tensor
    residual_norm: Tensor
    converged: Tensor


def fixed_point(
    fn: Callable[[Tensor, Tensor], Tensor],
    y0: Tensor,
    *,
    rtol: float = 1e-6,
    atol: float = 0.0,
    max_steps: int = 100,
) -> Solution:
    """Solve x = fn(x) for each sample by Picard iteration from y0 (paper, equation 4).

    A sample leaves the batch as soon as its own step is small enough, so that the cost
    is the sum of the steps that the samples need, not the batch times the slowest. It
    leaves, unconverged, as soon as its step is no longer finite.

    Args:
        fn: fn(x, rows) evaluates the map at x (b, ...) for the samples `rows` (b,), int64
            indices into the batch of y0.
        y0: (B, ...) floating point, where to start.
        rtol: stop when ||fn(x) - x||_2 <= atol + rtol * ||fn(x)||_2, norms per sample.
        atol: see rtol.
        max_steps: the most evaluations of fn per sample, at least 1.

    Raises:
        ValueError: if max_steps < 1, or rtol or atol is negative.
    """
    if max_steps < 1:
        raise ValueError(f"max_steps >= 1 must hold, but got max_steps={max_steps}")
    if rtol < 0 or atol < 0:
        raise ValueError(f"rtol, atol >= 0 must hold, but got rtol={rtol}, atol={atol}")
    n_samples = y0.shape[0]
    x = y0.clone()
    rows = torch.arange(n_samples, device=y0.device)
    n_steps = torch.zeros(n_samples, dtype=torch.int64, device=y0.device)
    residual_norm = torch.full((n_samples,), torch.inf, dtype=y0.dtype, device=y0.device)
    converged = torch.zeros(n_samples, dtype=torch.bool, device=y0.device)
    for step in range(1, max_steps + 1):
        if rows.numel() == 0:
            break
        current = x[rows]
        image = fn(current, rows)
        step_norm = (image - current).flatten(1).norm(dim=1)
        tolerance = atol + rtol * image.flatten(1).norm(dim=1)
        small_enough = (step_norm <= tolerance) & step_norm.isfinite()
        x[rows] = image
        n_steps[rows] = step
        residual_norm[rows] = step_norm
        converged[rows] = small_enough
        rows = rows[~small_enough & step_norm.isfinite()]
    return Solution(
        value=nan_where_unconverged(x, converged),
        last_iterate=x,
        n_steps=n_steps,
        residual_norm=residual_norm,
        converged=converged,
    )


def nan_where_unconverged(x: Tensor, converged: Tensor) -> Tensor:
    """x (B, ...) with the samples where converged (B,) is false replaced by NaN."""
    return x.masked_fill(~converged.view(-1, *[1] * (x.dim() - 1)), torch.nan)
