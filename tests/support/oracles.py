"""Slow, simple versions of what the project computes fast."""

from collections.abc import Callable
from itertools import product
from typing import Any

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


def extreme_over_slopes(w1: Tensor, w2: Tensor, w3: Tensor, **options: Any) -> float:
    """The largest (sign 1) or smallest (sign -1) singular value of I + w3 Q2 w2 Q1 w1 Q0 that is
    found over diagonal matrices with entries in {0, 1}; Q0 = I unless is_activated. From random
    starts, each entry goes where the slope of the singular value points. Options as of
    `extremes_over_slopes`."""
    (found,) = extremes_over_slopes(*(w.unsqueeze(0) for w in (w1, w2, w3)), **options)
    return float(found)


def extremes_over_slopes(
    w1: Tensor,
    w2: Tensor,
    w3: Tensor,
    *,
    is_activated: bool,
    sign: int,
    generator: torch.Generator,
    n_starts: int = 6,
) -> Tensor:
    """(L,): `extreme_over_slopes` of L blocks of one shape, stacked, all at once.

    Each value is attained: the norm of the image of a unit vector, an eigenvector of the Gram
    matrix. An SVD fails at times where most singular values are 1, as here.
    """
    n_blocks, n, c = len(w1), w1.shape[1], w1.shape[2]
    parts = w1.new_tensor([1.0, 0.5, 0.8])[torch.arange(n_starts) % 3].view(-1, 1)
    q0, q1, q2 = (
        (torch.rand(n_blocks, n_starts, size, generator=generator) < parts).to(w1).flatten(0, 1)
        for size in (c, n, n)
    )
    if not is_activated:
        q0 = torch.ones_like(q0)
    # The block of each start that still moves. Vectors are rows, so that they multiply as a batch.
    block = torch.arange(n_blocks).repeat_interleave(n_starts)
    found = w1.new_full((n_blocks,), -sign * torch.inf)
    identity, at = torch.eye(c, dtype=w1.dtype), -1 if sign > 0 else 0
    for _ in range(40):
        a, b, d = w1[block], w2[block], w3[block]
        whole = (d * q2.unsqueeze(1)) @ (b * q1.unsqueeze(1)) @ (a * q0.unsqueeze(1))
        whole = identity + whole
        v = torch.linalg.eigh(whole.mT @ whole)[1][:, :, at].unsqueeze(1)
        u = v @ whole.mT
        value = (u.norm(dim=2) / v.norm(dim=2)).squeeze(1)
        found = found.scatter_reduce(0, block, value, "amax" if sign > 0 else "amin")
        before = torch.cat([q0, q1, q2], dim=1)
        h1 = (q0.unsqueeze(1) * v) @ a.mT
        back = u @ d
        q2 = (sign * back * ((q1.unsqueeze(1) * h1) @ b.mT) > 0).to(w1).squeeze(1)
        back = (q2.unsqueeze(1) * back) @ b
        q1 = (sign * back * h1 > 0).to(w1).squeeze(1)
        if is_activated:
            q0 = (sign * ((q1.unsqueeze(1) * back) @ a) * v > 0).to(w1).squeeze(1)
        moved = (torch.cat([q0, q1, q2], dim=1) != before).any(dim=1)
        if not bool(moved.any()):
            break
        q0, q1, q2, block = q0[moved], q1[moved], q2[moved], block[moved]
    return found


def relative_error(estimate: Tensor, truth: Tensor) -> Tensor:
    """||estimate - truth||_2 / ||truth||_2 of each sample."""
    return (estimate - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)


def jacobian_norm(fn: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """The spectral norm of the dense Jacobian of fn at x."""
    jacobian = torch.autograd.functional.jacobian(fn, x)
    return torch.linalg.matrix_norm(jacobian.reshape(-1, x.numel()).double(), ord=2).item()
