"""Proven bounds alpha |dx| <= |dx + dg| <= beta |dx| of a bottleneck block x + g(x), nearer to each
other than 1 - L and 1 + L, for g = W3 k(W2 k(W1 k0(x))).

Between two points, an activation with slopes in [0, 1] acts as a diagonal matrix Q with entries in
[0, 1], of which only <Q u, T (u - Q u)> >= 0 is used, for a diagonal T > 0: the semidefinite
program of Fazlyab et al. 2019 (LipSDP), as in `block_norm`, with the identity beside W3. k0 is the
activation ahead of the first convolution; the first block of a network has none. With y0 = Q0 x,
y1 = Q1 W1 y0 and y2 = Q2 W2 y1, the smallest rho, or the largest, is sought with

    |x + W3 y2|^2 <= rho |x|^2     (forward, rho = beta^2)
    |x + W3 y2|^2 >= rho |x|^2     (inverse, rho = alpha^2)

for all x, y0, y1 and y2, once the multiples 2 <y, T (u - y)> are added (or subtracted). Eliminated
are x and y0, on which the form is diagonal: with k = |rho - 1| and T0 = k tau, tau in (0, 2), there
remains on (y1, y2), divided by its diagonal,

    Z = I - coupling - q B2 - B1 / k,     coupling the terms of W2, B2 that of W3^T W3,
    B1 = [T1 W1 / tau; +-W3^T] diag(tau / (2 - tau)) [.]^T + that of W3^T W3, if there is a k0,
    B1 = [T1 W1; +-W3^T] [.]^T                                          , if there is none,

with + and q = 1 forward, - and q = -1 for the inverse. A Cholesky factorization that succeeds
proves Z positive semidefinite. So k and the multipliers may come from anywhere, and a search for
good ones need not be trusted.

Where the map is small, W1 and W3 are the dense operators, and each pixel of a channel may have its
own multipliers. Elsewhere a channel has the same for all, and the operators commute with the
Fourier transform on the torus of `convolution_norm`, where the zeros around the map are entries of
Q that are 0: the program over all pixels becomes one small matrix at each frequency. What the last
convolution's cut at the map's edge takes away makes the left side smaller, which only helps
forward. For the inverse, since x is zero off the map, |x + cut(z)|^2 >= |x|^2 + 2 <x, z> is used
instead, which is q = 0.
"""

import math
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from models.convolution_norm import dense_operators
from models.gram_symbols import SHIFTS, GramSymbols, largest_eigenvalue, used_taps
from models.power_iteration import adjoint_kernel

# The multipliers |W2|^2 |W3|^2 and |W3|^2 give at most the product of the layers' norms. These
# fractions of them are better on nearly all blocks of trained networks.
_FRACTIONS = (2 / 3, 0.9)
# Doublings of the multipliers, tried until they allow a k.
_N_DOUBLINGS = 6
# Relative raises of k above its estimate, tried in turn until the proof succeeds. After the one of
# this index, estimates that were made at the same frequencies are computed instead.
_RAISES = (1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-4)
_COMPUTED_AFTER = 3
# The search (Rprop, Riedmiller and Braun 1993): steps, the first step of a multiplier's logarithm,
# and the step's factors where the sign of the slope stays and where it changes.
_N_STEPS = 14
_FIRST_STEP, _GROWTH, _SHRINKAGE = 0.3, 1.3, 0.4
# Steps in which T0 moves, which costs more than the step itself.
_STEPS_OF_0 = (1, 3, 6)
# How far above k log det Z is differentiated, at first and at last. Close to k its slope is that of
# k itself, which has kinks.
_ROOMS = (5e-3, 5e-4)
# Steps of the power iteration that estimates k, at first and at last, and in between. Near k, one
# eigenvalue is far above the others.
_N_POWER_STEPS = (8, 2)
# Multipliers are sought on the torus of a map of at most so many rows and columns.
_SIDE = 5
# Bound of tau / (2 - tau) and of its inverse.
_MOST_X = 2.0**20
# A dense operator with at most this many rows costs about as much as all frequencies do.
_DENSE_ROWS = 256


