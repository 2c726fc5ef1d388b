"""Circular convolutions on a torus: at each frequency a matrix, the symbol S(f). Their singular
values are those of the symbols; norms need only S S^H on the side with fewer channels."""

import copy
import math
from itertools import product

import torch
from torch import Tensor

# Fractions of the grid's spacing, by row and column.
SHIFTS = ((0.5, 0.5), (0.0, 0.0), (0.5, 0.0), (0.0, 0.5))


def used_taps(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """The kernels (L, c_out, c_in, k_h, k_w) without the taps that only ever meet zeros, since they
    reach across the map of (H, W); each axis by itself."""
    for dim, n in ((3, size[0]), (4, size[1])):
        k = weight.shape[dim]
        reach = min(k // 2, n - 1)
        weight = weight.narrow(dim, k // 2 - reach, 2 * reach + 1)
    return weight


def gram_rounding(weight: Tensor) -> Tensor:
    """(L,) bounds of the rounding in float64 of W W^H, l2 to l2, for the operators of the kernels
    (L, c_small, c_large, k_h, k_w): of dense ones, and of symbols at every frequency.

    Sums of n products are good to n 2^-53 times the sum of their absolute values, in any order
    (Higham, Accuracy and Stability of Numerical Algorithms, 3.1). Those sums are bounded by the
    kernels of absolute values, whose operators have at most the norm of the sum over their taps.
    """
    _, _, c_large, k_h, k_w = weight.shape
    # The lags, of which there are fewer than 2 k_h k_w, and the angles, each at most 2 pi times
    # k_h + k_w, of which six operations are off, and their cosines.
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
        torus: its rows and columns of pixels.
        lags: float64 (T, 2), the t of half of the sum.
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
        """((F, 2) in radians a pixel, (F,) bool): the shifted grid without mirror images.

        A frequency and its mirror image -f have conjugate symbols, so one of the two is enough; the
        bool says that a frequency is its own. A shift of 0 or 1/2 each keeps that symmetry.
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
        """Hermitian complex128 (L, F, c_small, c_small) at frequencies (F, 2) or (L, F, 2), of the
        layers at these int64 indices, or of all."""
        even, odd = self._even, self._odd
        if layers is not None:
            even, odd = even[layers], odd[layers]
        angle = frequencies @ self.lags.T
        cosines, sines = torch.cos(angle).to(even.dtype), torch.sin(angle).to(even.dtype)
        gram = torch.complex(cosines @ even, sines @ odd)
        return gram.view(*gram.shape[:2], self._c_small, self._c_small)

    def single_precision(self, layers: Tensor, scale: Tensor) -> tuple["GramSymbols", Tensor]:
        """The symbols of `layers` (L,) times scale (L,) in float32, with complex64 `gram`; and
        (L,), float64, a bound in the Frobenius norm of the rounding of its entries at every
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
        """The same symbols, on a torus with n_pixels more a side."""
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
