"""Bounds of the rounding in the evaluation of blocks, in float32 or float64: a running error
analysis (Higham, Accuracy and Stability of Numerical Algorithms, 3.3).

Convolutions and sums are assumed to be sums of products in the precision of their inputs, in any
order, as torch's are on CPUs and GPUs with the settings that `floats.torch_modes` asks for; no
Winograd and no Fourier form. The error of a sum of n products is at most n units of rounding times
the sum of their absolute values (3.1).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.floats.norm import scaled_norm
from models.layers.activations import ACTIVATIONS
from models.layers.convolution import convolved

UNITS = {torch.float32: (2.0**-24, 2.0**-100), torch.float64: (2.0**-53, 2.0**-900)}
"""dtype -> (unit of rounding, a number far above the sum of all underflows in a layer's
products)."""
# The most operations, of one rounding each, that an activation or BatchNorm does on an entry.
_FEW = 8
ROOM = 1.01
"""A factor for terms of higher order, and for the rounding of the bounds themselves, which are
computed in the precision of the maps."""


# Steps of Schur's test: with four, the bounds of trained layers exceed the norm by 1e-4 at most.
_N_SCHUR_STEPS = 4
# Its vectors stay positive: no entry is below this share of the largest.
_LEAST_SHARE = 1e-3
# Far above the rounding of its sums in float64.
_SCHUR_ROOM = 1 + 1e-9


@dataclass(frozen=True)
class Running:
    """The state of a forward pass after some layers, on B samples and all inputs in a ball around
    each.

    Attributes:
        value: float32 or float64 (B, ...), as computed for the sample.
        spread: float64 (B,), bound of the l2 distance between the exact values at the sample and at
            any other input in the ball.
        error: float64 (B,), bound of the rounding up to here, l2, at any input in the ball.
    """

    value: Tensor
    spread: Tensor
    error: Tensor

    @property
    def off(self) -> Tensor:
        """(B,): bound of the distance of `value` from what is computed at any input in the ball."""
        return self.spread + 2 * self.error

    def as_input(self) -> "Running":
        """This state taken as an input: the rounding so far becomes part of the ball."""
        return Running(self.value, self.off, torch.zeros_like(self.error))


def after_block(residual: nn.Sequential, before: Running, lipschitz: float) -> Running:
    """The state after a block x + g(x), with `residual` its g in plain modules. An error in the
    input grows by at most the factor `lipschitz`, and the block adds its own rounding."""
    return after_sum(before, inside_block(residual, before)[-1], lipschitz)


def inside_block(residual: nn.Sequential, before: Running) -> list[Running]:
    """The states after each module of a block's g, whose input is taken as it was computed."""
    states = [before.as_input()]
    for module in residual:
        states.append(after_layer(module, states[-1]))
    return states[1:]


def after_sum(before: Running, inside: Running, lipschitz: float) -> Running:
    """The state after a block x + g(x), with the states before it and at the end of its g."""
    unit, underflow = UNITS[before.value.dtype]
    size = norm_of(before.value) + before.off + norm_of(inside.value) + inside.off
    error = lipschitz * before.error + inside.error + unit * size + underflow
    error = _unless_too_large(error, size, before.value.dtype)
    return Running(before.value + inside.value, lipschitz * before.spread, error)


def after_own_block(
    block: nn.Module, before: Running, lipschitz: float, rounding: float
) -> Running:
    """The state after a block x + g(x) of another author, who proves that its output is off by at
    most `rounding` times the unit of rounding times |x| + 1."""
    unit, underflow = UNITS[before.value.dtype]
    value = block(before.value)
    size = norm_of(before.value) + before.off + 1
    error = lipschitz * before.error + rounding * unit * size + underflow
    error = _unless_too_large(error, lipschitz * size, before.value.dtype)
    return Running(value, lipschitz * before.spread, error)


