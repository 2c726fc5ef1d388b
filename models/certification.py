"""Proven bounds on the Lipschitz constants of residual blocks, and of the network.

A layer's bound is that of its zero-padded convolution (`convolution_norm`), that of a block's g the
smaller of the layers' product and of what their interplay allows (`block_bounds`). The bounds of
the block itself and of its inverse are those of `block_bounds`, or 1 + L and 1 / (1 - L) where
these are smaller. Their products over the blocks are the network's.

All bounds are l2 to l2, in float64. The effective weights are computed on the model's device, since
the last bits of sigma may differ on another one. Everything after that runs on the CPU: so the
proof of given weights does not depend on the device, and CUDA's eigensolvers do not take batches of
every size. The bounds are statements in real arithmetic, without the rounding of the forward pass.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor

from models.arithmetic import refuse_flushed_denormals
from models.block import Bounds
from models.block_bounds import block_bounds
from models.body_layers import BlockLayers, Layer, body_layers, features_shape
from models.certificate import (
    BlockBound,
    Certificate,
    Effort,
    LayerBound,
)
from models.classifier_bounds import logit_difference_bounds
from models.convolution_norm import convolution_norm_bounds
from models.forward_pass import forward_sha256
from models.inputs import number
from models.iresnet import IResNet
from models.power_iteration import adjoint_kernel
from models.raised import SEARCH_ROOM, UP, raised_product, scaled_down, scaled_up
from models.threads import MOST_LAYERS, in_threads, single_threaded_operations

# Entries of a program of `block_bounds` in one batch, about.
_MOST_ENTRIES = 2**17
# Exponent of two of the product of a block's largest weights.
_FAR = 40


@torch.no_grad()
def certify(
    model: IResNet,
    effort: Effort = "full",
    *,
    search_room: float = SEARCH_ROOM,
) -> Certificate:
    """Bound the Lipschitz constant of every residual block of the model.

    Args:
        model: in any mode; the bounds are of eval mode unless stated otherwise.
        effort: "full" looks for small bounds of the blocks, which a study stores and `project`
            promises; "fast" takes less time and gives larger ones, which are as true.
        search_room: >= 0, by how much more than proven the bounds of `block_bounds` are off 1, and
            that of g off 0, so that another processor can prove them too; with 0 they are what is
            proven here.

    Raises:
        TypeError: if search_room is no number.
        ValueError: if effort is unknown, search_room is not finite or negative, `body_layers`
            refuses the invertible part, or torch flushes denormal numbers to zero.
    """
    if effort not in get_args(Effort):
        raise ValueError(f"effort must be one of {get_args(Effort)}, but got {effort!r}")
    search_room = number("search_room", search_room)
    if not 0 <= search_room < math.inf:
        raise ValueError(f"search_room must be finite and >= 0, but got search_room={search_room}")
    refuse_flushed_denormals()
    blocks = body_layers(model)
    bounds = _layer_bounds([layer for block in blocks for layer in block.layers])
    interplay = _interplay_bounds(blocks, search=effort == "full")
    block_bounds = []
    for block in blocks:
        if block.own is not None:
            block_bounds.append(_of_another_author(block, block.own))
            continue
        factors = [bounds[layer.name].upper_bound for layer in block.layers]
        # Of a potential block, W and its adjoint.
        product = raised_product(2 * factors if block.is_potential else factors)
        of_g, forward, lower = interplay.get(block.name, (math.inf, math.inf, 0.0))
        upper_bound = min(product, of_g * (1 + search_room))
        forward = 1 + (forward - 1) * (1 + search_room)
        lower = 1 - (1 - lower) * (1 + search_room)
        inverse = UP / lower if lower > 0 else math.inf
        if upper_bound < 1:
            inverse = min(inverse, UP / (1 - upper_bound))
        forward = min(forward, 1 + upper_bound) * UP
        if block.is_potential:
            # The eigenvalues of its Jacobians are in [1 - upper_bound, 1].
            forward = max(1.0, upper_bound - 1)
        block_bounds.append(
            BlockBound(
                block.name,
                upper_bound,
                product,
                _number(upper_bound * block.train_factor),
                map_lipschitz_upper_bound=forward,
                inverse_lipschitz_upper_bound=inverse,
            )
        )
    return Certificate(
        max((block.upper_bound for block in block_bounds), default=0.0),
        max((block.train_upper_bound for block in block_bounds), default=0.0),
        model.in_shape,
        tuple(block_bounds),
        tuple(bounds.values()),
        *_logits(model),
        forward_sha256(model.body),
        forward_sha256(model.classifier),
        effort,
    )


def _of_another_author(block: BlockLayers, own: Bounds) -> BlockBound:
    """What follows from the bounds that a block's author proves."""
    upper_bound = raised_product([own.lipschitz])
    inverse = UP / own.alpha if own.alpha > 0 else math.inf
    if upper_bound < 1:
        inverse = min(inverse, UP / (1 - upper_bound))
    return BlockBound(
        block.name,
        upper_bound,
        upper_bound,
        math.inf,
        map_lipschitz_upper_bound=min(own.beta * UP, (1 + upper_bound) * UP),
        inverse_lipschitz_upper_bound=inverse,
        proven_by=block.author,
    )


