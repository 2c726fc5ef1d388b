"""Fixed-point iteration with a stop per sample. The inverse of a residual block x + g(x) = y is the
fixed point of x -> y - g(x) (Behrmann et al., Theorem 1 and equation 4)."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.arguments import check_kind, count, described, number
from models.floats.norm import scaled_norm
from models.inverse.anderson import History, sample_norm

# Samples whose steps shrink more slowly than by this factor go on with Anderson acceleration.
_SLOW_CONTRACTION = 0.5
# An accelerated step is accepted if the residual becomes at most this many times as large: the
# first number in general, the second where steps may grow.
_ACCEPTED_REDUCTION = 0.99
_ACCEPTED_GROWTH = 2.0
# Bytes of the samples that are iterated together on a CPU. A step reads and writes five times as
# much, and is several times faster where that fits into the caches.
_PART_BYTES = 5 * 2**19


@dataclass(frozen=True)
class Solution:
    """The result of a fixed-point iteration, per sample; check `converged` before using `value`.

    Vectors have shape (B,). The inverse of a network solves one equation per block and stacks them,
    (T, B), in the order of the forward pass; `value` is NaN where any block did not converge.

    Attributes:
        value: (B, ...) the fixed point of each converged sample, NaN for the others.
        last_iterate: (B, ...) the last iterate of each sample, converged or not.
        n_steps: int64, evaluations of the map.
        residual_norm: l2 norm of the last step, ||fn(x) - x||. Measured, and no bound of the error:
            with Lipschitz constant L < 1 the error of `value` is at most L / (1 - L) times this, in
            exact arithmetic.
        converged: bool, the last step was at most atol + rtol * ||fn(x)||. If false: raise
            max_steps, loosen rtol, or certify the map: without a contraction it may never converge.
        error_bound: float64, proven bound of ||last_iterate - x|| for the exact solution x,
            rounding included, converged or not; see `IResNet.inverse`. None without a certificate.
        image_error_bound: (B,), float64, the same bound with x the image whose features were
            inverted; their rounding counts too. See `IResNet.inverse`. None without a certificate
            and the image.
    """

    value: Tensor = field(repr=False)  # a printed batch of images says nothing
    last_iterate: Tensor = field(repr=False)
    n_steps: Tensor
    residual_norm: Tensor
    converged: Tensor
    error_bound: Tensor | None = None
    image_error_bound: Tensor | None = None


def predicted_steps(lipschitz: float, rtol: float, first_error: float) -> int | None:
    """A number of evaluations after which Picard iteration is proven to have met the stopping rule
    of `fixed_point` with atol = 0. If it takes that many, its error is at most rtol ||x||, for the
    fixed point x; if it stops earlier, the error may be larger, by up to L / (1 - L).

    With e = ||x_0 - x|| / ||x||, the k-th step has at most the norm L^(k-1) (1 + L) e ||x||, and
    its result at least the norm (1 - L^k e) ||x|| (Banach's theorem). So the smallest k >= 1 with
    L^(k-1) e (1 + L + rtol L) <= rtol suffices; it is raised a little, against rounding. The
    iteration is assumed to be exact. None where nothing is proven.

    Args:
        lipschitz: L, a proven bound of the map's Lipschitz constant, >= 0.
        rtol: >= 0.
        first_error: e, >= 0.

    Raises:
        TypeError: if one of them is no number.
        ValueError: if one of them is negative.

    >>> models.predicted_steps(0.5, rtol=1e-6, first_error=1.0)
    22
    """
    for name, value in (("lipschitz", lipschitz), ("rtol", rtol), ("first_error", first_error)):
        if number(name, value) < 0:
            raise ValueError(f"{name} >= 0 must hold, but got {name}={value}")
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
    expanding: bool = False,
) -> Solution:
    """Solve x = fn(x) for each sample by Picard iteration x <- fn(x) from y0 (paper, equation 4).

    Samples that converge slowly go on with Anderson acceleration (see `inverse.anderson`). An
    accelerated step that does not reduce the residual by one percent is replaced by a Picard step,
    which reduces it by the Lipschitz constant. So every contraction converges. Where steps grow the
    map is no contraction, and Picard iteration diverges, as in the paper. With `expanding`, such
    samples are accelerated too. That they converge is not proven, but none of the 25,600 points of
    `tests.benchmarks.expanding` failed to.

    A sample leaves the batch once its own step is small enough, so the cost is the sum of the steps
    that the samples need. A sample whose step is not finite leaves unconverged.

    Args:
        fn: fn(x, rows) evaluates the map at x (b, ...), for the samples `rows`, int64 (b,), of y0.
        y0: (B, n, ...) floating point, where to start.
        rtol, atol: stop when ||fn(x) - x||_2 <= atol + rtol * ||fn(x)||_2, norms per sample.
        max_steps: the most evaluations of fn, at least 1: for all samples, or int64 (B,).
        expanding: whether fn, though perhaps no contraction, has exactly one fixed point.

    Raises:
        TypeError: if y0 is no Tensor, or rtol, atol or max_steps no number.
        ValueError: if y0 is not of a floating-point dtype or has no axis beside that of the
            samples, max_steps < 1, or rtol or atol is negative or NaN.

    >>> models.fixed_point(lambda x, rows: x / 2 + 1, torch.zeros(1, 1)).value
    tensor([[2.0000]])
    """
    check_kind("y0", y0, Tensor)
    if y0.dim() < 2 or not y0.is_floating_point():
        raise ValueError(f"y0 must be floating point, (B, n, ...), but got {described(y0)}")
    limits = _limits(max_steps, y0)
    if not (number("rtol", rtol) >= 0 and number("atol", atol) >= 0):
        raise ValueError(f"rtol, atol >= 0 must hold, but got rtol={rtol}, atol={atol}")
    iteration = _Iteration(fn, y0, rtol, atol, limits, expanding)
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


def _limits(max_steps: int | Tensor, y0: Tensor) -> Tensor:
    """int64 (B,): the most evaluations for each sample of y0."""
    if not isinstance(max_steps, Tensor):
        return torch.full((len(y0),), count("max_steps", max_steps, 1), device=y0.device)
    is_whole = not (max_steps.is_floating_point() or max_steps.dtype == torch.bool)
    if not is_whole or max_steps.shape not in ((), (len(y0),)):
        raise ValueError(
            f"max_steps must be a whole number, or int64 of shape ({len(y0)},), but got "
            f"{described(max_steps)}"
        )
    if bool((max_steps < 1).any()):
        raise ValueError(f"max_steps >= 1 must hold, but got max_steps={max_steps}")
    return max_steps.to(y0.device).expand(len(y0))


class _Iteration:
    """Results of the samples that have left the batch, and the state of the others."""

    def __init__(
        self,
        fn: Callable[[Tensor, Tensor], Tensor],
        y0: Tensor,
        rtol: float,
        atol: float,
        limits: Tensor,
        expanding: bool,
    ) -> None:
        n_samples = len(y0)
        self._norm = _norm_for(y0)
        self.fn, self.rtol, self.atol, self.limits = fn, rtol, atol, limits
        self.most_growth = math.inf if expanding else 1.0
        self.accepted = _ACCEPTED_GROWTH if expanding else _ACCEPTED_REDUCTION
        self.x = torch.empty_like(y0)
        self.n_steps = torch.zeros(n_samples, dtype=torch.int64, device=y0.device)
        self.residual_norm = torch.full((n_samples,), torch.inf, dtype=y0.dtype, device=y0.device)
        self.converged = torch.zeros(n_samples, dtype=torch.bool, device=y0.device)
        # Left to Anderson: the samples, their images, and their last two residuals.
        self._slow: list[tuple[Tensor, ...]] = []

    def _examine(
        self, rows: Tensor, n_steps: Tensor, image: Tensor, norm: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns (going_on, converged), bool (b,): which samples go on, which have converged."""
        finite = norm.isfinite()
        converged = finite & (norm <= self.atol + self.rtol * self._norm(image))
        return finite & ~converged & (n_steps < self.limits[rows]), converged

    def _record(
        self, done: Tensor, rows: Tensor, x: Tensor, norm: Tensor, steps: Tensor, converged: Tensor
    ) -> None:
        """Store the results of those samples of a batch where done (b,) is true."""
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
        # The residual of the step before, and which of its samples remain.
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
            # Infinite in the first step.
            factor = new_norm / norm
            slow = going_on & (factor > _SLOW_CONTRACTION) & (factor < self.most_growth)
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
        """Iterate the slow samples until every one is done: x_next = fn(x) - sum_i gamma_i (change
        of fn in step i), where gamma minimizes ||r - sum_i gamma_i (change of r in step i)||,
        r = fn(x) - x."""
        if not self._slow:
            return
        rows, steps, image, residual, before = (
            torch.cat(parts) for parts in zip(*self._slow, strict=True)
        )
        self._slow = []
        norm, converged = self._norm(residual), torch.zeros_like(rows, dtype=torch.bool)
        active, n_active = torch.ones_like(converged), len(rows)
        # In a Picard step the image moves by the residual.
        history = History(residual, residual - before)
        while n_active > 0:
            candidate = image - history.combination(residual)
            new_image = self.fn(candidate, rows)
            new_residual = new_image - candidate
            new_norm = self._norm(new_residual)
            # Without a history it is a Picard step, and is accepted.
            good = (new_norm <= self.accepted * norm) | (history.n_entries == 0)
            history.append(new_image - image, new_residual - residual)
            # A rejected step leaves the sample at its last image.
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
        """Whether the samples that are done leave the batch now. On CUDA, where finding them means
        waiting for the device, they leave once they are half of the batch."""
        return n_active < n_samples if self.x.device.type == "cpu" else 2 * n_active <= n_samples


def _parts(y0: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs (indices, samples) that divide y0 (B, ...) into parts of nearly equal size."""
    n_parts = 1
    if y0.device.type == "cpu":
        n_parts = max(1, min(len(y0), math.ceil(y0.nbytes / _PART_BYTES)))
    rows = torch.arange(len(y0), device=y0.device)
    return zip(rows.tensor_split(n_parts), y0.tensor_split(n_parts), strict=True)


def _norm_for(y0: Tensor) -> Callable[[Tensor], Tensor]:
    """The norm for an iteration from y0: the fast one if y0 is far from under- and overflow."""
    largest = y0.abs().flatten(1).amax(dim=1)
    least = torch.finfo(y0.dtype).tiny ** 0.25
    is_usual = bool(((largest > least) & (largest < 1 / least)).all())
    return sample_norm if is_usual else scaled_norm


def _counts(*masks: Tensor) -> list[int]:
    """The number of true entries of each mask; the host waits for the device only once."""
    counts: list[int] = torch.stack([mask.sum() for mask in masks]).tolist()
    return counts


def _where(condition: Tensor, x: Tensor, otherwise: Tensor) -> Tensor:
    """x (b, ...) for samples where condition (b,) holds, `otherwise` for the others."""
    return torch.where(condition.view(-1, *[1] * (x.dim() - 1)), x, otherwise)


def nan_where_unconverged(x: Tensor, converged: Tensor) -> Tensor:
    """x (B, ...) with the samples where converged (B,) is false replaced by NaN."""
    if bool(converged.all()):
        return x
    return _where(converged, x, torch.full_like(x, torch.nan))
