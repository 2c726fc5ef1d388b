"""Slow, simple versions of what the project computes fast."""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor


def dense_convolution(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """The matrix (c_out H W, c_in H W) of a zero-padded convolution, entry by entry.

    Row (o, y, x), column (i, v, u): weight[o, i, v - y + r, u - x + r] where that tap exists.
    """
    c_out, c_in, k_h, k_w = weight.shape
    height, width = size
    matrix = torch.zeros(c_out, height, width, c_in, height, width, dtype=weight.dtype)
    for a in range(k_h):
        for b in range(k_w):
            for y in range(height):
                for x in range(width):
                    v, u = y + a - k_h // 2, x + b - k_w // 2
                    if 0 <= v < height and 0 <= u < width:
                        matrix[:, y, x, :, v, u] = weight[:, :, a, b]
    return matrix.reshape(c_out * height * width, c_in * height * width)


def dense_norm(weight: Tensor, size: tuple[int, int]) -> float:
    """The spectral norm of a zero-padded convolution: the largest singular value, by SVD."""
    return float(torch.linalg.svdvals(dense_convolution(weight.double(), size))[0])


def largest_over_masks(w1: Tensor, w2: Tensor, w3: Tensor) -> float:
    """The largest spectral norm of w3 Q2 w2 Q1 w1 over all diagonal Q1 and Q2 of zeros and ones,
    the masks of ReLU; w2 is square with few rows."""
    masks = torch.tensor(list(product([0.0, 1.0], repeat=len(w2))), dtype=w2.dtype)
    maps = w3 @ torch.einsum("ai,ij,bj,jk->abik", masks, w2, masks, w1)
    return torch.linalg.matrix_norm(maps, ord=2).max().item()


def extreme_over_slopes(
    w1: Tensor,
    w2: Tensor,
    w3: Tensor,
    *,
    is_activated: bool,
    sign: int,
    generator: torch.Generator,
    n_starts: int = 6,
) -> float:
    """The largest (sign 1) or smallest (sign -1) singular value of I + w3 Q2 w2 Q1 w1 Q0 that is
    found over diagonal matrices with entries in {0, 1}; Q0 = I unless is_activated. From random
    starts, each entry goes where the slope of the singular value points."""
    found = []
    for start in range(n_starts):
        part = (1.0, 0.5, 0.8)[start % 3]
        q0, q1, q2 = (
            (torch.rand(n, generator=generator) < part).double()
            for n in (w1.shape[1], len(w2), len(w2))
        )
        if not is_activated:
            q0 = torch.ones_like(q0)
        for _ in range(40):
            whole = (w3 * q2) @ (w2 * q1) @ (w1 * q0)
            left, values, right = torch.linalg.svd(torch.eye(len(w3), dtype=w3.dtype) + whole)
            at = 0 if sign > 0 else -1
            u, v = left[:, at], right[at]
            found.append(values[at].item())
            before = q0, q1, q2
            h1 = w1 @ (q0 * v)
            back = w3.T @ u
            q2 = (sign * back * (w2 @ (q1 * h1)) > 0).double()
            back = w2.T @ (q2 * back)
            q1 = (sign * back * h1 > 0).double()
            if is_activated:
                q0 = (sign * (w1.T @ (q1 * back)) * v > 0).double()
            if all(map(torch.equal, before, (q0, q1, q2))):
                break
    return max(found) if sign > 0 else min(found)


def relative_error(estimate: Tensor, truth: Tensor) -> Tensor:
    """||estimate - truth||_2 / ||truth||_2 of each sample."""
    return (estimate - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)


def jacobian_norm(fn: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """The spectral norm of the dense Jacobian of fn at x."""
    jacobian = torch.autograd.functional.jacobian(fn, x)
    return torch.linalg.matrix_norm(jacobian.reshape(-1, x.numel()).double(), ord=2).item()
