"""The semidefinite programs of `block_bounds` as matrices: for g, forward, and for the inverse."""

import math
from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

import torch
from torch import Tensor

from models.layers.power_iteration import adjoint_kernel
from models.norms.convolution_norm import dense_operators
from models.norms.gram_symbols import SHIFTS, GramSymbols, largest_eigenvalue, used_taps

# What is bounded: the Lipschitz constant of g, of x + g(x), or of the inverse of x + g(x).
Kind = Literal["g", "forward", "inverse"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Bound of tau / (2 - tau) and of its inverse.
_MOST_X = 2.0**20


@dataclass(frozen=True)
class Blocks:
    """The arguments of `block_bounds`."""

    first: Tensor
    second: Tensor
    third: Tensor
    scale: Tensor
    is_activated: bool


@dataclass(frozen=True)
class Multipliers:
    """The logarithms of the multipliers of L blocks: of_rows (L, 2 n) has the diagonals of T1 and
    T2 side by side, of_columns (L, c) has x = tau / (2 - tau), where the program `has_columns`."""

    of_rows: Tensor
    of_columns: Tensor

    def of_pixels(self, n_pixels: int) -> "Multipliers":
        """Multipliers for each pixel; all pixels of a channel get its multiplier."""
        parts = (
            part.repeat_interleave(n_pixels, dim=1) for part in (self.of_rows, self.of_columns)
        )
        return Multipliers(*parts)

    def where(self, chosen: Tensor, others: "Multipliers") -> "Multipliers":
        """These multipliers for the chosen blocks, bool (L,), and `others` for the rest."""
        chosen = chosen.unsqueeze(1)
        return Multipliers(
            torch.where(chosen, self.of_rows, others.of_rows),
            torch.where(chosen, self.of_columns, others.of_columns),
        )

    @property
    def column_factors(self) -> Tensor:
        """(L, 2, c): the factors of the columns of W1 and of W3^H in B1."""
        half = (0.5 * self.of_columns).exp()
        return torch.stack([(half + 1 / half) / 2, half], dim=1)


@dataclass(frozen=True)
class Form:
    """Z = fixed - slope / k for L blocks at F frequencies: fixed, of which only the lower triangle
    is set, and slope (L, F, 2 n, 2 n). by_row (L, 2 n) scales the rows of W1 and W3^H in Z."""

    fixed: Tensor
    slope: Tensor
    by_row: Tensor

    def k(self) -> Tensor:
        """The smallest k (L,) > 0 that makes Z positive semidefinite, up to rounding; infinite
        where there is none."""
        k = smallest_k(self.fixed, self.slope).amax(dim=1)
        return torch.where(k > 0, k, math.inf)

    def inverse(
        self, k: Tensor, vector: Tensor, n_steps: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns (inverse, is_possible, estimate, vector) at k (L,): the inverse of Z; bool (L,),
        whether Z is positive definite; where it is, an estimate (L,) from below of the smallest
        such k; and `vector` after n_steps of power iteration."""
        root, failed = torch.linalg.cholesky_ex(self.fixed - self.slope / k.view(-1, 1, 1, 1))
        inverse = torch.cholesky_inverse(root)
        # Z^-1 slope has the eigenvalues v / (1 - v / k), where v are those of the pencil (slope,
        # fixed). Its powers stay far below overflow.
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
class Program:
    """The matrices of L programs of one kind, each at F frequencies; F is 1 for dense operators.

    Attributes:
        rows: (L, F, 2 n, c): W1 on top of W3^H.
        adjoint: rows^H.
        gram: rows @ rows^H.
        second: W2, (L, 1, n, n).
        scale: (L,), a factor of W3 for beta and alpha, but not for Lip(g).
        squares: (L, 2 n, c), squares of bounds of the rows' entries at every frequency. Each bound
            is at least the sum of the absolute values of its entry's terms.
        rounding: largest error of a product of two rows, relative to that of their absolute values.
        is_activated: whether there is an activation k0 ahead of the first convolution.
        is_whole: whether the rows belong to the map itself, not to a torus around it.
    """

    rows: Tensor
    adjoint: Tensor
    gram: Tensor
    second: Tensor
    scale: Tensor
    squares: Tensor
    rounding: float
    is_activated: bool
    is_whole: bool
    kind: Kind = "forward"

    @classmethod
    def on_the_torus(cls, blocks: Blocks, size: tuple[int, int]) -> Self:
        first, third = used_taps(blocks.first, size), used_taps(blocks.third, size)
        # W3^H has the symbol of the adjoint. Both on one grid.
        weight = torch.cat([first, adjoint_kernel(third)], dim=1)
        n_columns, taps = weight.shape[2], weight.shape[3:]
        frequencies, _ = GramSymbols(weight[:, :1], size).frequencies(SHIFTS[0])
        reaches = [torch.arange(-(k // 2), k // 2 + 1, dtype=torch.float64) for k in taps]
        angle = frequencies @ torch.cartesian_prod(*reaches).to(frequencies.device).T
        wave = torch.polar(torch.ones_like(angle), angle)
        rows = torch.einsum("lict,ft->lfic", weight.flatten(3).to(wave.dtype), wave)
        # Six operations make an angle, which is at most 2 pi times k_h + k_w, and each rounds.
        n_terms = math.prod(taps) + 12 * math.pi * sum(taps) + 10
        magnitude, rounding = weight.abs().sum(dim=(3, 4)), _rounding(n_columns + 2 * n_terms)
        return cls._of(blocks, rows, blocks.second.to(rows.dtype), magnitude, rounding, False)

    @classmethod
    def dense(cls, blocks: Blocks, size: tuple[int, int]) -> Self:
        weight = torch.cat([blocks.first, adjoint_kernel(blocks.third)], dim=1)
        rows = dense_operators(weight, size)
        pixels = torch.eye(math.prod(size), dtype=rows.dtype, device=rows.device)
        second = torch.stack([torch.kron(matrix, pixels) for matrix in blocks.second])
        rounding = _rounding(rows.shape[-1])
        return cls._of(blocks, rows.unsqueeze(1), second, rows, rounding, True)

    @classmethod
    def _of(
        cls,
        blocks: Blocks,
        rows: Tensor,
        second: Tensor,
        magnitude: Tensor,
        rounding: float,
        is_whole: bool,
    ) -> Self:
        adjoint = rows.mH.resolve_conj().contiguous()
        return cls(
            rows=rows,
            adjoint=adjoint,
            gram=rows @ adjoint,
            second=second.unsqueeze(1),
            scale=blocks.scale,
            squares=magnitude.square(),
            rounding=rounding,
            is_activated=blocks.is_activated,
            is_whole=is_whole,
        )

    def of_kind(self, kind: Kind) -> Self:
        return replace(self, kind=kind)

    @property
    def has_columns(self) -> bool:
        """Whether the program has a T0, the multipliers of the activation k0 before the first
        convolution (see `block_bounds`). The program for Lip(g) has none: an activation with slopes
        in [0, 1] does not increase Lip(g)."""
        return self.is_activated and self.kind != "g"

    def slope_gram(self, multipliers: Multipliers) -> Tensor:
        """B1 (L, F, 2 n, 2 n) before the scaling of its rows."""
        n = self.second.shape[-1]
        if self.kind == "g":
            slope = torch.zeros_like(self.gram)
            slope[..., :n, :n] = self.gram[..., :n, :n]
            return slope
        if not self.is_activated:
            return self.gram
        # With all logarithms 0 all factors are 1.
        if bool(multipliers.of_columns.any()):
            factors = multipliers.column_factors.repeat_interleave(n, dim=1).unsqueeze(1)
            slope = (self.rows * factors) @ (self.adjoint * factors.mT)
        else:
            slope = self.gram.clone()
        slope[..., n:, n:] += self.gram[..., n:, n:]
        return slope

    def form(self, multipliers: Multipliers, slope_gram: Tensor) -> Form:
        """Z for multipliers and their `slope_gram`."""
        n = self.second.shape[-1]
        d1, d2 = (0.5 * multipliers.of_rows).exp().split(n, dim=1)
        if self.kind == "g":
            of_third = 1 / d2
        else:
            # W3 is times -scale for the inverse, which matters where W1 meets W3.
            sign = 1.0 if self.kind == "forward" else -1.0
            of_third = (sign * self.scale).unsqueeze(1) / d2
        by_row = torch.cat([d1, of_third], dim=1) / math.sqrt(2)
        factors = (by_row.unsqueeze(2) * by_row.unsqueeze(1)).unsqueeze(1)
        fixed = torch.zeros_like(self.gram)
        fixed[..., n:, :n] = (-d2.unsqueeze(2) / (2 * d1.unsqueeze(1))).unsqueeze(1) * self.second
        if self.kind != "inverse" or self.is_whole:
            q = 1.0 if self.kind != "inverse" else -1.0
            fixed[..., n:, n:] = -q * factors[..., n:, n:] * self.gram[..., n:, n:]
        fixed.diagonal(dim1=-2, dim2=-1).add_(1)
        return Form(fixed, factors * slope_gram, by_row)

    def rounding_of(self, form: Form, multipliers: Multipliers) -> tuple[Tensor, Tensor]:
        """Returns (off_fixed, off_slope), (L,) each: bounds, in the Frobenius norm, of the errors
        of `form.fixed` and `form.slope`, up to the rounding of these bounds themselves."""
        n = self.second.shape[-1]
        by_row = form.by_row.square()
        of_rows = by_row * self.squares.sum(dim=2)
        third = of_rows[:, n:].sum(dim=1)
        if self.kind == "g":
            return self.rounding * third, self.rounding * of_rows[:, :n].sum(dim=1)
        slope = of_rows.sum(dim=1)
        if self.is_activated:
            weighted = self.squares @ multipliers.column_factors.square().mT
            upper, lower = weighted[:, :n, 0], weighted[:, n:, 1]
            slope = third + (by_row * torch.cat([upper, lower], dim=1)).sum(dim=1)
        return self.rounding * third, self.rounding * slope

    def best_of_columns(self, form: Form, inverse: Tensor) -> Tensor:
        """(L, c): the log x with the smallest trace of Z^-1 B1, where `inverse` is Z^-1. A column
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

    def some_vector(self) -> Tensor:
        """A fixed vector (L, F, 2 n, 1) without symmetry, to start a power iteration."""
        n = self.gram.shape[-1]
        some = torch.arange(1, n + 1, dtype=torch.float64).square().cos()
        return some.to(self.gram).view(n, 1).expand(*self.gram.shape[:3], 1)


def slope_of_log_det(form: Form, inverse: Tensor) -> Tensor:
    """(L, 2 n): the gradient of -log det Z by the logarithms of T1 and T2. Near the smallest k it
    has the sign of the gradient of k. `inverse` is Z^-1.

    The scalar product of a row of Z with that of its inverse is 1. So the terms that scale with a
    row contribute 1 minus the contributions of I and of the coupling.
    """
    n = inverse.shape[-1] // 2
    coupled = -(inverse[..., n:, :n].conj() * form.fixed[..., n:, :n]).real
    diagonal = inverse.diagonal(dim1=-2, dim2=-1).real
    of_1 = (diagonal[..., :n] - 1 - 2 * coupled.sum(dim=-2)).sum(dim=1)
    of_2 = (1 - diagonal[..., n:] + 2 * coupled.sum(dim=-1)).sum(dim=1)
    return torch.cat([of_1, of_2], dim=1).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def smallest_k(fixed: Tensor, slope: Tensor) -> Tensor:
    """The smallest k > 0, shape (...), for which fixed - slope / k, (..., n, n), is positive
    semidefinite, up to rounding; infinite if no k has this property, and <= 0 if all k have it."""
    root, failed = torch.linalg.cholesky_ex(fixed)
    is_possible = (failed == 0)[..., None, None]
    root = torch.where(is_possible, root, torch.eye(root.shape[-1], dtype=root.dtype))
    half = torch.linalg.solve_triangular(root, slope, upper=False)
    whole = torch.linalg.solve_triangular(root, half.mH, upper=False)
    k = largest_eigenvalue(torch.where(is_possible, whole, 0))
    smallest: Tensor = torch.where(failed == 0, k, math.inf)
    return smallest


def _inner(left: Tensor, right: Tensor) -> Tensor:
    """The real parts (L, F) of the scalar products of vectors (L, F, n, 1)."""
    product: Tensor = (left.conj() * right).real.sum(dim=(2, 3))
    return product


def _rounding(n_terms: float) -> float:
    """The largest error of a sum of n_terms products in float64, in any order, relative to the sum
    of their absolute values (Higham, Accuracy and Stability of Numerical Algorithms, 3.1), times 4
    for complex arithmetic, with ten more operations for the scaling of each entry."""
    return 4 * (n_terms + 10) * 2**-53
