"""Residual blocks of ReLU in double-double arithmetic: each number is the sum of two float64
numbers, which has about 31 digits (Dekker 1971).

Input and kernel of a convolution are cut into slices of so few bits that float64 holds all sums of
products of two slices exactly, in any order (Ozaki et al. 2012, "Error-free transformations of
matrix multiplication by using fast routines of matrix multiplication"). Only products with the rest
that is left after two slices are rounded.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from models.layers.convolution import convolved
from models.norms.rounding import (
    ROOM,
    UNITS,
    Running,
    absolute_norm,
    after_layer,
    after_sums,
    norm_of,
)

DoubleDouble = tuple[Tensor, Tensor]
"""(high, low): float64, with their sum the number; |low| is at most a unit of rounding of
|high|."""

_UNIT, _UNDERFLOW = UNITS[torch.float64]


def takes(residual: nn.Sequential) -> bool:
    """Whether `residual_of` accepts g in eval mode: it has only convolutions and ReLU."""
    return all(isinstance(module, nn.Conv2d | nn.ReLU | nn.Dropout) for module in residual)


def add(left: DoubleDouble, right: DoubleDouble) -> DoubleDouble:
    """The sum, off by at most 4 _UNIT^2 (|left| + |right|)."""
    first, rest = _two_sum(left[0], right[0])
    return _two_sum(first, rest + (left[1] + right[1]))


@torch.no_grad()
def residual_of(residual: nn.Sequential, x: DoubleDouble, z: DoubleDouble) -> tuple[Tensor, Tensor]:
    """Returns (value, error) for x and z (B, C, H, W): x + g(x) - z in float64, and a proven bound
    (B,) of its error, l2, but for two units of rounding of the value itself. g must be in float64,
    on the CPU, and pass `takes`."""
    image, error = x, x[0].new_zeros(len(x[0]))
    for module in residual:
        if isinstance(module, nn.Conv2d):
            image, own = _convolved(module, image)
            error = absolute_norm(module) * error + own
        elif isinstance(module, nn.ReLU):
            # The first of the two summands has the sign of the sum.
            image = (image[0].relu(), torch.where(image[0] > 0, image[1], 0))
    total, of_total = _two_sum(x[0], image[0])
    # Both sums below round by a unit of the result, or of numbers that are themselves units of
    # rounding.
    rest = (of_total + image[1]) + (x[1] - z[1])
    error = error + 16 * _UNIT**2 * (norm_of(x[0]) + norm_of(image[0]) + norm_of(z[0]))
    return (total - z[0]) + rest, error


@torch.no_grad()
def bound_after(
    residual: nn.Sequential, x: DoubleDouble, step: Tensor, missing: Tensor, error: Tensor
) -> Tensor:
    """Proven bound (B,) of ||y + g(y) - z||, l2, for y = add(x, (step, 0)), from what `residual_of`
    returned for x and z: `missing` and `error`. Infinite where the input of a ReLU may change its
    sign between x and y. Elsewhere g is linear there, and of a small step float64 sees enough."""
    zero = torch.zeros_like(error)
    inside = Running(x[0], norm_of(x[1]), zero)
    # What `add` rounds moves y, and so the step, by as much.
    of_add = ROOM * 4 * _UNIT**2 * (norm_of(x[0]) + norm_of(step))
    moved = Running(step, of_add, zero)
    keeps_signs = error.isfinite()
    for index, module in enumerate(residual):
        if isinstance(module, nn.Conv2d):
            norm, n_terms = absolute_norm(module), module.weight[0].numel()
            image = convolved(moved.value, module.weight)
            moved = after_sums(moved, image, norm * norm_of(moved.value), norm, n_terms)
        elif isinstance(module, nn.ReLU):
            change = moved.value.abs() + (inside.off + moved.off).view(-1, 1, 1, 1)
            keeps_signs &= (inside.value.abs() > ROOM * change).flatten(1).all(dim=1)
            moved = replace(moved, value=moved.value * (inside.value > 0))
        if index < len(residual) - 1:
            inside = after_layer(module, inside)
    left = missing + (step + moved.value)
    of_sums = 4 * _UNIT * (norm_of(missing) + norm_of(step) + norm_of(moved.value))
    off = of_add + moved.off + of_sums
    return torch.where(keeps_signs, ROOM * (norm_of(left) + error + off), math.inf)


def _convolved(layer: nn.Conv2d, x: DoubleDouble) -> tuple[DoubleDouble, Tensor]:
    """Returns (output, bound): the layer's output at x, and a bound (B,) of its error, l2."""
    n_terms = layer.weight[0].numel() + 1
    # Twice as many products have an exact sum: those of first with second slices.
    n_bits = (53 - math.ceil(math.log2(2 * n_terms))) // 2
    w1, w2, w3 = (part.squeeze(0) for part in _slices(layer.weight.unsqueeze(0), n_bits))
    x1, x2, x3 = _slices(x[0], n_bits)
    x3, tail = x3 + x[1], layer.weight - w1

    total, of_total = _two_sum(convolved(x1, w1), convolved(x1, w2) + convolved(x2, w1))
    of_bias = torch.zeros(1)
    if layer.bias is not None:
        total, of_sum = _two_sum(total, layer.bias.view(1, -1, 1, 1))
        of_total, of_bias = of_total + of_sum, layer.bias.abs().amax()
    rounded = convolved(x1, w3) + convolved(x2, tail) + convolved(x3, layer.weight)
    total, rest = _two_sum(total, rounded + of_total)
    # The error of an entry of `rounded`: of sums of so many products, and of the sums of these.
    weights, parts = (w3, tail, layer.weight), (x[0], x2, x3)
    of_weights = [weight.abs().sum(dim=(1, 2, 3)).amax() for weight in weights]
    largest = [part.abs().flatten(1).amax(dim=1) for part in parts]
    sizes = [part * weight for part, weight in zip(largest, of_weights, strict=True)]
    off = (n_terms + 6) * _UNIT * sum(sizes, torch.zeros(1))
    off = off + 64 * _UNIT**2 * (largest[0] * of_weights[2] + of_bias) + _UNDERFLOW
    return (total, rest), ROOM * off * math.prod(rounded.shape[1:]) ** 0.5


def _slices(x: Tensor, n_bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split each sample of x (B, ...) into a sum of three: two whose entries are multiples of a
    power of two, with at most n_bits bits, and the rest."""
    largest = x.abs().flatten(1).amax(dim=1)
    # frexp gives 0 and numbers that are not finite the exponent 0.
    exponent = torch.frexp(largest).exponent.view(-1, *[1] * (x.dim() - 1))
    slices, rest = [], x
    for index in (1, 2):
        step = torch.ldexp(torch.ones_like(largest).view_as(exponent), exponent - index * n_bits)
        slices.append((rest / step).round() * step)
        rest = rest - slices[-1]
    return slices[0], slices[1], rest


def _two_sum(a: Tensor, b: Tensor) -> DoubleDouble:
    """Returns (sum, error): the rounded sum, and exactly what rounding took from it (Knuth)."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)
