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
# Matrices of a smaller Frobenius norm are not blown up: the momentum of a dead layer, far below any
# gradient. The square of this norm is far above the smallest float32.
_LEAST_NORM = 1e-15
# Entries below this fraction of the Frobenius norm become zero: the momentum of a dead unit shrinks
# by a factor in each step, and products of subnormal numbers take up to 50 times as long.
_NEGLIGIBLE = 1e-12


def orthogonalized(matrices: Tensor, n_steps: int, dtype: torch.dtype | None = None) -> Tensor:
    """Matrices (L, m, n) with the singular vectors of `matrices`, and singular values near 1.

    No singular value is above LARGEST. Three steps bring singular values of at least 0.018 times
    their matrix's Frobenius norm to 0.67 or more; five steps, those of at least 0.0015 times it.
    For a Frobenius norm below 1e-15 the results are smaller, down to zero for a matrix of zeros.
    Products and result have `dtype`, or the matrices' own dtype if it is None."""
    a, b, c = COEFFICIENTS
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices
    norm = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
    x = F.hardshrink(x / norm.clamp(min=_LEAST_NORM), _NEGLIGIBLE).to(dtype)
    for _ in range(n_steps):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x


def retracted(matrices: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """One step of the iteration for the polar factor (Higham, Functions of Matrices, 8.3), on
    matrices (L, m, n), m <= n. Singular vectors stay, and a singular value s in [0, 1] becomes
    s (3 - s^2) / 2: never above 1, and at least 1 - 3 d^2 / 2 for s = 1 - d. The correction is
    computed in `dtype`, or in the matrices' own dtype if it is None."""
    x = matrices.to(dtype)
    excess = torch.bmm(x, x.mT)
    excess.diagonal(dim1=1, dim2=2).sub_(1)
    return torch.add(matrices, torch.bmm(excess, x), alpha=-0.5)
