"""A potential block with orthonormal rows in training, on maps with a column for each sample."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.inverse.decoupled import scalar_solution
from models.layers.activations import gradient_through

# The factor by which a step for rows that are not quite orthonormal is taken to shrink the error,
# unless a smaller one is proven. Whether that was true, the result shows.
_SLOWEST = 0.5


class Inside(NamedTuple):
    """The input x (C, N) of a block, k(c W x + b) (n, N), and its dropout mask."""

    x: Tensor
    inner: Tensor
    mask: Tensor | None

    @property
    def masked(self) -> Tensor:
        return self.inner if self.mask is None else self.inner * self.mask


@dataclass(frozen=True)
class ColumnBlock:
    """x - c W^T m k(c W x + b) for columns x (C, N), W (n, C) with orthonormal rows up to an error,
    b (n,), and a mask m of dropout. Products are computed in the dtype of W, sums in that of x.

    Attributes:
        coeff: c, the target of the singular values of c W.
        activation: k.
        dropout: the probability that an entry of k(c W x + b) is zeroed.
        seed: of the mask, which is the same at every call.
    """

    coeff: float
    activation: nn.Module
    dropout: float
    seed: int

    def inside(self, weight: Tensor, bias: Tensor, x: Tensor) -> Inside:
        x = x.to(weight.dtype)
        inner = self.activation(self._before(weight, bias, x))
        return Inside(x, inner, self._mask(inner))

    def apply_(self, weight: Tensor, x: Tensor, inside: Inside) -> None:
        """Turn the block's input x (C, N) into its image, in place."""
        _add_(x, weight, self._times(inside.masked, 1), -self.coeff)

    def invert_(self, weight: Tensor, bias: Tensor, image: Tensor) -> Inside:
        """Turn an image (C, N) into the block's input, but for rounding, in place; returns what is
        inside then. Worthless where c^2 m is not below 1, or rows are far from orthonormal.

        u = c W x + b solves u - c^2 m k(u) = v + c^2 (W W^T - I) m k(u), with v = c W image + b: a
        scalar equation for each entry of u, given the last term, whose fixed point is sought. See
        `models.inverse.decoupled`.
        """
        v = self._before(weight, bias, image.to(weight.dtype))
        mask, scale = self._mask(v), self._scale(v)
        solve = scalar_solution(self.activation, scale if mask is None else scale * mask)
        assert solve is not None
        rest = torch.mm(weight, weight.T)
        rest.diagonal().sub_(1)
        inner = solve(v)
        for _ in range(self._n_steps(rest)):
            masked = self._times(inner if mask is None else inner * mask, 2)
            inner = solve(torch.addmm(v, rest, masked, alpha=self.coeff**2))
        inside = Inside(image, inner, mask)
        _add_(image, weight, self._times(inside.masked, 1), self.coeff)
        return inside._replace(x=image.to(weight.dtype))

    def backward_(self, weight: Tensor, inside: Inside, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Turn the gradient by the image (C, N) into the gradient by the input, in place; returns
        the gradients by W (n, C) and b."""
        c, (x, inner, mask) = self.coeff, inside
        # Up to the factor -c.
        slope = torch.mm(weight, gradient)
        slope = slope if mask is None else slope.mul_(mask)
        slope = self._times(gradient_through(self.activation, inner, slope), 2)
        of_weight = torch.mm(self._times(inside.masked, 1), gradient.T)
        of_weight.addmm_(slope, x.T, beta=-c, alpha=-(c**2))
        gradient.addmm_(weight.T, slope, alpha=-(c**2))
        return of_weight, self._by_bias(slope).mul_(-c)

    def _before(self, weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
        """c W x + b."""
        return torch.addmm(bias.unsqueeze(1), weight, x, alpha=self.coeff)

    def _times(self, x: Tensor, power: int) -> Tensor:
        """Columns x times the power of what a column's own c has beyond `coeff`: as they are."""
        return x

    def _scale(self, v: Tensor) -> float | Tensor:
        """The square of c for each column of v: a number, or (1, N)."""
        return self.coeff**2

    def _by_bias(self, slope: Tensor) -> Tensor:
        """The gradient by b, up to the factor -c, from that by c W x + b."""
        return slope.sum(dim=1)

    def _mask(self, inner: Tensor) -> Tensor | None:
        if self.dropout == 0:
            return None
        generator = torch.Generator(inner.device).manual_seed(self.seed)
        kept = 1 - self.dropout
        mask = torch.empty_like(inner).bernoulli_(kept, generator=generator)
        return mask.div_(kept) if kept > 0 else mask

    @property
    def _largest_scale(self) -> float:
        return self.coeff**2

    def _n_steps(self, rest: Tensor) -> int:
        """The steps after which the error of the fixed point is below a unit of rounding."""
        eps = torch.finfo(rest.dtype).eps
        # |rest| s / (1 - s), with s = c^2 times the largest entry of a mask. NaN where weights are.
        scale = self._largest_scale
        factor = scale * rest.norm().item() / max(1 - self.dropout - scale, eps)
        factor = max(factor, eps) if factor < _SLOWEST else _SLOWEST
        return math.floor(math.log(eps) / math.log(factor))


@dataclass(frozen=True)
class ImageBlock(ColumnBlock):
    """x - a W^T m k(a (W x + T u)), with a = c s and the s and u of each image, as in a `Family`;
    the terms T (n, M) of the biases stand for b.

    Columns x (C, P B) are of B images with P pixels or patches each, the images of a pixel side by
    side.

    Attributes:
        own: s, (B,), of the dtype of W.
        positions: u, (M, B), of the dtype of W.
    """

    own: Tensor
    positions: Tensor

    def _before(self, weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
        before = torch.mm(weight, x).addmm_(bias, self._of_columns(x))
        return self._times(before, 1).mul_(self.coeff)

    def _times(self, x: Tensor, power: int) -> Tensor:
        factor = self.own if power == 1 else self.own.square()
        return (x.view(len(x), -1, len(factor)) * factor).view_as(x)

    def _scale(self, v: Tensor) -> float | Tensor:
        return self._times(torch.full_like(v[:1], self.coeff**2), 2)

    def _by_bias(self, slope: Tensor) -> Tensor:
        return torch.mm(slope, self._of_columns(slope).T).mul_(self.coeff)

    def _of_columns(self, x: Tensor) -> Tensor:
        return self.positions.repeat(1, x.shape[1] // self.positions.shape[1])

    @property
    def _largest_scale(self) -> float:
        return (self.coeff * self.own.max().item()) ** 2


def _add_(columns: Tensor, weight: Tensor, inner: Tensor, factor: float) -> None:
    """Add factor W^T inner to columns, in place."""
    if columns.dtype == weight.dtype:
        columns.addmm_(weight.T, inner, alpha=factor)
    else:
        columns.add_(torch.mm(weight.T, inner), alpha=factor)
