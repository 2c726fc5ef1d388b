"""Two proven bounds of the spectral norm of zero-padded convolutions of stride 1, l2 to l2.

The paper checks a layer by the singular values of its kernel's Fourier transform (after Sedghi et
al. 2018), which is exact for circular padding and can be below the norm under the zero padding that
the network uses. Here the map of n x n pixels is embedded in a torus of N = n + r pixels a side,
r = (k - 1) / 2: zero-padded convolution is then embed, convolve circularly, restrict. Embedding and
restriction have norm 1, so the norm of the circular convolution, the largest singular value of its
symbol over the N x N grid of frequencies, is an upper bound.

The entries that wrap around the torus are never used, so they may carry any phase: the grid shifted
by any fraction of its spacing gives a bound too, and so does the smallest of several. Where the map
is so small that the dense operator is cheap, its norm is computed instead. Layers of one shape are
one batch, in float64.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers.power_iteration import adjoint_kernel, power_iteration
from models.norms.gram_symbols import (
    SHIFTS,
    GramSymbols,
    gram_rounding,
    largest_eigenvalue,
    used_taps,
)

# A dense operator with at most this many rows costs about as much as the grids do.
_DENSE_ROWS = 256
# Relative distance at which a probe stands for the largest eigenvalue, where grids are compared.
_CHOLESKY_SLACK = 1e-12
# Frequencies of a grid whose eigenvalues are computed first.
_N_PROBES = 4
# Frequencies, and eigenpairs at them, that the correction for the map's edge uses.
_N_LEADING = 8
# Pixels that are added to the edges of that correction's tori. On a wider torus the norm is rarely
# smaller, but more of the leading vectors lies off the map, and the correction removes that part: a
# tighter bound for trained layers, a looser one for smooth kernels.
_WIDER = (0, 1)
# For the lower bound, on the true operator; the start is close to the singular vector.
_N_LOWER_ITERATIONS = 4


def convolution_norm_bounds(weight: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Proven (lower, upper) bounds of the norms of L zero-padded convolutions, float64 (L,) each.

    Exact, up to rounding, for 1x1 kernels and small maps. Elsewhere the upper bound is the smallest
    norm, over shifted grids, of a circular convolution that contains the operator. The lower bound
    is attained by a vector: power iteration on the operator itself, from the leading singular
    vector at the grid's largest frequency.

    Args:
        weight: finite (L, c_out, c_in, k_h, k_w), k_h and k_w odd; computed in float64.
        size: (H, W) of the map.
    """
    weight = _few_out(weight, size)
    n_rows = weight.shape[1]
    if weight.shape[-2:] == (1, 1):
        lower = upper = _matrix_norms(weight[..., 0, 0])
    elif n_rows * math.prod(size) <= _DENSE_ROWS:
        n_rows *= math.prod(size)
        lower = upper = _matrix_norms(dense_operators(weight, size))
    else:
        upper, start = _restricted_norms(weight, size)
        # Power iteration takes operators from the side with fewer channels.
        away = adjoint_kernel(weight)
        _, outer = power_iteration(away, start, _N_LOWER_ITERATIONS)
        lower = (outer * away).flatten(1).sum(dim=1)
    # LAPACK's eigensolvers are backward stable: exact for a matrix that is off by a multiple of
    # 2^-53 times its norm, which grows slowly with its size (Users' Guide, 4.7). Assumed: 8 n.
    solver = 8 * (n_rows + 2 * _N_LEADING) * 2**-53
    off = gram_rounding(weight) + solver * upper.square()
    upper = (upper.square() + off).sqrt() * (1 + 2**-50)
    # The square of a lower bound may be smaller than its rounding.
    return (lower.square() - off).clamp(min=0).sqrt() * (1 - 2**-50), upper


