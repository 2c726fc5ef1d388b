"""Proven bounds of bottlenecks g = W3 k(W2 k(W1 k0(x))) of any scale, from what
`block_bounds` proves of kernels whose entries are near 1. Blocks of one shape share a batch."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from models.floats.raised import raised_product
from models.floats.threads import MOST_LAYERS, in_threads, single_threaded_operations
from models.layers.known import Layer
from models.norms.block_bounds import block_bounds
from models.norms.layer_bounds import unit_scale

# The number of entries of a program of `block_bounds` in one batch, about.
_MOST_ENTRIES = 2**17
# x and g(x) are bounded together if g's scale is between 2^-_FAR and 2^_FAR.
_FAR = 40


def bottleneck_bounds(
    blocks: Mapping[str, tuple[Sequence[Layer], Sequence[int]]], search: bool
) -> dict[str, tuple[float, float, float]]:
    """Name -> proven (Lip(g), beta, alpha), for those blocks that have the shape of a bottleneck.

    Args:
        blocks: name -> (layers, activated): the linear maps of g, in order; and the indices i of
            activations, with slopes in [0, 1], ahead of layers[i] or behind them all.
        search: as in `block_bounds`.
    """
    groups: dict[Any, list[tuple[str, list[Tensor], int]]] = defaultdict(list)
    for name, (layers, activated) in blocks.items():
        ahead, weights = _parts(layers)
        if not all(layer.is_finite for layer in layers) or not _is_bottleneck(weights):
            continue
        # Factors ahead commute with what an activation does there.
        exponent = 0
        for index, factors in enumerate(ahead):
            if index == 0:
                weights[0], exponent = _unit_scale_of_one(weights[0])
            factors, more = _unit_scale_of_one(factors)
            weights[0], exponent = weights[0] * factors.view(1, -1, 1, 1), exponent + more
        is_activated = any(index <= len(ahead) for index in activated)
        key = (*(weight.shape for weight in weights), layers[0].size, is_activated)
        groups[key].append((name, weights, exponent))
    bounds: dict[str, tuple[float, float, float]] = {}
    for (*_, size, is_activated), group in groups.items():
        units, exponents = _units([weights for _, weights, _ in group])
        exponents = [e + more for e, (_, _, more) in zip(exponents, group, strict=True)]
        # Beyond these nothing is gained, or lost, by looking at x and g(x) together.
        scale = units[0].new_tensor([math.ldexp(1.0, max(-_FAR, min(e, _FAR))) for e in exponents])
        bound = partial(block_bounds, size=size, is_activated=is_activated, search=search)
        # Several matrices of so many entries are in use at a time, and should fit into the caches.
        n_entries = 4 * units[1].shape[1] ** 2 * math.prod(size)
        most = max(1, min(MOST_LAYERS, _MOST_ENTRIES // n_entries))
        with single_threaded_operations() as n_threads:
            found = in_threads(bound, *units, scale, most=most, n_threads=n_threads).tolist()
        for (name, _, _), exponent, (of_g, forward, lower) in zip(
            group, exponents, found, strict=True
        ):
            layers, activated = blocks[name]
            # x + g is bounded for blocks that do not end in an activation.
            if abs(exponent) >= _FAR or len(layers) in activated:
                forward, lower = math.inf, 0.0
            bounds[name] = (raised_product([of_g], exponent), forward, lower)
    return bounds


def _parts(layers: Sequence[Layer]) -> tuple[list[Tensor], list[Tensor]]:
    """Returns (ahead, kernels): the factors of the layers ahead of the first convolution, and the
    kernels; both empty if a layer with factors stands behind a convolution."""
    weights = [layer.weight for layer in layers if layer.weight is not None]
    n_ahead = len(layers) - len(weights)
    ahead = [layer.factors for layer in layers[:n_ahead] if layer.factors is not None]
    return (ahead, weights) if len(ahead) == n_ahead else ([], [])


def _units(groups: Sequence[Sequence[Tensor]]) -> tuple[list[Tensor], list[int]]:
    """Returns (kernels, exponents): the three kernels of L bottlenecks, each stacked and scaled by
    `unit_scale`, the second as matrices; and for each bottleneck the sum of its three exponents."""
    scaled = [unit_scale(torch.stack(of_one)) for of_one in zip(*groups, strict=True)]
    (first, second, third), exponents = zip(*scaled, strict=True)
    return [first, second[..., 0, 0], third], [sum(of) for of in zip(*exponents, strict=True)]


def _is_bottleneck(weights: Sequence[Tensor]) -> bool:
    """Whether kernels are k x k, 1 x 1, k x k, with no more channels between them than outside."""
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


def _unit_scale_of_one(weight: Tensor) -> tuple[Tensor, int]:
    units, exponents = unit_scale(weight.unsqueeze(0))
    return units[0], exponents[0]