def after_layer(module: nn.Module, before: Running) -> Running:
    """The state after a convolution, a BatchNorm, an activation, or a module that does nothing in
    eval mode. The number of terms and the sum of their absolute values bound the rounding."""
    x = before.value
    if isinstance(module, nn.Conv2d):
        value = convolved(x, module.weight, module.bias)
        kernel = module.weight.abs()
        bias = None if module.bias is None else module.bias.abs()
        size = norm_of(convolved(x.abs(), kernel, bias))
        lipschitz = absolute_norm(module)
        n_terms = kernel[0].numel() + 1
    elif isinstance(module, nn.BatchNorm2d):
        value = module(x)
        assert module.running_mean is not None
        assert module.running_var is not None
        variance = module.running_var + module.eps
        # A denormal one has lost bits.
        variance = variance.masked_fill(variance < torch.finfo(x.dtype).tiny, 0.0)
        scale = variance.rsqrt()
        if module.weight is not None:
            scale = module.weight.abs() * scale
        offset = scale * module.running_mean.abs()
        if module.bias is not None:
            offset = module.bias.abs() + offset
        size = norm_of(x.abs() * scale.view(-1, 1, 1) + offset.view(-1, 1, 1))
        lipschitz = scale.max().item()
        n_terms = _FEW
    elif type(module) in ACTIVATIONS.values():
        value = module(x)
        # A softplus is at most |x| + log(2), and log(2) at 0.
        size = norm_of(x.abs() + math.log(2))
        lipschitz = 1.0
        n_terms = 0 if isinstance(module, nn.ReLU) else _FEW
    elif isinstance(module, nn.Dropout | nn.Identity):
        return before
    else:
        raise TypeError(f"no bound of the rounding is known for a {type(module).__name__}")
    return after_sums(before, value, size, lipschitz, n_terms)


def after_sums(
    before: Running, value: Tensor, size: Tensor, lipschitz: float | Tensor, n_terms: int
) -> Running:
    """The state after a map with the output `value`, each entry of which is a sum of `n_terms`
    terms or takes as few operations. `size` (B,) is the l2 norm of the sums of the terms' absolute
    values; `lipschitz` bounds how fast the map and `size` grow with the input. If `before` has
    columns (B, 1), each of K outputs has its own: `size` (B, K), `lipschitz` (1, K)."""
    unit, underflow = UNITS[before.value.dtype]
    size = size + lipschitz * before.off
    rounding = n_terms * unit / (1 - n_terms * unit) * size + underflow
    rounding = _unless_too_large(rounding, size, before.value.dtype)
    return Running(value, lipschitz * before.spread, lipschitz * before.error + rounding)


def _unless_too_large(error: Tensor, size: Tensor, dtype: torch.dtype) -> Tensor:
    """The bound `error`, (B,) or (B, K), of the rounding of sums; infinite where the sums of their
    terms' absolute values, at most `size` in the ball, may overflow or are not known."""
    return torch.where(2 * size < torch.finfo(dtype).max, error, math.inf)


def absolute_norm(layer: nn.Conv2d) -> float:
    """Upper bound of the norm of a convolution with the absolute kernel, by the norm of the matrix
    M of the kernel's sums over taps. M has no negative entry, so for any positive vector v its norm
    is at most the square root of the largest entry of M^T M v / v (Schur's test)."""
    # On the CPU, where certificates are computed too.
    taps = layer.weight.abs().sum(dim=(2, 3)).double().cpu()
    largest = taps.max().item()
    if not 0 < largest < math.inf:
        return largest
    taps = taps / largest  # so that nothing underflows
    vector, squared = taps.new_ones(taps.shape[1]), math.inf
    for _ in range(_N_SCHUR_STEPS):
        image = taps.T @ (taps @ vector)
        squared = min(squared, (image / vector).max().item())
        vector = image.clamp(min=_LEAST_SHARE * image.max().item())
    return math.sqrt(squared) * largest * _SCHUR_ROOM


def norm_of(x: Tensor) -> Tensor:
    """(B,), float64: the l2 norm of each sample, as `scaled_norm` computes it."""
    return scaled_norm(x).double()
