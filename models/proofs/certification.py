"""Proven bounds on the Lipschitz constants of residual blocks, and of the network.

Each layer is bounded as a zero-padded convolution (`norms.convolution_norm`). From its layers each
kind of block proves bounds of g, of the block itself and of its inverse. The products of the block
bounds and of the inverse bounds over all blocks are the network's.

All bounds are l2 to l2, computed in float64, and hold in real arithmetic, without the rounding of
the forward pass. The effective weights are computed on the model's device, since the last bits of
sigma may differ on another one. Everything after that runs on the CPU: so the proof of given
weights does not depend on the device, and CUDA's eigensolvers do not take batches of every size.
"""

import math
from collections import defaultdict
from dataclasses import replace
from typing import get_args

import torch

from models.arguments import number
from models.blocks.invertible_block import BlockBound, BlockReading, InvertibleBlock
from models.blocks.kinds import author_of, is_known
from models.floats.raised import SEARCH_ROOM
from models.floats.torch_modes import refuse_flushed_denormals
from models.heads.kinds import head_of
from models.isometries import ISOMETRIES, Isometry, Shape, checked_shape
from models.layers.known import check_parts, unknown
from models.network.certificate import Certificate, Effort
from models.network.forward_pass import forward_sha256, refuse_more, refuse_other_network
from models.network.iresnet import IResNet
from models.norms.layer_bounds import layer_bounds


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
        effort: "full" searches for small bounds of the blocks, as a study and `project` do; "fast"
            takes less time and gives larger bounds, which are proven too.
        search_room: >= 0, relative: by how much bounds that come from a search are widened beyond
            what was proven here, so that another processor can prove them too.

    Raises:
        TypeError: if search_room is no number.
        ValueError: if effort is unknown, search_room is not finite or negative, `read_body` refuses
            the invertible part, or torch flushes denormal numbers to zero.
    """
    if effort not in get_args(Effort):
        raise ValueError(f"effort must be one of {get_args(Effort)}, but got {effort!r}")
    search_room = number("search_room", search_room)
    if not 0 <= search_room < math.inf:
        raise ValueError(f"search_room must be finite and >= 0, but got search_room={search_room}")
    refuse_flushed_denormals()
    blocks, shape = read_body(model)
    readings = [reading for _, reading in blocks]
    norms = layer_bounds([layer for reading in readings for layer in reading.layers])
    of_kinds: dict[type[BlockReading], list[BlockReading]] = defaultdict(list)
    for reading in readings:
        of_kinds[type(reading)].append(reading)
    bounds: dict[str, BlockBound] = {}
    for kind, members in of_kinds.items():
        found = kind.bounds(members, norms, search=effort == "full", search_room=search_room)
        bounds |= {bound.name: bound for bound in found}
    proven = tuple(
        replace(bounds[reading.name], proven_by=author_of(block)) for block, reading in blocks
    )
    return Certificate(
        max((block.upper_bound for block in proven), default=0.0),
        max((block.train_upper_bound for block in proven), default=0.0),
        model.in_shape,
        proven,
        tuple(norms.values()),
        *_logits(model, shape),
        forward_sha256(model.body),
        forward_sha256(model.classifier),
        effort,
    )


def with_classifier(certificate: Certificate, model: IResNet) -> Certificate:
    """The certificate of a model whose classifier alone has changed since it was certified.

    >>> models.recompute_batch_norm(model, images)
    >>> models.with_classifier(certificate, model) == models.certify(model)
    True
    """
    bounds, why_unknown = _logits(model, _features_shape(model))
    return replace(
        certificate,
        logit_difference_bounds=bounds,
        unknown_classifier=why_unknown,
        classifier_sha256=forward_sha256(model.classifier),
    )


@torch.no_grad()
def read_body(model: IResNet) -> tuple[list[tuple[InvertibleBlock, BlockReading]], Shape]:
    """Returns (blocks, shape): the residual blocks in the order of the forward pass, each with the
    numbers from which its bounds are proven; and the shape of the features. Raises ValueError, with
    the path, the rule and what was found, if no bound is known for a module."""
    refuse_other_network(model, IResNet)
    shape = checked_shape("the root", model.in_shape)
    blocks: list[tuple[InvertibleBlock, BlockReading]] = []
    # By position: a module that stands in two places counts twice.
    for name, module in model.body._modules.items():
        path = f"body.{name}"
        if type(module) in ISOMETRIES:
            assert isinstance(module, Isometry)
            check_parts(path, module, set())
            shape = module.out_shape(path, shape)
        elif is_known(module):
            assert isinstance(module, InvertibleBlock)
            blocks.append((module, _read(path, module, shape)))
        else:
            raise ValueError(unknown(path, module))
    return blocks, shape


def _read(path: str, block: InvertibleBlock, shape: Shape) -> BlockReading:
    if checked_shape(path, block.in_shape) != shape:
        raise ValueError(
            f"the {type(block).__name__} at {path} must be for maps of shape {shape}, which come "
            f"to it, but has in_shape={block.in_shape}"
        )
    try:
        return block.read(path)
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise  # of the device, and no fault of the network
    except (ArithmeticError, AttributeError, RuntimeError, TypeError) as error:
        # Settings and tensors with which the forward pass fails too.
        raise ValueError(
            f"the {type(block).__name__} at {path} must be one that runs, but its layers "
            f"give {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        ) from error


def _features_shape(model: IResNet) -> Shape:
    """(C, H, W) of the features of a network that `read_body` accepts."""
    shape = model.in_shape
    for name, module in model.body._modules.items():
        if isinstance(module, Isometry):
            shape = module.out_shape(f"body.{name}", shape)
    return shape


def _logits(model: IResNet, shape: Shape) -> tuple[tuple[tuple[float, ...], ...], str | None]:
    """Returns (bounds, reason): the bounds of the differences of logits as functions of features of
    `shape`, and None; or (), and the reason why none are known."""
    try:
        head = head_of(model.classifier)
        refuse_more(model.classifier, "classifier", model.training)
        bounds = head.difference_bounds(model.classifier, shape)
    except ValueError as error:
        return (), str(error)
    return tuple(map(tuple, bounds.tolist())), None
