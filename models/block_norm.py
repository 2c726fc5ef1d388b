"""Bounds of the Lipschitz constant of a bottleneck g = W3 k(W2 k(W1 x)), below the layers' product.

The product of the layers' norms is reached only if the strongest output of each layer is the
strongest input of the next and passes its activation whole. Between two points, an activation k
with slopes in [0, 1] acts as a diagonal matrix Q with entries in [0, 1], of which only
<Q u, T (u - Q u)> >= 0 is used, for a diagonal T > 0. Added with multipliers T1 and T2, as in the
semidefinite program of Fazlyab et al. 2019 (LipSDP), it gives

    |W3 y2|^2 <= |W3 y2|^2 + 2 <y1, T1 (W1 x - y1)> + 2 <y2, T2 (W2 y1 - y2)>,

and the right side is at most rho |x|^2, for all x, y1 and y2, if and only if

    [ 2 T1 - T1 W1 W1^T T1 / rho    -(T2 W2)^T     ]
    [ -T2 W2                        2 T2 - W3^T W3 ]

is positive semidefinite. A Cholesky factorization proves that. So rho and the multipliers may come
from anywhere, and a search for good ones need not be trusted.

Each channel has one multiplier for all pixels. Where the map is small, W1 and W3 are the dense
operators. Elsewhere such multipliers commute with the Fourier transform on the torus of
`convolution_norm`, where the zeros around the map are entries of Q that are 0: the program over all
pixels becomes one small matrix at each frequency.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from models.convolution_norm import dense_operators
from models.gram_symbols import (
    SHIFTS,
    GramSymbols,
    gram_rounding,
    largest_eigenvalue,
    used_taps,
)
from models.power_iteration import adjoint_kernel

# The multipliers |W2|^2 |W3|^2 and |W3|^2 give at most the product. These fractions of them are
# better on nearly all blocks of trained networks.
_FRACTIONS = (2 / 3, 0.9)
# Relative raises of rho above its estimate, tried in turn until the proof succeeds.
_RAISES = (1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-4)
# The search (Rprop, Riedmiller and Braun 1993): steps, the first step of a multiplier's logarithm,
# and the step's factors where the sign of the slope stays and where it changes.
_N_STEPS = 8
_FIRST_STEP, _GROWTH, _SHRINKAGE = 0.15, 1.3, 0.5
# The search minimizes the sum of the 2^4-th powers of all eigenvalues, which is differentiable
# where the largest is not the only one.
_N_SQUARINGS = 4
# A dense operator with at most this many rows costs about as much as all frequencies do.
_DENSE_ROWS = 256


def bottleneck_upper_bounds(
    first: Tensor, second: Tensor, third: Tensor, size: tuple[int, int], *, search: bool = False
) -> Tensor:
    """Proven upper bounds of Lip(W3 k(W2 k(W1 .))) for L blocks of one shape, (L,), float64.

    They hold, l2 to l2, for every activation k that acts entrywise with slopes in [0, 1] and for
    any biases. Infinite where none could be proven.

    Args:
        first: float64 (L, m, c_in, k_h, k_w), m <= c_in; zero padding, stride 1, odd kernel;
            finite, as the others, with their largest entries near 1.
        second: (L, m, m), a 1x1 convolution.
        third: (L, c_out, m, k_h, k_w), m <= c_out.
        size: (H, W) of the maps.
        search: look for multipliers, and use small dense operators: slower, smaller bounds.
    """
    program = _Program.on_the_torus(first, second, third, size)
    multipliers = program.usual_multipliers(second)
    upper = program.upper_bounds(multipliers)
    if search:
        if second.shape[-1] * math.prod(size) <= _DENSE_ROWS:
            program = _Program.dense(first, second, third, size)
        upper = torch.minimum(upper, program.upper_bounds(program.better(multipliers)))
    is_zero = torch.stack([(w == 0).flatten(1).all(dim=1) for w in (first, second, third)])
    return torch.where(is_zero.any(dim=0), 0.0, upper)


@dataclass(frozen=True)
class _Program:
    """The matrices of L blocks, each at F frequencies; F is 1 for dense operators.

    Attributes:
        gram_1, gram_3: W1 W1^H and W3^H W3, (L, F, n, n).
        second: W2, (L, n, n).
        channel: int64 (n,), which multiplier a row has.
        rounding_1, rounding_3: (L,) bounds of the rounding of gram_1 and gram_3, l2 to l2.
    """

    gram_1: Tensor
    gram_3: Tensor
    second: Tensor
    channel: Tensor
    rounding_1: Tensor
    rounding_3: Tensor

    @classmethod
    def on_the_torus(
        cls, first: Tensor, second: Tensor, third: Tensor, size: tuple[int, int]
    ) -> "_Program":
        first, third = used_taps(first, size), adjoint_kernel(used_taps(third, size))
        # (W3^H W3)(f) is the Gram symbol of the adjoint of W3. Both on one grid.
        symbols = GramSymbols(first, size), GramSymbols(third, size)
        frequencies, _ = symbols[0].frequencies(SHIFTS[0])
        gram_1, gram_3 = (s.gram(frequencies) for s in symbols)
        return cls(
            gram_1,
            gram_3,
            second.to(gram_1.dtype),
            torch.arange(second.shape[-1], device=second.device),
            gram_rounding(first),
            gram_rounding(third),
        )

    @classmethod
    def dense(
        cls, first: Tensor, second: Tensor, third: Tensor, size: tuple[int, int]
    ) -> "_Program":
        third = adjoint_kernel(third)
        matrix_1, matrix_3 = (dense_operators(weight, size) for weight in (first, third))
        n_pixels = math.prod(size)
        pixels = torch.eye(n_pixels, dtype=second.dtype, device=second.device)
        channel = torch.arange(second.shape[-1], device=second.device)
        return cls(
            (matrix_1 @ matrix_1.mT).unsqueeze(1),
            (matrix_3 @ matrix_3.mT).unsqueeze(1),
            torch.stack([torch.kron(matrix, pixels) for matrix in second]),
            channel.repeat_interleave(n_pixels),
            gram_rounding(first),
            gram_rounding(third),
        )

    def usual_multipliers(self, second: Tensor) -> Tensor:
        """(L, 2, m): the multipliers of T1 and of T2."""
        norm_2 = torch.linalg.matrix_norm(second, ord=2)
        squared_3 = largest_eigenvalue(self.gram_3).amax(dim=1)
        # A layer that is zero: any positive multiplier serves.
        squared_3 = torch.where(squared_3 > 0, squared_3, 1.0)
        squared_2 = torch.where(norm_2 > 0, norm_2.square(), 1.0)
        of_a_layer = torch.stack(
            [_FRACTIONS[0] * squared_2 * squared_3, _FRACTIONS[1] * squared_3], 1
        )
        return of_a_layer.unsqueeze(2).expand(-1, -1, second.shape[-1])

    def upper_bounds(self, multipliers: Tensor) -> Tensor:
        """(L,) proven bounds with multipliers (L, 2, m); infinite where there is no proof."""
        form, is_possible = self._form(multipliers)
        form = torch.where(is_possible.view(-1, 1, 1, 1), form, 0)
        squared = largest_eigenvalue(form).amax(dim=1)
        upper = torch.full_like(squared, math.inf)
        for raise_by in _RAISES:
            at = (is_possible & (squared > 0) & upper.isinf()).nonzero().squeeze(1)
            if at.numel() == 0:
                break
            rho = squared[at] * (1 + raise_by)
            proven = self._proves(multipliers, rho, at)
            # The root is rounded too.
            upper[at[proven]] = rho[proven].sqrt() * (1 + 2**-50)
        return upper

    def _form(self, multipliers: Tensor) -> tuple[Tensor, Tensor]:
        """The Hermitian matrix (L, F, n, n) whose largest eigenvalue is the least rho that the
        multipliers allow, up to rounding, and (L,) whether they allow any."""
        t1, t2 = multipliers[..., self.channel].unbind(1)
        dtype, shape = self.gram_1.dtype, self.gram_3.shape
        coupling = (t2.unsqueeze(2) * self.second).unsqueeze(1).expand(shape)
        root_3, failed_3 = torch.linalg.cholesky_ex(_diagonal(2 * t2, dtype) - self.gram_3)
        half = torch.linalg.solve_triangular(root_3, coupling, upper=False)
        root, failed = torch.linalg.cholesky_ex(_diagonal(2 * t1, dtype) - half.mH @ half)
        form = t1[:, None, :, None] * self.gram_1 * t1[:, None, None, :]
        form = torch.linalg.solve_triangular(root, form, upper=False)
        form = torch.linalg.solve_triangular(root, form.mH, upper=False)
        return form, ~((failed_3 > 0) | (failed > 0)).any(dim=1)

    def _proves(self, multipliers: Tensor, rho: Tensor, at: Tensor) -> Tensor:
        """bool (l,): whether the matrix of the module's docstring is proven to be positive
        semidefinite, for the blocks `at` (l,) and rho (l,).

        It is scaled so that its diagonal is at most 1. Its smallest eigenvalue may then be off by
        the rounding of its entries and by that of the factorization (Higham, Accuracy and Stability
        of Numerical Algorithms, theorem 10.3, as in `convolution_norm`).
        """
        t1, t2 = multipliers[at][..., self.channel].unbind(1)
        d1, d2 = t1.sqrt(), t2.sqrt()
        two_rho = 2 * rho.view(-1, 1, 1, 1)
        corner_1 = d1[:, None, :, None] * self.gram_1[at] * d1[:, None, None, :] / two_rho
        corner_3 = self.gram_3[at] / (2 * d2[:, None, :, None] * d2[:, None, None, :])
        coupling = d2.unsqueeze(2) * self.second[at] / (2 * d1.unsqueeze(1))
        coupling = coupling.unsqueeze(1).expand_as(corner_1)
        n = 2 * corner_1.shape[-1]
        matrix = torch.cat(
            [torch.cat([-corner_1, -coupling.mH], 3), torch.cat([-coupling, -corner_3], 3)], 2
        )
        size = torch.linalg.matrix_norm(matrix).amax(dim=1)
        off = self.rounding_1[at] * t1.amax(dim=1) / (2 * rho)
        off = off + self.rounding_3[at] / (2 * t2.amin(dim=1))
        off = off + 2**-53 * (10 * size + n + 4 * n * (n + 1))
        # Twice that covers the rounding of this computation.
        matrix.diagonal(dim1=-2, dim2=-1).add_((1 - 2 * off).view(-1, 1, 1))
        factored = torch.linalg.cholesky_ex(matrix).info == 0
        proven: Tensor = factored.all(dim=1) & off.isfinite()
        return proven

    def better(self, multipliers: Tensor) -> Tensor:
        """Multipliers (L, 2, m) that usually give smaller bounds, by a search from given ones."""
        scale = multipliers.log()
        moved = torch.zeros_like(scale)
        step = torch.full_like(scale, _FIRST_STEP)
        slope = torch.zeros_like(scale)
        best, best_moved = scale.new_full((len(scale),), math.inf), moved
        for _ in range(_N_STEPS):
            value, new_slope = self._value_and_slope(scale, moved)
            is_possible = value.isfinite().view(-1, 1, 1)
            smaller = value < best
            best = torch.where(smaller, value, best)
            best_moved = torch.where(smaller.view(-1, 1, 1), moved, best_moved)
            turn = slope * new_slope
            factor = torch.where(turn > 0, _GROWTH, torch.where(turn < 0, _SHRINKAGE, 1.0))
            # Where there is no bound, return to the best multipliers and go on with half the step.
            step = step * torch.where(is_possible, factor, _SHRINKAGE)
            slope = torch.where(is_possible, new_slope, slope)
            moved = torch.where(is_possible, moved, best_moved) - slope.sign() * step
        return (scale + best_moved).exp()

    def _value_and_slope(self, scale: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
        """The logarithm (L,) of the power sum of all eigenvalues at the multipliers
        exp(scale + moved), infinite where there is no bound; and its gradient by `moved`."""
        with torch.enable_grad():
            moved = moved.detach().requires_grad_()
            form, is_possible = self._form((scale + moved).exp())
            form = torch.where(is_possible.view(-1, 1, 1, 1), form, 0)
            trace = _trace(form)
            power = form / torch.where(trace > 0, trace, 1.0).view(-1, 1, 1, 1)
            for _ in range(_N_SQUARINGS):
                power = power @ power
            value = trace.log() + _trace(power).log() / 2**_N_SQUARINGS
            is_possible = is_possible & value.isfinite()
            total = torch.where(is_possible, value, 0.0).sum()
            (slope,) = torch.autograd.grad(total, moved)
        value = torch.where(is_possible, value.detach(), math.inf)
        return value, slope.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def _diagonal(values: Tensor, dtype: torch.dtype) -> Tensor:
    """(L, n) -> diagonal matrices (L, 1, n, n)."""
    return torch.diag_embed(values).to(dtype).unsqueeze(1)


def _trace(form: Tensor) -> Tensor:
    """(L, F, n, n) Hermitian -> (L,) the sums of the real traces over F."""
    trace: Tensor = form.diagonal(dim1=-2, dim2=-1).real.sum(dim=(1, 2))
    return trace