def with_classifier(certificate: Certificate, model: IResNet) -> Certificate:
    """The certificate of a model of which the classifier alone has changed since."""
    bounds, unknown = _logits(model)
    return replace(
        certificate,
        logit_difference_bounds=bounds,
        unknown_classifier=unknown,
        classifier_sha256=forward_sha256(model.classifier),
    )


def _logits(model: IResNet) -> tuple[tuple[tuple[float, ...], ...], str | None]:
    """(the bounds of the differences of logits, why there are none)."""
    shape = features_shape(model)
    try:
        bounds = logit_difference_bounds(model.classifier, shape, model.training)
    except ValueError as error:
        return (), str(error)
    return tuple(map(tuple, bounds.tolist())), None


def _layer_bounds(layers: Sequence[Layer]) -> dict[str, LayerBound]:
    """The bounds of all layers, by name, in order; convolutions of one shape in one batch."""
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
        units, exponents = _unit_scale(torch.stack([weight for _, weight in group]))
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


def _interplay_bounds(
    blocks: Iterable[BlockLayers], search: bool
) -> dict[str, tuple[float, float, float]]:
    """Name -> (Lip(g), beta, alpha) of `block_bounds`, for the blocks that have its shape."""
    groups: dict[Any, list[tuple[BlockLayers, list[Tensor], int]]] = defaultdict(list)
    for block in blocks:
        ahead, weights = _parts(block)
        if block.own is not None or not _is_finite(block) or not _is_bottleneck(weights):
            continue
        # Factors ahead commute with what an activation does there.
        exponent = 0
        for index, factors in enumerate(ahead):
            if index == 0:
                weights[0], exponent = _unit_scale_of_one(weights[0])
            factors, more = _unit_scale_of_one(factors)
            weights[0], exponent = weights[0] * factors.view(1, -1, 1, 1), exponent + more
        is_activated = any(index <= len(ahead) for index in block.activated)
        key = (*(weight.shape for weight in weights), block.layers[0].size, is_activated)
        groups[key].append((block, weights, exponent))
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
        for (block, _, _), exponent, (of_g, forward, lower) in zip(
            group, exponents, found, strict=True
        ):
            # Those of x + g are of blocks that do not end in an activation.
            if abs(exponent) >= _FAR or len(block.layers) in block.activated:
                forward, lower = math.inf, 0.0
            bounds[block.name] = (raised_product([of_g], exponent), forward, lower)
    return bounds


def _parts(block: BlockLayers) -> tuple[list[Tensor], list[Tensor]]:
    """(the factors of the layers ahead of the first convolution; the kernels, none if there are
    factors behind it)."""
    weights = [layer.weight for layer in block.layers if layer.weight is not None]
    n_ahead = len(block.layers) - len(weights)
    ahead = [layer.factors for layer in block.layers[:n_ahead] if layer.factors is not None]
    return (ahead, weights) if len(ahead) == n_ahead else ([], [])


def _is_finite(block: BlockLayers) -> bool:
    return all(layer.is_finite for layer in block.layers)


def _units(groups: Sequence[Sequence[Tensor]]) -> tuple[list[Tensor], list[int]]:
    """The three kernels of L bottlenecks, each stacked and scaled by `_unit_scale`, the second as
    matrices; and the L exponents of their product."""
    scaled = [_unit_scale(torch.stack(of_one)) for of_one in zip(*groups, strict=True)]
    (first, second, third), exponents = zip(*scaled, strict=True)
    return [first, second[..., 0, 0], third], [sum(of) for of in zip(*exponents, strict=True)]


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


def _unit_scale_of_one(weight: Tensor) -> tuple[Tensor, int]:
    units, exponents = _unit_scale(weight.unsqueeze(0))
    return units[0], exponents[0]


def _number(value: float) -> float:
    """The value, or infinity for NaN, which bounds nothing."""
    return math.inf if math.isnan(value) else value
