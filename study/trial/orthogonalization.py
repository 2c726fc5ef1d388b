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
# Matrices of a smaller norm, far below any gradient, are not blown up: such is the momentum of a
# dead layer. The square of this norm is far above the smallest float32.
_LEAST_NORM = 1e-15
# Entries that are smaller than this part of the Frobenius norm become zero: the momentum of a dead
# unit fades by a factor a step, and products of subnormal numbers take up to 50 times as long.
_NEGLIGIBLE = 1e-12


def orthogonalized(matrices: Tensor, n_steps: int, dtype: torch.dtype | None = None) -> Tensor:
    """Matrices (L, m, n) with the same singular vectors, and with singular values near 1.

    No singular value is above LARGEST. Three steps bring those that are at least 0.018 of their
    matrix's Frobenius norm to 0.67 or more; five steps, those that are at least 0.0015 of it. Below
    a Frobenius norm of 1e-15 the result is smaller, down to zero for zeros. Products and result
    have `dtype`, or with None the dtype of the matrices."""
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
    """Matrices (L, m, n), m <= n, with the same singular vectors, and with s (3 - s^2) / 2 for each
    singular value s in [0, 1]: 1 - 3 d^2 / 2 or more for s = 1 - d, and never above 1. A step of
    the iteration for the polar factor (Higham, Functions of Matrices, 8.3). The correction is
    computed in `dtype`, or with None in the dtype of the matrices."""
    x = matrices.to(dtype)
    excess = torch.bmm(x, x.mT)
    excess.diagonal(dim1=1, dim2=2).sub_(1)
    return torch.add(matrices, torch.bmm(excess, x), alpha=-0.5)
