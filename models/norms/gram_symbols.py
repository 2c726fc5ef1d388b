"""Symbols of circular convolutions on a torus. The symbol S(f) is the matrix of a convolution at
the frequency f, and the singular values of all S(f) are those of the convolution. Norms need only
S S^H, on the side with fewer channels."""

import copy
import math
from itertools import product

import torch
from torch import Tensor

# Shifts of a grid of frequencies, as fractions of its spacing by row and column.
SHIFTS = ((0.5, 0.5), (0.0, 0.0), (0.5, 0.0), (0.0, 0.5))


def used_taps(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """The kernels (L, c_out, c_in, k_h, k_w) without the taps that only ever meet padding, since
    they reach beyond a map of (H, W); rows and columns are cut independently."""
    for dim, n in ((3, size[0]), (4, size[1])):
        k = weight.shape[dim]
        reach = min(k // 2, n - 1)
        weight = weight.narrow(dim, k // 2 - reach, 2 * reach + 1)
    return weight


def gram_rounding(weight: Tensor) -> Tensor:
    """Bounds (L,), l2 to l2, of the rounding of W W^H in float64, for the operators W of the
    kernels (L, c_small, c_large, k_h, k_w): dense ones, and symbols at every frequency.

    The error of a sum of n products is at most n 2^-53 times the sum of their absolute values, in
    any order (Higham, Accuracy and Stability of Numerical Algorithms, 3.1). Those sums are bounded
    by the operators of absolute kernels, whose norms are at most those of their sums over taps.
    """
    _, _, c_large, k_h, k_w = weight.shape
    # Fewer than 2 k_h k_w lags; the angles, each at most 2 pi (k_h + k_w) and computed in six
    # operations that round; and the cosines of the angles.
    of_symbols = 2 * k_h * k_w + 12 * math.pi * (k_h + k_w) + 10
    n_terms = c_large * k_h * k_w + of_symbols
    norm: Tensor = torch.linalg.matrix_norm(weight.abs().sum(dim=(3, 4)), ord=2)
    # 1.01, since the norm itself is rounded.
    return norm.square() * (1.01 * 2**-53 * n_terms)


class GramSymbols:
    """S(f) S(f)^H for the symbols S of L convolutions, on the frequencies of a torus.

    S(f) = sum_a W_a e^{i <f, a>}, so that S S^H = sum_t K_t e^{-i <f, t>} with the kernels'
    autocorrelation K_t = sum_a W_a W_{a + t}^T, which is computed once for all frequencies.

    Args:
        weight: float64 (L, c_small, c_large, k_h, k_w), without taps that are never used.
        size: (H, W) of the map.

    Attributes:
        torus: the rows and columns of the torus, in pixels.
        lags: float64 (T, 2), the shifts t in one half of that sum; the other half has -t.
    """

    def __init__(self, weight: Tensor, size: tuple[int, int]) -> None:
        n_layers, c_small, _, k_h, k_w = weight.shape
        self.torus = (size[0] + k_h // 2, size[1] + k_w // 2)
        # K_{-t} = K_t^T: half of the lags t, and zero, are enough.
        lags = [(dy, dx) for dy in range(k_h) for dx in range(1 - k_w, k_w) if dy > 0 or dx >= 0]
        offsets = list(product(range(k_h), range(k_w)))
        taps = weight.flatten(3).permute(0, 3, 1, 2).contiguous()
        correlation = weight.new_zeros(n_layers, len(lags), c_small, c_small)
        for index, (y, x) in enumerate(offsets):
            # With this tap and all behind it at once: a few wide products.
            behind = taps[:, index:].flatten(1, 2).transpose(1, 2)
            products = torch.bmm(taps[:, index], behind).split(c_small, dim=2)
            for (there_y, there_x), block in zip(offsets[index:], products, strict=True):
                correlation[:, lags.index((there_y - y, there_x - x))] += block
        correlation[:, lags.index((0, 0))] /= 2
        transposed = correlation.transpose(2, 3).contiguous()
        self._even = (correlation + transposed).flatten(2)
        self._odd = transposed.sub_(correlation).flatten(2)
        self.lags = weight.new_tensor(lags)
        self.n_layers, self._c_small = n_layers, c_small

    def frequencies(self, shift: tuple[float, float]) -> tuple[Tensor, Tensor]:
        """Returns (frequencies, alone): the shifted grid without mirror images, (F, 2) in radians
        per pixel; and bool (F,), whether a frequency is its own mirror image.

        A frequency f and its mirror image -f have conjugate symbols, so one of the two is enough. A
        shift of 0 or 1/2 along each axis keeps that symmetry.
        """
        index = [torch.arange(n) for n in self.torus]
        mirror = [(-i - round(2 * s)) % n for i, s, n in zip(index, shift, self.torus, strict=True)]
        here = torch.arange(math.prod(self.torus)).view(self.torus)
        there = here[mirror[0]][:, mirror[1]]
        # In float64 from the start: a float32 quotient would cost the bound nine digits.
        steps = [(i.double() + s) / n for i, s, n in zip(index, shift, self.torus, strict=True)]
        grid = 2 * math.pi * torch.cartesian_prod(*steps)
        kept = (here <= there).flatten()
        alone = (here == there).flatten()
        return grid[kept].to(self.lags.device), alone[kept].to(self.lags.device)

    def gram(self, frequencies: Tensor, layers: Tensor | None = None) -> Tensor:
        """S S^H, complex128 (L, F, c_small, c_small), at frequencies (F, 2) or (L, F, 2), of the
        layers with the int64 indices `layers`, or of all layers."""
        even, odd = self._even, self._odd
        if layers is not None:
            even, odd = even[layers], odd[layers]
        angle = frequencies @ self.lags.T
        cosines, sines = torch.cos(angle).to(even.dtype), torch.sin(angle).to(even.dtype)
        gram = torch.complex(cosines @ even, sines @ odd)
        return gram.view(*gram.shape[:2], self._c_small, self._c_small)

    def single_precision(self, layers: Tensor, scale: Tensor) -> tuple["GramSymbols", Tensor]:
        """Returns (symbols, bound): the symbols of `layers` (L,) times scale (L,) in float32; and a
        bound, float64 (L,), in the Frobenius norm, of the rounding of their complex64 `gram` at any
        frequency."""
        single = copy.copy(self)
        factor = scale.view(-1, 1, 1)
        even, odd = self._even[layers] * factor, self._odd[layers] * factor
        single.n_layers = len(layers)
        single._even, single._odd = even.float(), odd.float()
        # Each of T terms is rounded three times, the cosine, the entry and their product, and
        # their sum T - 1 times (Higham, Accuracy and Stability of Numerical Algorithms, 3.1).
        entries = even.norm(dim=2).sum(dim=1) + odd.norm(dim=2).sum(dim=1)
        return single, 2**-24 * (len(self.lags) + 3) * entries

    def wider(self, n_pixels: int) -> "GramSymbols":
        """The same symbols, on a torus whose edges are n_pixels longer."""
        other = copy.copy(self)
        other.torus = (self.torus[0] + n_pixels, self.torus[1] + n_pixels)
        return other

    def trace(self, frequencies: Tensor) -> Tensor:
        """(L, F) the traces of the Gram symbols at frequencies (F, 2)."""
        traces = self._even[:, :, :: self._c_small + 1].sum(dim=2)
        return traces @ torch.cos(frequencies @ self.lags.T).T


def largest_eigenvalue(matrix: Tensor) -> Tensor:
    """The largest eigenvalues (...), float64, of Hermitian matrices (..., n, n)."""
    values: Tensor = torch.linalg.eigvalsh(matrix)
    return values[..., -1]
