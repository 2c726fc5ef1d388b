"""A bound of the Lipschitz constant of a bottleneck g = W3 k(W2 k(W1 x)), below the product.

The product of the layers' norms is reached only if the strongest output of each layer is
the strongest input of the next, and passes its activation whole. Between two points, an
activation k with slopes in [0, 1] acts as a diagonal matrix Q with entries in [0, 1], of
which only <Q u, u - Q u> >= 0 is used. Added with multipliers t1, t2 > 0, as in the
semidefinite program of Fazlyab et al. 2019 (LipSDP), it gives

    |W3 y2|^2 <= |W3 y2|^2 + 2 t1 <y1, W1 x - y1> + 2 t2 <y2, W2 y1 - y2>,

whose right side is largest, over all y1 and y2, at t1^2 <W1 x, M^-1 W1 x> with

    M = 2 t1 - t2^2 W2^T (2 t2 - W3^T W3)^-1 W2,

if both matrices are positive definite. With one multiplier for a whole layer everything
commutes with the Fourier transform on the torus of `convolution_norm`, where the zeros
around the map are entries of Q that are 0: what would be a program over all pixels is
one small matrix at each frequency.

At t1 = (|W2| |W3|)^2 and t2 = |W3|^2 the bound is at most the product. The multipliers
here, fixed fractions of these, are better on nearly all blocks of trained networks.
"""

import torch
from torch import Tensor

from models.convolution_norm import ROUNDING_SLACK
from models.gram_symbols import SHIFTS, GramSymbols, largest_eigenvalue, used_taps
from models.spectral_norm import adjoint_kernel

# Of t1 and t2 above. M is at least 2 * 2/3 - 0.9^2 / (2 * 0.9 - 1) = 0.32 times
# (|W2| |W3|)^2, so that the matrices are always positive definite, and well conditioned.
_FRACTIONS = (2 / 3, 0.9)


def bottleneck_upper_bounds(
    first: Tensor, second: Tensor, third: Tensor, size: tuple[int, int]
) -> Tensor:
    """Proven upper bounds of Lip(W3 k(W2 k(W1 .))) for L blocks of one shape, (L,), float64.

    They hold for every activation k that acts entry by entry with slopes in [0, 1], and
    any biases; l2 to l2. A block whose weights are not finite must not be asked for.

    Args:
        first: float64 (L, m, c_in, k_h, k_w), m <= c_in; zero padding, stride 1, odd kernel.
        second: (L, m, m), a 1x1 convolution.
        third: (L, c_out, m, k_h, k_w), m <= c_out.
        size: (H, W) of the maps.
    """
    first, third = used_taps(first, size), adjoint_kernel(used_taps(third, size))
    # (W3^T W3)(f) is the Gram symbol of the adjoint of W3. Both on one grid.
    symbols = GramSymbols(first, size), GramSymbols(third, size)
    frequencies, _ = symbols[0].frequencies(SHIFTS[0])
    gram_1, gram_3 = (s.gram(frequencies) for s in symbols)
    norm_2 = torch.linalg.matrix_norm(second, ord=2)
    squared_3 = largest_eigenvalue(gram_3).amax(dim=1) * (1 + ROUNDING_SLACK)
    # A layer that is zero: any positive multiplier serves.
    t2 = _FRACTIONS[1] * torch.where(squared_3 > 0, squared_3, 1.0)
    t1 = _FRACTIONS[0] * torch.where(norm_2 > 0, norm_2.square() * (t2 / _FRACTIONS[1]), 1.0)

    def diagonal(t: Tensor) -> Tensor:
        identity = torch.eye(second.shape[-1], dtype=gram_1.dtype, device=second.device)
        return 2 * t.view(-1, 1, 1, 1) * identity

    coupling = (t2.view(-1, 1, 1) * second).to(gram_3.dtype).unsqueeze(1).expand_as(gram_3)
    root_3 = torch.linalg.cholesky(diagonal(t2) - gram_3)
    half = torch.linalg.solve_triangular(root_3, coupling, upper=False)
    root = torch.linalg.cholesky(diagonal(t1) - half.mH @ half)
    # M^-1/2 W1 W1^T M^-1/2, up to a rotation.
    inner = torch.linalg.solve_triangular(root, gram_1, upper=False)
    inner = torch.linalg.solve_triangular(root, inner.mH, upper=False)
    squared = t1.square() * largest_eigenvalue(inner).amax(dim=1)
    return squared.clamp(min=0).sqrt() * (1 + ROUNDING_SLACK)