def _few_out(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Kernels (L, c_small, c_large, k_h, k_w), float64, of the same norms, without unused taps."""
    weight = used_taps(weight.double(), size)
    return adjoint_kernel(weight) if weight.shape[1] > weight.shape[2] else weight


def dense_operators(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """(L, c_out H W, c_in H W): the matrices of zero-padded convolutions of stride 1 on maps of
    (H, W), with the kernels (L, c_out, c_in, k_h, k_w)."""
    n_layers, c_out, c_in, *taps = weight.shape
    # Row by row and column by column, the tap between two pixels, and whether there is one.
    between = [
        torch.arange(n).unsqueeze(0) - torch.arange(n).unsqueeze(1) + k // 2
        for n, k in zip(size, taps, strict=True)
    ]
    is_tap = [(tap >= 0) & (tap < k) for tap, k in zip(between, taps, strict=True)]
    where = is_tap[0][:, None, :, None] & is_tap[1][None, :, None, :]
    tap = between[0][:, None, :, None] * taps[1] + between[1][None, :, None, :]
    # Behind the taps stands a zero.
    index = torch.where(where, tap, math.prod(taps)).view(math.prod(size), -1)
    padded = F.pad(weight.flatten(3), (0, 1))
    matrix = padded[..., index.to(weight.device)].transpose(2, 3)
    return matrix.reshape(n_layers, c_out * len(index), c_in * len(index))


def _matrix_norms(matrix: Tensor) -> Tensor:
    """(L,) largest singular values of wide or square matrices (L, rows, columns)."""
    gram = torch.bmm(matrix, matrix.transpose(1, 2))
    return largest_eigenvalue(gram).clamp(min=0).sqrt()


def _smallest_grid(
    symbols: GramSymbols, shifts: Sequence[tuple[float, float]]
) -> tuple[Tensor, Tensor]:
    """Returns (squared, which): for each layer the smallest squared norm, over the shifted grids of
    the torus, of the circular convolution, float64 (L,); and the index of that shift, int64 (L,).

    A norm on any grid is an upper bound for the zero-padded convolution. This only chooses a grid:
    the bound is computed anew there, in float64, so no proof rests on single precision.
    """
    squared = symbols.lags.new_full((symbols.n_layers,), math.inf)
    which = torch.zeros_like(squared, dtype=torch.int64)
    for index, shift in enumerate(shifts):
        frequencies, _ = symbols.frequencies(shift)
        # The norm of a grid is at least that of a few of its frequencies. If that is above the norm
        # on another grid, this grid is not the smallest.
        promising = symbols.trace(frequencies).topk(min(_N_PROBES, len(frequencies))).indices
        at_least = largest_eigenvalue(symbols.gram(frequencies[promising])).amax(dim=1)
        layers = (at_least < squared).nonzero().squeeze(1)
        if layers.numel() > 0:
            largest = _largest(symbols, frequencies, layers, at_least[layers])
            smaller = largest < squared[layers]
            squared[layers[smaller]] = largest[smaller]
            which[layers[smaller]] = index
    return squared, which


def _largest(symbols: GramSymbols, frequencies: Tensor, layers: Tensor, at_least: Tensor) -> Tensor:
    """The largest eigenvalue (L,) of the Gram symbols G of each of `layers` at `frequencies`, given
    a lower bound `at_least` (L,).

    Eigenvalues are computed only at frequencies where they may be above a level a little larger
    than `at_least`. They are not if level - G has a Cholesky factorization, up to its rounding,
    which costs a fraction. A factorization in single precision, with room for its rounding, rules
    out all but a few frequencies.
    """
    single, slack = symbols.single_precision(layers, 1 / at_least)
    scaled = single.gram(frequencies)
    n = scaled.shape[2]
    # The factorization adds n (n + 1) u times the level at most (Higham, Accuracy and Stability of
    # Numerical Algorithms, theorem 10.3); four times that in complex arithmetic.
    slack = slack + 4 * n * (n + 1) * 2**-24
    near = _exceeds(scaled, (1 - slack).float().unsqueeze(1).expand(scaled.shape[:2]))
    layer, frequency = near.nonzero().unbind(1)
    gram = symbols.gram(frequencies[frequency].unsqueeze(1), layers[layer]).squeeze(1)
    level = at_least[layer] * (1 + _CHOLESKY_SLACK)
    above = _exceeds(gram, level)
    largest = at_least.clone()
    return largest.scatter_reduce(0, layer[above], largest_eigenvalue(gram[above]), "amax")


def _exceeds(gram: Tensor, level: Tensor) -> Tensor:
    """Whether gram (..., n, n) may have an eigenvalue above level (...), as bool (...)."""
    difference = -gram
    difference.diagonal(dim1=-2, dim2=-1).add_(level.unsqueeze(-1))
    failed: Tensor = torch.linalg.cholesky_ex(difference).info > 0
    return failed


def _restricted_norms(weight: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Returns (upper, vectors): upper bounds (L,) of the norms, and unit vectors (L, c_small, H, W)
    nearly attaining them.

    A bound is the norm on the torus, on the grid where it is smallest, with a correction for the
    part of the torus outside the map; the smaller one of two tori counts. With C the circular
    convolution there, (l_i, w_i) the leading eigenpairs of C C^T and mu the next eigenvalue,

        C C^T <= mu + sum_i (l_i - mu) w_i w_i^H,

    and restricted to vectors on the map the right side has the largest eigenvalue mu + lambda_max
    of the matrix sqrt(l_i - mu) <w_i, w_j>_map sqrt(l_j - mu).
    """
    symbols = GramSymbols(weight, size)
    upper = weight.new_full((len(weight),), math.inf)
    attaining = weight.new_zeros(*weight.shape[:2], *size)
    for n_pixels in _WIDER:
        torus = symbols.wider(n_pixels)
        _, which = _smallest_grid(torus, SHIFTS)
        for index, shift in enumerate(SHIFTS):
            layers = (which == index).nonzero().squeeze(1)
            if layers.numel() > 0:
                frequencies, alone = torus.frequencies(shift)
                leading = _Leading.of(torus.gram(frequencies, layers), frequencies, alone)
                restricted, vectors = leading.restrict(torus.torus, size)
                smaller = restricted < upper[layers]
                upper[layers[smaller]] = restricted[smaller]
                attaining[layers[smaller]] = vectors[smaller]
    return upper, attaining


@dataclass(frozen=True)
class _Leading:
    """For each of L layers, the q frequencies at which the Gram symbol has the largest eigenvalues.

    Attributes:
        gram: complex (L, q, c_small, c_small).
        frequencies: (L, q, 2).
        alone: bool (L, q), whether the frequency is its own mirror image.
        largest: (L,) the largest eigenvalue at any frequency.
        rest: (L,) the largest eigenvalue at the other frequencies.
    """

    gram: Tensor
    frequencies: Tensor
    alone: Tensor
    largest: Tensor
    rest: Tensor

    @classmethod
    def of(cls, gram: Tensor, frequencies: Tensor, alone: Tensor) -> "_Leading":
        n_frequencies = gram.shape[1]
        q = min(_N_LEADING, n_frequencies)
        largest = largest_eigenvalue(gram)
        top = largest.topk(min(q + 1, n_frequencies), dim=1)
        index = top.indices[:, :q]
        layer = torch.arange(len(gram), device=gram.device).unsqueeze(1)
        rest = top.values[:, q] if n_frequencies > q else torch.zeros_like(top.values[:, 0])
        return cls(gram[layer, index], frequencies[index], alone[index], top.values[:, 0], rest)

    def restrict(self, torus: tuple[int, int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Upper bounds (L,) of the norms of convolutions on maps of `size`, and unit vectors that
        nearly attain them, by the formula of `_restricted_norms` with these eigenpairs."""
        n_layers, q, c_small = self.gram.shape[:3]
        eigenvalues, eigenvectors = torch.linalg.eigh(self.gram)
        # The leading pairs, (L, p); the next one bounds the rest, as other frequencies do.
        top = eigenvalues.flatten(1).sort(dim=1, descending=True)
        p = min(_N_LEADING, q * c_small)
        mu = self.rest
        if p < q * c_small:
            mu = torch.maximum(mu, top.values[:, p])
        layer = torch.arange(n_layers, device=mu.device).unsqueeze(1)
        at, which = top.indices[:, :p] // c_small, top.indices[:, :p] % c_small
        vector = eigenvectors[layer, at, :, which]
        frequency, alone = self.frequencies[layer, at], self.alone[layer, at]
        excess = (top.values[:, :p] - mu.unsqueeze(1)).clamp(min=0).sqrt()
        # The mirror image of a frequency has the conjugate eigenvector.
        excess = torch.cat([excess, excess.masked_fill(alone, 0)], dim=1)
        vector = torch.cat([vector, vector.conj()], dim=1)
        frequency = torch.cat([frequency, -frequency], dim=1)
        inner = vector.conj() @ vector.transpose(1, 2)
        waves = []
        for axis in (0, 1):
            pixel = torch.arange(size[axis], dtype=torch.float64, device=mu.device)
            angle = frequency[:, :, axis].unsqueeze(2) * pixel
            waves.append(torch.polar(torch.ones_like(angle), angle) / math.sqrt(torus[axis]))
            inner = inner * (waves[axis].conj() @ waves[axis].transpose(1, 2))
        form = excess.unsqueeze(2) * inner * excess.unsqueeze(1)
        values, vectors = torch.linalg.eigh(form)
        upper = torch.minimum(self.largest, mu + values[:, -1].clamp(min=0))
        weights = (excess * vectors[:, :, -1]).unsqueeze(2) * vector
        attaining = torch.einsum("lpc,lpy,lpx->lcyx", weights, *waves)
        return upper.clamp(min=0).sqrt(), _real_unit(attaining)


def _real_unit(vector: Tensor) -> Tensor:
    """A real unit vector (L, c, H, W) from a complex one: its longer part, real or imaginary."""
    parts = torch.stack([vector.real, vector.imag])
    norms = parts.flatten(2).norm(dim=2)
    layer = torch.arange(vector.shape[0], device=vector.device)
    longer = norms.argmax(dim=0)
    part, norm = parts[longer, layer], norms[longer, layer].view(-1, 1, 1, 1)
    # For a layer that is zero, any unit vector serves.
    return torch.where(norm > 0, part / norm, 1 / math.sqrt(part[0].numel()))