def two_sided_bounds(
    first: Tensor,
    second: Tensor,
    third: Tensor,
    scale: Tensor,
    size: tuple[int, int],
    *,
    is_activated: bool,
    search: bool = False,
) -> Tensor:
    """Proven (beta, alpha) of L blocks of one shape, float64 (L, 2), l2 to l2.

    They hold for every activation that acts entrywise with slopes in [0, 1] and for any biases.
    Infinite and 0 where none could be proven.

    Args:
        first: float64 (L, m, c, k_h, k_w), m <= c; zero padding, stride 1, odd kernel; finite, as
            the others, with their largest entries near 1.
        second: (L, m, m), a 1x1 convolution.
        third: (L, c, m, k_h, k_w).
        scale: (L,) a factor > 0 of g.
        size: (H, W) of the maps.
        is_activated: whether there is an activation ahead of the first convolution.
        search: look for multipliers, and use small dense operators: slower, better bounds.
    """
    height, width = size
    is_dense = search and second.shape[-1] * height * width <= _DENSE_ROWS
    if is_dense and len(scale) > 1:
        # One after another, so that its matrices stay in the cache.
        parts = zip(*(part.split(1) for part in (first, second, third, scale)), strict=True)
        alone = partial(two_sided_bounds, size=size, is_activated=is_activated, search=search)
        return torch.cat([alone(*of_block) for of_block in parts])
    is_zero = torch.stack([(w == 0).flatten(1).all(dim=1) for w in (first, second, third)])
    blocks = _Blocks(first, second, third, scale, is_activated)
    small = whole = _Program.on_the_torus(blocks, (min(height, _SIDE), min(width, _SIDE)))
    multipliers, k = small.start()
    if is_dense:
        # What the torus of the map proves is true of its dense operators.
        exact = _Program.on_the_torus(blocks, size) if max(size) > _SIDE else small
        multipliers, k = exact.start()
        multipliers = multipliers.of_pixels(height * width)
        small = whole = _Program.dense(blocks, size)
    elif max(size) > _SIDE:
        whole = _Program.on_the_torus(blocks, size)
    if search:
        multipliers, k = small.better(multipliers, k)
    forward, inverse = whole.proven(multipliers, k).chunk(2)
    bounds = torch.stack([(1 + forward).sqrt(), (1 - inverse).clamp(min=0).sqrt()], dim=1)
    # The roots are rounded too.
    bounds = bounds * bounds.new_tensor([1 + 2**-50, 1 - 2**-50])
    return torch.where(is_zero.any(dim=0).unsqueeze(1), 1.0, bounds)


@dataclass(frozen=True)
class _Blocks:
    """The arguments of `two_sided_bounds`."""

    first: Tensor
    second: Tensor
    third: Tensor
    scale: Tensor
    is_activated: bool


@dataclass(frozen=True)
class _Multipliers:
    """Of L blocks, the logarithms of T1 and T2 (L, 2 n), and of x = tau / (2 - tau) (L, c), which
    only matters where there is a T0."""

    of_rows: Tensor
    of_columns: Tensor

    def of_pixels(self, n_pixels: int) -> "_Multipliers":
        """For each pixel those of its channel."""
        parts = (
            part.repeat_interleave(n_pixels, dim=1) for part in (self.of_rows, self.of_columns)
        )
        return _Multipliers(*parts)

    def where(self, chosen: Tensor, others: "_Multipliers") -> "_Multipliers":
        """These for the blocks that are chosen, bool (L,), the others elsewhere."""
        chosen = chosen.unsqueeze(1)
        return _Multipliers(
            torch.where(chosen, self.of_rows, others.of_rows),
            torch.where(chosen, self.of_columns, others.of_columns),
        )

    @property
    def column_factors(self) -> Tensor:
        """(L, 2, c): of the columns in B1, for W1's rows and for W3^H's."""
        half = (0.5 * self.of_columns).exp()
        return torch.stack([(half + 1 / half) / 2, half], dim=1)


