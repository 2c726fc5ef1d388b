"""Orthogonalization of matrices by Newton-Schulz iteration: X = U S V^T -> U f(S) V^T.

An odd polynomial of X, applied n_steps times, brings its singular values near to 1 without a
decomposition (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"). With
these coefficients they come near to 1 in few steps, but do not converge to it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# x -> a x + b x^3 + c x^5 on every singular value.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
LARGEST = 1.21
"""Upper bound on the singular values of an orthogonalized matrix."""
# Entries below this, whose square is a normal float32, count as zero: the momentum of a dead unit
# shrinks by a factor in each step, and products of subnormal numbers take up to 50 times as long.
_NEGLIGIBLE = 1e-18


def orthogonalized(matrices: Tensor, n_steps: int, dtype: torch.dtype | None = None) -> Tensor:
    """Matrices (L, m, n) with the singular vectors of `matrices`, and singular values near 1.

    No singular value is above LARGEST. Three steps bring singular values of at least 0.018 times
    their matrix's Frobenius norm to 0.67 or more; five steps, those of at least 0.0015 times it.
    Entries below 1e-18 count as zero, and a matrix of zeros stays one.

    The iteration runs on the Gram matrix X X^T, in the matrices' own dtype. Its polynomials
    commute, so X is multiplied by one matrix at the end, whatever n_steps is. These two products
    with X, and the result, have `dtype`, or the matrices' own dtype if it is None.
    """
    a, b, c = COEFFICIENTS
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = F.hardshrink((matrices.mT if is_tall else matrices).to(dtype), _NEGLIGIBLE)
    gram = torch.bmm(x, x.mT).to(matrices.dtype)
    squared_norm = gram.diagonal(dim1=1, dim2=2).sum(dim=1).clamp(min=_NEGLIGIBLE**2)
    squared_norm = squared_norm.view(-1, 1, 1)
    gram, factor = gram / squared_norm, squared_norm.rsqrt()
    for step in range(n_steps):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=1, dim2=2).add_(a)
        factor = polynomial * factor if step == 0 else torch.bmm(polynomial, factor)
        if step < n_steps - 1:
            gram = torch.bmm(torch.bmm(polynomial, gram), polynomial)
    x = torch.bmm(factor.to(x.dtype), x)
    return x.mT if is_tall else x
