"""Proven bounds on the Lipschitz constants of residual blocks, and of the network.

A layer's bound is that of its zero-padded convolution (`convolution_norm`), a block's the smaller
of the layers' product and of what their interplay allows (`block_norm`). They give the network's.

All bounds are l2 to l2, in float64. The effective weights are computed on the model's device, since
the last bits of sigma may differ on another one. Everything after that runs on the CPU: so the
proof of given weights does not depend on the device, and CUDA's eigensolvers do not take batches of
every size. The bounds are statements in real arithmetic, without the rounding of the forward pass.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor

from models.block_norm import bottleneck_upper_bounds
from models.body_layers import BlockLayers, Layer, body_layers
from models.certificate import UP, BlockBound, Certificate, Effort, LayerBound
from models.convolution_norm import convolution_norm_bounds
from models.forward_pass import forward_sha256
from models.iresnet import IResNet
from models.power_iteration import adjoint_kernel

# Layers in one batch, at most.
_MOST_LAYERS = 8
# Exponent of two: bounds below it are close to what float64 rounds to zero, and are raised to it.
_LEAST_EXPONENT = -1000


@torch.no_grad()
def certify(
    model: IResNet,
    effort: Effort = "full",
) -> Certificate:
    """Bound the Lipschitz constant of every residual block of the model.

    Args:
        model: in any mode; the bounds are of eval mode unless stated otherwise.
        effort: "full" looks for small bounds of the blocks, which a study stores and `project`
            promises; "fast" takes less time and gives larger ones, which are as true.

    Raises:
        ValueError: if effort is unknown, or `body_layers` refuses the invertible part.
    """
    if effort not in get_args(Effort):
        raise ValueError(f"effort must be one of {get_args(Effort)}, but got {effort!r}")
    blocks = body_layers(model)
    bounds = _layer_bounds([layer for block in blocks for layer in block.layers])
    interplay = _interplay_bounds(blocks, search=effort == "full")
    block_bounds = []
    for block in blocks:
        product = _raised_product([bounds[layer.name].upper_bound for layer in block.layers])
        upper_bound = min(product, interplay.get(block.name, math.inf))
        train_upper_bound = _number(upper_bound * block.train_factor)
        block_bounds.append(BlockBound(block.name, upper_bound, product, train_upper_bound))
    return Certificate(
        max((block.upper_bound for block in block_bounds), default=0.0),
        max((block.train_upper_bound for block in block_bounds), default=0.0),
        model.in_shape,
        tuple(block_bounds),
        tuple(bounds.values()),
        forward_sha256(model.body),
        effort,
    )


def _layer_bounds(layers: Sequence[Layer]) -> dict[str, LayerBound]:
    """The bounds of all layers, by name, in order; convolutions of one shape in one batch."""
    groups: dict[Any, list[tuple[str, Tensor]]] = defaultdict(list)
    bounds: dict[str, tuple[float, float]] = {}
    for layer in layers:
        if not layer.is_finite:
            bounds[layer.name] = (0.0, math.inf)
        elif layer.weight is None:
            bounds[layer.name] = (layer.factor / UP, _raised_product([layer.factor]))
        else:
            c_out, c_in = layer.weight.shape[:2]
            # The adjoint has the same norm: a layer and the transpose of another can share a batch.
            weight = adjoint_kernel(layer.weight) if c_out > c_in else layer.weight
            groups[(weight.shape, layer.size)].append((layer.name, weight))
    for (_, size), group in groups.items():
        units, exponents = _unit_scale(torch.stack([weight for _, weight in group]))
        pairs = in_threads(partial(_stacked_norm_bounds, size=size), units).tolist()
        for (name, _), exponent, (lower, upper) in zip(group, exponents, pairs, strict=True):
            bounds[name] = (_scaled_down(lower / UP, exponent), _scaled_up(upper * UP, exponent))
    return {
        layer.name: LayerBound(
            layer.name,
            "batch_norm" if layer.weight is None else "convolution",
            *bounds[layer.name],
            layer.folded,
        )
        for layer in layers
    }


def _stacked_norm_bounds(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """(L, 2): lower and upper bounds of the norms of L convolutions."""
    return torch.stack(convolution_norm_bounds(weight, size), dim=1)


def _interplay_bounds(blocks: Iterable[BlockLayers], search: bool) -> dict[str, float]:
    """Bounds of `block_norm` for the blocks that have its shape, by name."""
    groups: dict[Any, list[tuple[str, list[Tensor], float]]] = defaultdict(list)
    for block in blocks:
        weights = [layer.weight for layer in block.layers if layer.weight is not None]
        # Factors may stand ahead of the first convolution only.
        ahead = block.layers[: len(block.layers) - len(weights)]
        is_finite = all(layer.is_finite for layer in block.layers)
        if is_finite and all(layer.weight is None for layer in ahead) and _is_bottleneck(weights):
            key = (*(weight.shape for weight in weights), block.layers[0].size)
            factor = _raised_product([layer.factor for layer in ahead])
            groups[key].append((block.name, weights, factor))
    bounds: dict[str, float] = {}
    for (*_, size), group in groups.items():
        scaled = [_unit_scale(torch.stack([w[i] for _, w, _ in group])) for i in range(3)]
        first, second, third = (units for units, _ in scaled)
        bound = partial(bottleneck_upper_bounds, size=size, search=search)
        uppers = in_threads(bound, first, second[..., 0, 0], third).tolist()
        exponents = map(sum, zip(*(of_layers for _, of_layers in scaled), strict=True))
        for (name, _, factor), exponent, upper in zip(group, exponents, uppers, strict=True):
            bounds[name] = _raised_product([factor, upper], exponent)
    return bounds


def _is_bottleneck(weights: Sequence[Tensor]) -> bool:
    """Whether they are k x k, 1 x 1, k x k, with the fewest channels in between."""
    if len(weights) != 3:
        return False
    first, second, third = weights
    inner = first.shape[0]
    return (
        second.shape == (inner, inner, 1, 1)
        and third.shape[1] == inner
        and first.shape[2:] == third.shape[2:]
        and inner <= min(first.shape[1], third.shape[0])
    )


def _unit_scale(weight: Tensor) -> tuple[Tensor, list[int]]:
    """Finite float64 kernels (L, ...), each divided exactly by the power of two that brings its
    largest entry into [0.5, 1), and the L exponents. A kernel that is zero stays."""
    largest = weight.abs().flatten(1).amax(dim=1).tolist()
    exponents = [math.frexp(value)[1] for value in largest]
    # In two steps: the power itself may be too large or too small for a float64.
    halves = [exponent // 2 for exponent in exponents]
    for parts in (halves, [e - half for e, half in zip(exponents, halves, strict=True)]):
        powers = weight.new_tensor([2.0**-part for part in parts])
        weight = weight * powers.view(-1, *[1] * (weight.dim() - 1))
    return weight, exponents


def _scaled_up(value: float, exponent: int) -> float:
    """value * 2^exponent or more, for a value >= 0; zero for zero alone, infinite for NaN."""
    if not 0 < value < math.inf:
        return _number(value)
    if math.frexp(value)[1] + exponent <= _LEAST_EXPONENT:
        return math.ldexp(1.0, _LEAST_EXPONENT)
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.inf


def _scaled_down(value: float, exponent: int) -> float:
    """value * 2^exponent or less, for a value >= 0."""
    if not 0 < value < math.inf or math.frexp(value)[1] + exponent <= _LEAST_EXPONENT:
        return 0.0
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.ldexp(0.5, 1024)


def _raised_product(factors: Iterable[float], exponent: int = 0) -> float:
    """An upper bound of the product of numbers >= 0 and of 2^exponent, above it by rounding alone;
    infinite if one is infinite or NaN, zero only if one is zero."""
    mantissa = 1.0
    for factor in factors:
        if not factor < math.inf:
            return math.inf
        part, its_exponent = math.frexp(factor)
        mantissa, exponent = mantissa * part, exponent + its_exponent
    return _scaled_up(mantissa * UP, exponent)


def in_threads(function: Callable[..., Tensor], *batches: Tensor) -> Tensor:
    """function(*batches), with the batches (L, ...) in parts, on as many threads as torch has.
    LAPACK takes the matrices of a batch one after another, on one thread; and the symbols of a few
    layers fit into the caches, those of all do not."""
    n_layers, n_threads = len(batches[0]), torch.get_num_threads()
    n_chunks = min(n_layers, max(n_threads, -(-n_layers // _MOST_LAYERS)))
    with ThreadPoolExecutor(n_threads) as pool:
        return torch.cat(list(pool.map(function, *(batch.chunk(n_chunks) for batch in batches))))


def _number(value: float) -> float:
    """The value, or infinity for NaN, which bounds nothing."""
    return math.inf if math.isnan(value) else value
