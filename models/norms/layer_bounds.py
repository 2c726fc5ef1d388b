"""Proven bounds of the norms of a network's layers; layers of one shape share a batch."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from models.floats.raised import UP, raised_product, scaled_down, scaled_up
from models.floats.threads import in_threads
from models.layers.known import Layer
from models.layers.power_iteration import adjoint_kernel
from models.norms.convolution_norm import convolution_norm_bounds


@dataclass(frozen=True)
class LayerBound:
    """Proven bounds of one layer's Lipschitz constant, in eval mode, l2 to l2.

    Attributes:
        name: the module's path in model.named_modules().
        kind: "convolution", or "batch_norm" for a BatchNorm with no convolution ahead of it.
        lower_bound: attained by a vector, so the norm lies between lower_bound and upper_bound.
        upper_bound: infinite if the weights are not finite.
        folded: path of the BatchNorm that was folded into this convolution, or None.
    """

    name: str
    kind: str
    lower_bound: float
    upper_bound: float
    folded: str | None = None


def layer_bounds(layers: Sequence[Layer]) -> dict[str, LayerBound]:
    """The bounds of all layers, by name, in order."""
    groups: dict[Any, list[tuple[str, Tensor]]] = defaultdict(list)
    bounds: dict[str, tuple[float, float]] = {}
    for layer in layers:
        if not layer.is_finite:
            bounds[layer.name] = (0.0, math.inf)
        elif layer.weight is None:
            assert layer.factors is not None
            largest = layer.factors.abs().max().item()
            bounds[layer.name] = (largest / UP, raised_product([largest]))
        else:
            c_out, c_in = layer.weight.shape[:2]
            # The adjoint has the same norm: a layer and the transpose of another can share a batch.
            weight = adjoint_kernel(layer.weight) if c_out > c_in else layer.weight
            groups[(weight.shape, layer.size)].append((layer.name, weight))
    for (_, size), group in groups.items():
        units, exponents = unit_scale(torch.stack([weight for _, weight in group]))
        pairs = in_threads(partial(_stacked_norm_bounds, size=size), units).tolist()
        for (name, _), exponent, (lower, upper) in zip(group, exponents, pairs, strict=True):
            bounds[name] = (scaled_down(lower / UP, exponent), scaled_up(upper * UP, exponent))
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


def unit_scale(weight: Tensor) -> tuple[Tensor, list[int]]:
    """Returns (kernels, exponents): finite float64 kernels (L, ...), each divided exactly by the
    power of two that brings its largest entry into [0.5, 1); the L exponents. Zero kernels stay."""
    largest = weight.abs().flatten(1).amax(dim=1).tolist()
    exponents = [math.frexp(value)[1] for value in largest]
    # In two steps: the power itself may be too large or too small for a float64.
    halves = [exponent // 2 for exponent in exponents]
    for parts in (halves, [e - half for e, half in zip(exponents, halves, strict=True)]):
        powers = weight.new_tensor([2.0**-part for part in parts])
        weight = weight * powers.view(-1, *[1] * (weight.dim() - 1))
    return weight, exponents
