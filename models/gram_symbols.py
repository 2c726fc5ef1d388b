"""Convolutions on a torus, frequency by frequency.

A circular convolution is a matrix at each frequency, its symbol S(f); its singular values
are those of the symbols. S S^H on the side with fewer channels is all that norms need.
"""

import math
from itertools import product

import torch
from torch import Tensor

# Fractions of the grid's spacing, by row and column.
SHIFTS = ((0.5, 0.5), (0.0, 0.0), (0.5, 0.0), (0.0, 0.5))


def used_taps(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """The kernels (L, c_out, c_in, k_h, k_w) without the taps that reach across the map of
    (H, W), each axis by itself: they only ever meet zeros."""
    for dim, n in ((3, size[0]), (4, size[1])):
        k = weight.shape[dim]
        reach = min(k // 2, n - 1)
        weight = weight.narrow(dim, k // 2 - reach, 2 * reach + 1)
    return weight


class GramSymbols:
    """S(f) S(f)^H for the symbols S of L convolutions, on the frequencies of a torus.

    S(f) = sum_a W_a e^{i <f, a>}, so that S S^H = sum_t K_t e^{-i <f, t>} with the kernels'
    autocorrelation K_t = sum_a W_a W_{a + t}^T, which is computed once for all frequencies.

    Args:
        weight: float64 (L, c_small, c_large, k_h, k_w), without taps that are never used.
        size: (H, W) of the map.

    Attributes:
        n_layers: L.
        torus: its rows and columns of pixels.
        lags: float64 (T, 2), the t of half of the sum.
    """

    def __init__(self, weight: Tensor, size: tuple[int, int]) -> None:
        n_layers, c_small, _, k_h, k_w = weight.shape
        self.torus = (size[0] + k_h // 2, size[1] + k_w // 2)
        # K_{-t} = K_t^T: half of the lags t, and zero, are enough.
        lags = [(dy, dx) for dy in range(k_h) for dx in range(1 - k_w, k_w) if dy > 0 or dx >= 0]
        taps = weight.permute(3, 4, 0, 1, 2).contiguous()
        correlations = []
        for dy, dx in lags:
            correlation = weight.new_zeros(n_layers, c_small, c_small)
            for y, x in product(range(k_h - dy), range(max(0, -dx), k_w - max(0, dx))):
                there = taps[y + dy, x + dx].transpose(1, 2)
                correlation = torch.baddbmm(correlation, taps[y, x], there)
            correlations.append(correlation)
        even = torch.stack(correlations)
        transposed = even.transpose(2, 3)
        odd = (transposed - even).flatten(2)
        halved = weight.new_tensor([0.5 if lag == (0, 0) else 1.0 for lag in lags])
        even = (even + transposed) * halved.view(-1, 1, 1, 1)
        self.lags = weight.new_tensor(lags)
        self._even, self._odd = even.flatten(2).transpose(0, 1), odd.transpose(0, 1)
        self.n_layers, self._c_small = n_layers, c_small

    def frequencies(self, shift: tuple[float, float]) -> tuple[Tensor, Tensor]:
        """((F, 2) in radians a pixel, (F,) bool): the shifted grid without mirror images.

        A frequency and its mirror image -f have conjugate symbols, so one of the two is
        enough; the bool says that a frequency is its own.

        shift: 0 or 1/2 each, which keep that symmetry of the grid.
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
        """Hermitian complex128 (L, F, c_small, c_small) at frequencies (F, 2) or (L, F, 2).

        layers: int64 indices of the layers that are asked for; None for all.
        """
        even, odd = self._even, self._odd
        if layers is not None:
            even, odd = even[layers], odd[layers]
        angle = frequencies @ self.lags.T
        gram = torch.complex(torch.cos(angle) @ even, torch.sin(angle) @ odd)
        return gram.view(*gram.shape[:2], self._c_small, self._c_small)

    def trace(self, frequencies: Tensor) -> Tensor:
        """(L, F) the traces of the Gram symbols at frequencies (F, 2)."""
        traces = self._even[:, :, :: self._c_small + 1].sum(dim=2)
        return traces @ torch.cos(frequencies @ self.lags.T).T


def largest_eigenvalue(matrix: Tensor) -> Tensor:
    """Of Hermitian matrices (..., n, n): (...), float64."""
    values: Tensor = torch.linalg.eigvalsh(matrix)
    return values[..., -1]