@dataclass(frozen=True)
class _Form:
    """Z = fixed - slope / k for L blocks, (L, F, 2 n, 2 n) each; of `fixed` only the lower triangle
    is set. by_row (L, 2 n) are the factors of the rows of W1 and of W3^H in it."""

    fixed: Tensor
    slope: Tensor
    by_row: Tensor

    def k(self) -> Tensor:
        """(L,) the smallest k > 0 at which Z is positive semidefinite, up to rounding; infinite
        where there is none."""
        k = _smallest_k(self.fixed, self.slope).amax(dim=1)
        return torch.where(k > 0, k, math.inf)

    def inverse(
        self, k: Tensor, vector: Tensor, n_steps: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of Z at k: (its inverse; bool (L,): whether it is positive definite, and then an estimate
        (L,) of the smallest such k, from below; the vector of the power iteration)."""
        root, failed = torch.linalg.cholesky_ex(self.fixed - self.slope / k.view(-1, 1, 1, 1))
        inverse = torch.cholesky_inverse(root)
        # Z^-1 slope has the eigenvalues v / (1 - v / k), v those of the pencil. Its powers stay far
        # below overflow.
        before, image = vector, self.slope @ vector
        for _ in range(n_steps):
            vector, before = inverse @ image, image
            image = self.slope @ vector
        # Rayleigh quotients of slope and Z.
        largest = (_inner(vector, image) / _inner(vector, before)).nan_to_num(nan=0.0).amax(dim=1)
        vector = vector / torch.linalg.vector_norm(vector, dim=2, keepdim=True)
        vector = vector.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        is_possible = (failed == 0).all(dim=1) & largest.isfinite()
        return inverse, is_possible, largest / (1 + largest / k), vector


@dataclass(frozen=True)
class _Program:
    """The matrices of L programs, each at F frequencies; F is 1 for dense operators. The first half
    is forward, the second of the same blocks' inverses.

    Attributes:
        rows: W1 and W3^H, one over the other, (L, F, 2 n, c).
        adjoint: rows^H.
        gram: rows @ rows^H.
        second: W2, (L, 1, n, n).
        scale: (L,), a factor of W3.
        sign: (L,), 1 forward and -1 for the inverse.
        magnitude: (L, 2 n, c), at least the absolute values of the rows' entries at every
            frequency, and of what these are sums of.
        rounding: a row's product with a row is off by at most so much of that of their magnitudes.
        is_activated: whether there is a k0.
        is_whole: whether the rows are those of the map itself, not of a torus around it.
    """

    rows: Tensor
    adjoint: Tensor
    gram: Tensor
    second: Tensor
    scale: Tensor
    sign: Tensor
    magnitude: Tensor
    rounding: float
    is_activated: bool
    is_whole: bool

    @classmethod
    def on_the_torus(cls, blocks: _Blocks, size: tuple[int, int]) -> "_Program":
        first, third = used_taps(blocks.first, size), used_taps(blocks.third, size)
        # W3^H has the symbol of the adjoint. Both on one grid.
        weight = torch.cat([first, adjoint_kernel(third)], dim=1)
        n_columns, taps = weight.shape[2], weight.shape[3:]
        frequencies, _ = GramSymbols(weight[:, :1], size).frequencies(SHIFTS[0])
        reaches = [torch.arange(-(k // 2), k // 2 + 1, dtype=torch.float64) for k in taps]
        angle = frequencies @ torch.cartesian_prod(*reaches).to(frequencies.device).T
        wave = torch.polar(torch.ones_like(angle), angle)
        rows = torch.einsum("lict,ft->lfic", weight.flatten(3).to(wave.dtype), wave)
        # Of the angles, each at most 2 pi times k_h + k_w, six operations are off.
        n_terms = math.prod(taps) + 12 * math.pi * sum(taps) + 10
        magnitude, rounding = weight.abs().sum(dim=(3, 4)), _rounding(n_columns + 2 * n_terms)
        return cls._of(blocks, rows, blocks.second.to(rows.dtype), magnitude, rounding, False)

    @classmethod
    def dense(cls, blocks: _Blocks, size: tuple[int, int]) -> "_Program":
        weight = torch.cat([blocks.first, adjoint_kernel(blocks.third)], dim=1)
        rows = dense_operators(weight, size)
        pixels = torch.eye(math.prod(size), dtype=rows.dtype, device=rows.device)
        second = torch.stack([torch.kron(matrix, pixels) for matrix in blocks.second])
        rounding = _rounding(rows.shape[-1])
        return cls._of(blocks, rows.unsqueeze(1), second, rows.abs(), rounding, True)

    @classmethod
    def _of(
        cls,
        blocks: _Blocks,
        rows: Tensor,
        second: Tensor,
        magnitude: Tensor,
        rounding: float,
        is_whole: bool,
    ) -> "_Program":
        adjoint = rows.mH.resolve_conj().contiguous()
        one = torch.ones_like(blocks.scale)
        return cls(
            rows=_twice(rows),
            adjoint=_twice(adjoint),
            gram=_twice(rows @ adjoint),
            second=_twice(second).unsqueeze(1),
            scale=_twice(blocks.scale),
            sign=torch.cat([one, -one]),
            magnitude=_twice(magnitude),
            rounding=rounding,
            is_activated=blocks.is_activated,
            is_whole=is_whole,
        )

    def start(self) -> tuple[_Multipliers, Tensor]:
        """(multipliers by layer, the k (L,) that they give, up to rounding)."""
        n, c = self.second.shape[-1], self.rows.shape[-1]
        corners = self.gram[..., :n, :n], self.gram[..., n:, n:]
        squared_1, squared_3 = (largest_eigenvalue(corner).amax(dim=1) for corner in corners)
        squared_2 = torch.linalg.matrix_norm(self.second, ord=2).amax(dim=1).square()
        # A layer that is zero: any positive multiplier serves.
        squared_1, squared_2, squared_3 = (
            torch.where(s > 0, s, 1.0) for s in (squared_1, squared_2, squared_3)
        )
        squared_3 = self.scale.square() * squared_3
        # Near k of products with that norm.
        squared_3 = squared_3 * (1 + 1 / (squared_1 * squared_2 * squared_3).sqrt())
        of_layers = [_FRACTIONS[0] * squared_2 * squared_3, _FRACTIONS[1] * squared_3]
        of_rows = torch.cat([of_one.log().unsqueeze(1).expand(-1, n) for of_one in of_layers], 1)
        multipliers = _Multipliers(of_rows, of_rows.new_zeros(len(of_rows), c))
        k = self._form(multipliers, self.gram).k()
        for _ in range(_N_DOUBLINGS):
            if bool(k.isfinite().all()):
                break
            more = replace(multipliers, of_rows=multipliers.of_rows + math.log(2))
            multipliers = multipliers.where(k.isfinite(), more)
            k = self._form(multipliers, self.gram).k()
        return multipliers, k

    def better(self, multipliers: _Multipliers, k: Tensor) -> tuple[_Multipliers, Tensor]:
        """Multipliers that usually give smaller k, by a search from given ones that give `k` or
        less, and estimates of these smaller k."""
        best, best_near = multipliers, k * (1 + _ROOMS[0])
        step = torch.full_like(multipliers.of_rows, _FIRST_STEP)
        slope = torch.zeros_like(multipliers.of_rows)
        gram = best_gram = self._weighted_gram(multipliers)
        # That of the start may be of another program, and far from its own.
        form = self._form(multipliers, gram)
        _, is_possible, estimate, vector = form.inverse(
            best_near, self._some_vector(), _N_POWER_STEPS[0]
        )
        best_k = k = torch.where(is_possible, estimate, k)
        for index in range(_N_STEPS):
            room = _ROOMS[0] * (_ROOMS[1] / _ROOMS[0]) ** (index / (_N_STEPS - 1))
            near = k * (1 + room)
            form = self._form(multipliers, gram)
            inverse, is_possible, k, vector = form.inverse(near, vector, _N_POWER_STEPS[1])
            is_best = is_possible & (k <= best_k)
            best = multipliers.where(is_best, best)
            best_gram = torch.where(is_best.view(-1, 1, 1, 1), gram, best_gram)
            best_near = torch.where(is_best, near, best_near)
            # An estimate may be too small for the room.
            raised = torch.where(is_possible, best_k, (best_k + best_near) / 2)
            best_k = torch.where(is_best, k, raised)
            k = torch.where(is_possible, k, best_k)
            # Where there is none, return to the best multipliers and go on with half the step.
            new_slope, of_each = _slope(form, inverse), is_possible.unsqueeze(1)
            turn = slope * new_slope
            factor = torch.where(turn > 0, _GROWTH, torch.where(turn < 0, _SHRINKAGE, 1.0))
            step = step * torch.where(of_each, factor, _SHRINKAGE)
            slope = torch.where(of_each, new_slope, slope)
            if self.is_activated and index in _STEPS_OF_0:
                columns = self._best_of_columns(form, inverse)
                multipliers = replace(multipliers, of_columns=columns).where(is_possible, best)
                gram = self._weighted_gram(multipliers)
            elif not bool(is_possible.all()):
                multipliers = multipliers.where(is_possible, best)
                gram = torch.where(is_possible.view(-1, 1, 1, 1), gram, best_gram)
            moved = multipliers.of_rows - slope.sign() * step
            multipliers = replace(multipliers, of_rows=moved)
        form = self._form(best, best_gram)
        _, is_possible, k, _ = form.inverse(best_k * (1 + _ROOMS[1]), vector, _N_POWER_STEPS[0])
        return best, torch.where(is_possible, k, best_near)

    def proven(self, multipliers: _Multipliers, k: Tensor) -> Tensor:
        """(L,) a k that is proven, near `k` if that is an estimate; infinite where there is none.

        The smallest eigenvalue of Z may be off by the rounding of its entries and by that of the
        factorization (Higham, Accuracy and Stability of Numerical Algorithms, theorem 10.3, as in
        `convolution_norm`).
        """
        form = self._form(multipliers, self._weighted_gram(multipliers))
        n = self.second.shape[-1]
        magnitude = form.by_row.unsqueeze(2) * self.magnitude
        plain = weighted = magnitude.square().sum(dim=(1, 2))
        if self.is_activated:
            factors = multipliers.column_factors.repeat_interleave(n, dim=1)
            weighted = (magnitude * factors).square().sum(dim=(1, 2))
        third = magnitude[:, n:].square().sum(dim=(1, 2))
        size_fixed, size_slope = (
            torch.linalg.matrix_norm(part).amax(dim=1) for part in (form.fixed, form.slope)
        )
        proven = torch.full_like(k, math.inf)
        for index, raise_by in enumerate(_RAISES):
            left = (proven.isinf() & k.isfinite()).nonzero().squeeze(1)
            if left.numel() == 0:
                break
            raised = k[left] * (1 + raise_by)
            off = self.rounding * (third[left] + (plain + weighted)[left] / raised)
            # Twice the lower triangle is at least the whole.
            size = 2 * size_fixed[left] + size_slope[left] / raised
            off = off + 2**-53 * (10 * size + 2 * n + 8 * n * (2 * n + 1))
            z = form.fixed[left] - form.slope[left] / raised.view(-1, 1, 1, 1)
            # Twice that covers the rounding of this computation.
            z.diagonal(dim1=-2, dim2=-1).sub_((2 * off).view(-1, 1, 1))
            failed = torch.linalg.cholesky_ex(z).info != 0
            holds = ~failed.any(dim=1) & off.isfinite()
            proven[left[holds]] = raised[holds]
            if index == (_COMPUTED_AFTER if self.is_whole else 0):
                block, frequency = failed.nonzero(as_tuple=True)
                at = left[block], frequency
                computed = _smallest_k(form.fixed[at], form.slope[at])
                k = k.scatter_reduce(0, left[block], computed, "amax")
        return proven

    def _weighted_gram(self, multipliers: _Multipliers) -> Tensor:
        """The Gram matrix of the rows with their columns weighted, if there is a T0."""
        # With all logarithms 0 all factors are 1.
        if not self.is_activated or not bool(multipliers.of_columns.any()):
            return self.gram
        n = self.second.shape[-1]
        factors = multipliers.column_factors.repeat_interleave(n, dim=1).unsqueeze(1)
        return (self.rows * factors) @ (self.adjoint * factors.mT)

    def _form(self, multipliers: _Multipliers, weighted_gram: Tensor) -> _Form:
        """Z for multipliers and their weighted Gram matrix."""
        n = self.second.shape[-1]
        d1, d2 = (0.5 * multipliers.of_rows).exp().split(n, dim=1)
        # W3 is times -scale for the inverse, which matters where W1 meets W3.
        of_third = (self.sign * self.scale).unsqueeze(1) / d2
        by_row = torch.cat([d1, of_third], dim=1) / math.sqrt(2)
        factors = (by_row.unsqueeze(2) * by_row.unsqueeze(1)).unsqueeze(1)
        third = factors[..., n:, n:] * self.gram[..., n:, n:]
        q = torch.where(self.sign > 0, 1.0, -1.0 if self.is_whole else 0.0)
        fixed = torch.zeros_like(self.gram)
        fixed[..., n:, :n] = (-d2.unsqueeze(2) / (2 * d1.unsqueeze(1))).unsqueeze(1) * self.second
        fixed[..., n:, n:] = -q.view(-1, 1, 1, 1) * third
        fixed.diagonal(dim1=-2, dim2=-1).add_(1)
        slope = factors * weighted_gram
        if self.is_activated:
            slope[..., n:, n:] += third
        return _Form(fixed, slope, by_row)

    def _best_of_columns(self, form: _Form, inverse: Tensor) -> Tensor:
        """(L, c): log x at the smallest trace of Z^-1 B1, `inverse` being that of Z. A column
        (u; w) of the scaled rows adds

            (x + 2 + 1 / x) / 4 <u, u> + (x + 1) <u, w> + x <w, w>

        to the trace, in the scalar product of Z^-1."""
        n = self.second.shape[-1]
        upper, lower = (self.rows * form.by_row[:, None, :, None]).split(n, dim=2)
        with_upper = inverse[..., :n] @ upper
        uu = (with_upper[..., :n, :] * upper.conj()).real.sum(dim=(1, 2))
        uw = (with_upper[..., n:, :] * lower.conj()).real.sum(dim=(1, 2))
        ww = ((inverse[..., n:, n:] @ lower) * lower.conj()).real.sum(dim=(1, 2))
        x = (uu / (uu + 4 * (uw + ww))).sqrt()
        log_x: Tensor = x.nan_to_num(nan=1.0).clamp(1 / _MOST_X, _MOST_X).log()
        return log_x

    def _some_vector(self) -> Tensor:
        """(L, F, 2 n, 1), with no symmetry."""
        n = self.gram.shape[-1]
        some = torch.arange(1, n + 1, dtype=torch.float64).square().cos()
        return some.to(self.gram).view(n, 1).expand(*self.gram.shape[:3], 1)


def _slope(form: _Form, inverse: Tensor) -> Tensor:
    """(L, 2 n): the gradient of -log det Z by the logarithms of T1 and T2, which has the sign of
    that of the smallest k, if Z is taken near it; `inverse` is that of Z.

    Row by row, the scalar products of Z and its inverse are 1. So the terms that scale with a row
    have what those of I and of the coupling leave.
    """
    n = inverse.shape[-1] // 2
    coupled = -(inverse[..., n:, :n].conj() * form.fixed[..., n:, :n]).real
    diagonal = inverse.diagonal(dim1=-2, dim2=-1).real
    of_1 = (diagonal[..., :n] - 1 - 2 * coupled.sum(dim=-2)).sum(dim=1)
    of_2 = (1 - diagonal[..., n:] + 2 * coupled.sum(dim=-1)).sum(dim=1)
    return torch.cat([of_1, of_2], dim=1).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def _smallest_k(fixed: Tensor, slope: Tensor) -> Tensor:
    """(...) the smallest k at which fixed - slope / k, (..., n, n), is positive semidefinite, up to
    rounding, or something <= 0; infinite where there is none."""
    root, failed = torch.linalg.cholesky_ex(fixed)
    is_possible = (failed == 0)[..., None, None]
    root = torch.where(is_possible, root, torch.eye(root.shape[-1], dtype=root.dtype))
    half = torch.linalg.solve_triangular(root, slope, upper=False)
    whole = torch.linalg.solve_triangular(root, half.mH, upper=False)
    k = largest_eigenvalue(torch.where(is_possible, whole, 0))
    smallest: Tensor = torch.where(failed == 0, k, math.inf)
    return smallest


def _twice(tensor: Tensor) -> Tensor:
    return torch.cat([tensor, tensor])


def _inner(left: Tensor, right: Tensor) -> Tensor:
    """The real parts of the scalar products of vectors (..., n, 1), (...)."""
    product: Tensor = (left.conj() * right).real.sum(dim=(2, 3))
    return product


def _rounding(n_terms: float) -> float:
    """By how much a sum of so many products is off in float64, in relation to that of the products'
    absolute values, in any order (Higham, Accuracy and Stability of Numerical Algorithms, 3.1);
    four times that in complex arithmetic, and ten operations for the scaling of each entry."""
    return 4 * (n_terms + 10) * 2**-53
