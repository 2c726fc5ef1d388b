"""Fixed-point iteration with a stop per sample.

The inverse of a residual block x + g(x) = y is the fixed point of x -> y - g(x)
(Behrmann et al., "Invertible Residual Networks", Theorem 1 and equation 4).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.rounding import scaled_norm

# A sample whose steps shrink to more than this part goes on with Anderson acceleration. Above 1
# the map is no contraction there, and the sample stays with Picard iteration, which diverges.
_SLOW_CONTRACTION = 0.5
# Changes that Anderson acceleration combines: the worst cases have two eigenvalues, and more
# changes cost more than they save.
_ANDERSON_MEMORY = 3
# Accelerated steps must reduce the residual to this part of it.
_ACCEPTED_REDUCTION = 0.99
# Bytes of the samples that are iterated together on a CPU. A step reads and writes five times as
# much, and is several times faster where that fits into the caches.
_PART_BYTES = 5 * 2**19
# On the diagonal of the normal equations, whose columns have norm 1 or 0.
_RIDGE = 1e-7


@dataclass(frozen=True)
class Solution:
    """The result of a fixed-point iteration, per sample; check `converged` before using `value`.

    A solution of one equation has vectors of shape (B,). The inverse of a network
    solves one equation a block and stacks them: (T, B), in the order of the forward
    pass, and `value` is then NaN where any block did not converge.

    Attributes:
        value: (B, ...) the fixed point of each sample that converged, NaN for the others.
        last_iterate: (B, ...) the last iterate of each sample, converged or not.
        n_steps: int64, evaluations of the map.
        residual_norm: l2 norm of the last step, ||fn(x) - x||. A measurement, no bound on
            the error: for a map with Lipschitz constant L < 1 the error of `value` is at
            most L / (1 - L) times this, in exact arithmetic.
        converged: bool, the last step was at most atol + rtol * ||fn(x)||. If false: raise
            max_steps, loosen rtol, or certify the map first, since a map that is no
            contraction need not converge at all.
        error_bound: float64, proven bound of ||last_iterate - x|| for the exact solution x,
            rounding included, converged or not; see `IResNet.inverse`. None if no proven
            Lipschitz constants were given.
    """

    value: Tensor = field(repr=False)  # a printed batch of images says nothing
    last_iterate: Tensor = field(repr=False)
    n_steps: Tensor
    residual_norm: Tensor
    converged: Tensor
    error_bound: Tensor | None = None


def predicted_steps(lipschitz: float, rtol: float, first_error: float) -> int | None:
    """A number of evaluations after which Picard iteration is proven to have met the stopping rule
    of `fixed_point` with atol = 0. Where it goes on for so many, its error is at most rtol ||x||,
    for the fixed point x; where it stops earlier, it may be larger, by up to L / (1 - L).

    With e = ||x_0 - x|| / ||x||, the k-th step is at most L^(k-1) (1 + L) e ||x|| and its result at
    least (1 - L^k e) ||x|| long (Banach's theorem). So the smallest k >= 1 suffices for which
    L^(k-1) e (1 + L + rtol L) <= rtol; it is raised against rounding, by at most a few parts in
    10^15 and one. In exact arithmetic for the iteration. None where nothing is proven.

    Args:
        lipschitz: L, a proven bound of the map's Lipschitz constant, >= 0.
        rtol: >= 0.
        first_error: e, >= 0.
    """
    needed = first_error * (1 + lipschitz + rtol * lipschitz) * (1 + 2**-50)
    if not lipschitz < 1 or not needed < math.inf:
        return None
    if needed <= rtol:
        return 1
    if lipschitz == 0:
        return 2
    if rtol == 0:
        return None
    n_steps = (math.log(needed) - math.log(rtol) + 2**-48) / -math.log(lipschitz)
    return 1 + math.ceil(n_steps * (1 + 2**-48))


def fixed_point(
    fn: Callable[[Tensor, Tensor], Tensor],
    y0: Tensor,
    *,
    rtol: float = 1e-6,
    atol: float = 0.0,
    max_steps: int | Tensor = 100,
) -> Solution:
    """Solve x = fn(x) for each sample, starting from y0.

    By Picard iteration x <- fn(x) (paper, equation 4). Samples that converge slowly go on with
    Anderson acceleration (Anderson 1965; type II, as in Walker and Ni 2011). An accelerated step
    that does not reduce the residual by one percent is replaced by a Picard step, which reduces
    it by the Lipschitz constant. So a contraction converges in any case.

    A sample leaves the batch as soon as its own step is small enough, so the cost is the sum of
    the steps that the samples need. A sample whose step is not finite leaves unconverged.

    Args:
        fn: fn(x, rows) evaluates the map at x (b, ...) for the samples `rows` (b,), int64
            indices into the batch of y0.
        y0: (B, n, ...) floating point, where to start.
        rtol: stop when ||fn(x) - x||_2 <= atol + rtol * ||fn(x)||_2, norms per sample.
        atol: see rtol.
        max_steps: the most evaluations of fn, at least 1: for all samples, or int64 (B,).

    Raises:
        ValueError: if max_steps < 1, or rtol or atol is negative.
    """
    limits = torch.as_tensor(max_steps, device=y0.device).expand(len(y0))
    if bool((limits < 1).any()):
        raise ValueError(f"max_steps >= 1 must hold, but got max_steps={max_steps}")
    if rtol < 0 or atol < 0:
        raise ValueError(f"rtol, atol >= 0 must hold, but got rtol={rtol}, atol={atol}")
    iteration = _Iteration(fn, y0, rtol, atol, limits)
    for rows, part in _parts(y0):
        iteration.picard(rows, part)
        iteration.anderson()
    return Solution(
        value=nan_where_unconverged(iteration.x, iteration.converged),
        last_iterate=iteration.x,
        n_steps=iteration.n_steps,
        residual_norm=iteration.residual_norm,
        converged=iteration.converged,
    )


class _Iteration:
    """The state of all samples: the results of those that have left, and the others."""

    def __init__(
        self,
        fn: Callable[[Tensor, Tensor], Tensor],
        y0: Tensor,
        rtol: float,
        atol: float,
        limits: Tensor,
    ) -> None:
        n_samples = len(y0)
        self._norm = _norm_for(y0)
        self.fn, self.rtol, self.atol, self.limits = fn, rtol, atol, limits
        self.x = torch.empty_like(y0)
        self.n_steps = torch.zeros(n_samples, dtype=torch.int64, device=y0.device)
        self.residual_norm = torch.full((n_samples,), torch.inf, dtype=y0.dtype, device=y0.device)
        self.converged = torch.zeros(n_samples, dtype=torch.bool, device=y0.device)
        # Left to Anderson: the samples, their images, and their last two residuals.
        self._slow: list[tuple[Tensor, ...]] = []

    def _examine(
        self, rows: Tensor, n_steps: Tensor, image: Tensor, norm: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(b,) bool each: which samples `rows` go on after a step, and which have converged."""
        finite = norm.isfinite()
        converged = finite & (norm <= self.atol + self.rtol * self._norm(image))
        return finite & ~converged & (n_steps < self.limits[rows]), converged

    def _record(
        self, done: Tensor, rows: Tensor, x: Tensor, norm: Tensor, steps: Tensor, converged: Tensor
    ) -> None:
        """Record the samples of a batch where done (b,) is true."""
        left = done.nonzero().squeeze(1)
        at = rows[left]
        self.x[at], self.residual_norm[at] = x[left], norm[left]
        self.n_steps[at], self.converged[at] = steps[left], converged[left]

    def picard(self, rows: Tensor, x: Tensor) -> None:
        """Iterate the samples `rows` (b,) from x until each is done or known to be slow."""
        norm = x.new_zeros(len(rows))
        steps, converged = torch.zeros_like(rows), torch.zeros_like(rows, dtype=torch.bool)
        active, n_active = torch.ones_like(converged), len(rows)
        everyone = torch.arange(len(rows), device=rows.device)
        # The residual of the step before, and which of its samples are left.
        before, kept = x, everyone
        step = 0
        while n_active > 0:
            step += 1
            image = self.fn(x, rows)
            residual = image - x
            new_norm = self._norm(residual)
            steps = torch.where(active, step, steps)
            going_on, small = self._examine(rows, steps, image, new_norm)
            going_on &= active
            contraction = new_norm / norm
            slow = going_on & (contraction > _SLOW_CONTRACTION) & (contraction < 1)
            if n_active < len(rows):  # those that are done stay as they are
                image, new_norm = _where(active, image, x), torch.where(active, new_norm, norm)
            x, norm = image, new_norm
            converged = torch.where(active, small, converged)
            n_active, n_slow = _counts(going_on, slow)
            active = going_on
            if n_slow > 0:
                self._slow.append(
                    (rows[slow], steps[slow], x[slow], residual[slow], before[kept[slow]])
                )
                active, n_active = going_on & ~slow, n_active - n_slow
            before = residual
            if self._is_to_shrink(n_active, len(rows)):
                self._record(~active, rows, x, norm, steps, converged)
                kept = active.nonzero().squeeze(1)
                rows, x, norm, steps, converged = (
                    batch[kept] for batch in (rows, x, norm, steps, converged)
                )
                active, everyone = active[kept], everyone[: len(rows)]
            else:
                kept = everyone

    def anderson(self) -> None:
        """Iterate the slow samples until every one is done.

        x_next = fn(x) - sum_i gamma_i (change of fn in step i), where gamma minimizes
        ||r - sum_i gamma_i (change of r in step i)||, r = fn(x) - x.
        """
        if not self._slow:
            return
        rows, steps, image, residual, before = (
            torch.cat(parts) for parts in zip(*self._slow, strict=True)
        )
        self._slow = []
        norm, converged = self._norm(residual), torch.zeros_like(rows, dtype=torch.bool)
        active, n_active = torch.ones_like(converged), len(rows)
        # In a Picard step the image moves by the residual.
        history = _History(residual, residual - before)
        while n_active > 0:
            candidate = image - history.combination(residual)
            new_image = self.fn(candidate, rows)
            new_residual = new_image - candidate
            new_norm = self._norm(new_residual)
            # Without a history the step is Picard's own, and stands as it is.
            good = (new_norm <= _ACCEPTED_REDUCTION * norm) | (history.n_entries == 0)
            history.append(new_image - image, new_residual - residual)
            # A step that is taken back leaves the sample at its last image.
            history.clear(~good)
            taken = good & active
            image = _where(taken, new_image, image)
            residual = _where(taken, new_residual, residual)
            norm = torch.where(taken, new_norm, norm)
            steps = steps + active
            going_on, small = self._examine(rows, steps, image, norm)
            converged = torch.where(active, small, converged)
            active = going_on & active
            (n_active,) = _counts(active)
            if self._is_to_shrink(n_active, len(rows)):
                self._record(~active, rows, image, norm, steps, converged)
                kept = active.nonzero().squeeze(1)
                rows, steps, image, residual, norm, converged = (
                    batch[kept] for batch in (rows, steps, image, residual, norm, converged)
                )
                history.select(kept)
                active = active[kept]

    def _is_to_shrink(self, n_active: int, n_samples: int) -> bool:
        """Whether those that are done leave the batch now. To find them CUDA must be waited for:
        there they leave in halves."""
        return n_active < n_samples if self.x.device.type == "cpu" else 2 * n_active <= n_samples


class _History:
    """The last changes of image and residual of b samples, beginning with one.

    Attributes:
        n_entries: int64 (b,).
    """

    def __init__(self, image_change: Tensor, residual_change: Tensor) -> None:
        n_samples, n = len(image_change), image_change[0].numel()
        self.n_entries = torch.zeros(n_samples, dtype=torch.int64, device=image_change.device)
        # (b, m, n). Both scaled so that the residual changes, which shrink by orders of magnitude
        # on the way, have norm 1; zero where there is no entry.
        self._images = image_change.new_zeros(n_samples, _ANDERSON_MEMORY, n)
        self._residuals = self._images.clone()
        self._oldest = 0
        self.append(image_change, residual_change)

    def append(self, image_change: Tensor, residual_change: Tensor) -> None:
        """Add an entry, in the place of the oldest."""
        norm = _norm(residual_change)
        scale = torch.where(norm > 0, 1 / norm, 0).unsqueeze(1)
        self._images[:, self._oldest] = image_change.flatten(1) * scale
        self._residuals[:, self._oldest] = residual_change.flatten(1) * scale
        self._oldest = (self._oldest + 1) % _ANDERSON_MEMORY
        self.n_entries += 1

    def clear(self, samples: Tensor) -> None:
        """Forget the entries where samples (b,) is true."""
        self._images.masked_fill_(samples.view(-1, 1, 1), 0)
        self._residuals.masked_fill_(samples.view(-1, 1, 1), 0)
        self.n_entries.masked_fill_(samples, 0)

    def select(self, samples: Tensor) -> None:
        """Forget all samples but those at some indices, int64."""
        self._images, self._residuals = self._images[samples], self._residuals[samples]
        self.n_entries = self.n_entries[samples]

    def combination(self, residual: Tensor) -> Tensor:
        """sum_i gamma_i (image change i) for the best gamma; zero without a history."""
        gram = torch.bmm(self._residuals, self._residuals.transpose(1, 2)).double()
        gram.diagonal(dim1=1, dim2=2).add_(_RIDGE)
        right = torch.bmm(self._residuals, residual.flatten(1).unsqueeze(2)).double()
        # What cannot be solved gives a candidate that is not finite, and is taken back.
        gamma = torch.linalg.solve_ex(gram, right)[0].to(residual.dtype)
        return torch.bmm(gamma.transpose(1, 2), self._images).view_as(residual)


def _parts(y0: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Parts of y0 (B, ...) of nearly equal size: the indices of the samples, and the samples."""
    n_parts = 1
    if y0.device.type == "cpu":
        n_parts = max(1, min(len(y0), math.ceil(y0.nbytes / _PART_BYTES)))
    rows = torch.arange(len(y0), device=y0.device)
    return zip(rows.tensor_split(n_parts), y0.tensor_split(n_parts), strict=True)


def _norm(x: Tensor) -> Tensor:
    """l2 norm of each sample of x (b, ...)."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=tuple(range(1, x.dim())))
    return norm


def _norm_for(y0: Tensor) -> Callable[[Tensor], Tensor]:
    """The norm for an iteration from y0: the fast one where it is far from under- and overflow."""
    largest = y0.abs().flatten(1).amax(dim=1)
    least = torch.finfo(y0.dtype).tiny ** 0.25
    is_usual = bool(((largest > least) & (largest < 1 / least)).all())
    return _norm if is_usual else scaled_norm


def _counts(*masks: Tensor) -> list[int]:
    """How many entries of each are true. The host waits once."""
    counts: list[int] = torch.stack([mask.sum() for mask in masks]).tolist()
    return counts


def _where(condition: Tensor, x: Tensor, otherwise: Tensor) -> Tensor:
    """x (b, ...) where condition (b,) holds."""
    return torch.where(condition.view(-1, *[1] * (x.dim() - 1)), x, otherwise)


def nan_where_unconverged(x: Tensor, converged: Tensor) -> Tensor:
    """x (B, ...) with the samples where converged (B,) is false replaced by NaN."""
    if bool(converged.all()):
        return x
    return _where(converged, x, torch.full_like(x, torch.nan))
