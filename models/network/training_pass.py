"""The forward pass of a network in training, with the gradient of its potential blocks written out.

A run of potential blocks with orthonormal rows is one function. Its maps are matrices with a column
for each image, so that each kind of block sees its pixels or patches as columns without a copy, and
to cut other patches is to move rows: a permutation.

A reversible run keeps its first and its last map, however deep it is. Its backward pass computes
the maps between them anew, from the last one back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.blocks.invertible_block import InvertibleBlock
from models.blocks.potential import PotentialBlock
from models.isometries import Flatten, Patches, Shape
from models.layers.activations import ACTIVATIONS
from models.layers.orthonormal import OrthonormalConv2d
from models.network.column_block import ColumnBlock, ImageBlock, Inside
from models.network.iresnet import IResNet

# The largest error of a map that comes back, relative to the maps of its batch.
_TOLERANCE = 0.01


class NotReversedError(ArithmeticError):
    """A reversible run of blocks amplifies rounding too much: its input does not come back."""


@dataclass(frozen=True)
class OfImages:
    """What each image of a batch has of its own in reversible blocks, as a member of a family.

    Attributes:
        scale: (B,), by which it multiplies a layer's coeff; b is multiplied by it too.
        positions: (M, B), where it stands among all images.
        biases: layer -> terms (n, M): b (n, B), before that, is their product with the positions.
    """

    scale: Tensor
    positions: Tensor
    biases: Mapping[nn.Module, Tensor]


def training_features(
    model: IResNet, x: Tensor, *, reversible: bool = False, of_images: OfImages | None = None
) -> Tensor:
    """The features (B, C', H', W') of a network in training mode for images x (B, C, H, W): those
    of model.features(x) with other rounding, other draws of dropout masks, and, under autocast,
    maps in its dtype.

    Args:
        reversible: whether the backward pass inverts potential blocks with orthonormal rows, in
            place of keeping their maps; see `is_reversible`. All other blocks keep theirs. Maps
            between such blocks stay in the dtype of x, under autocast too; products do not.
        of_images: in place of the coefficients and biases of all blocks that `is_reversible` names.

    The backward pass of a reversible one raises NotReversedError if an input of a run of such
    blocks comes back off by more than 0.01 of the root mean square of the batch's norms, l2. With
    coeff / (1 - dropout) below 1, as an inverse needs it, these blocks move no two points apart,
    so that no later map is further off, but for rounding.
    """
    weights = model.effective_weights()
    for in_run, modules in groupby(model.body, _joins):
        if in_run:
            x = _through(list(modules), x, reversible, of_images)
            continue
        for module in modules:
            x = module.image(x, weights) if isinstance(module, InvertibleBlock) else module(x)
    return x


def is_reversible(block: nn.Module) -> bool:
    """Whether a reversible training pass inverts this block: a potential block of this package on
    patches or single pixels, under norm: spectral."""
    if type(block) is not PotentialBlock or type(block.conv) is not OrthonormalConv2d:
        return False
    return type(block.activation) in ACTIVATIONS.values()


def kept_bytes(model: IResNet, batch_size: int, dtype: torch.dtype) -> int:
    """The bytes of the maps of all reversible blocks that a training pass in `dtype` keeps if it is
    not reversible, for so many images."""
    n_numbers = 0
    for block in model.blocks:
        if isinstance(block, PotentialBlock) and is_reversible(block):
            n_inner = len(block.conv.weight) * (1 if block.dropout is None else 2)
            channels, height, width = block.in_shape
            n_numbers += (channels + n_inner) * height * width
    return n_numbers * batch_size * dtype.itemsize


def _joins(module: nn.Module) -> bool:
    return is_reversible(module) or isinstance(module, Flatten | Patches)


@dataclass(frozen=True)
class _Moved:
    """The rows of a map in another order: row to[i] moves to i, and row i to back[i]."""

    to: Tensor
    back: Tensor


_Step = _Moved | ColumnBlock


def _through(
    modules: Sequence[nn.Module], x: Tensor, reversible: bool, of_images: OfImages | None
) -> Tensor:
    """The image of x (B, C, H, W) under consecutive modules that join a run."""
    dtype, device = x.dtype, x.device
    if torch.is_autocast_enabled(device.type):
        dtype = torch.get_autocast_dtype(device.type)
    steps: list[_Step] = []
    parameters: list[Tensor] = []
    shape: Shape = (x.shape[1], x.shape[2], x.shape[3])
    for module in modules:
        if isinstance(module, PotentialBlock):
            conv = module.conv
            assert isinstance(conv, OrthonormalConv2d)
            p = 0.0 if module.dropout is None else module.dropout.p
            seed = int(torch.randint(2**63 - 1, ())) if p > 0 else 0
            settings = conv.coeff, module.activation, p, seed
            if of_images is None:
                steps.append(ColumnBlock(*settings))
                parameters += [conv.weight, conv.bias]
            else:
                own = of_images.scale.to(dtype), of_images.positions.to(dtype)
                steps.append(ImageBlock(*settings, *own))
                parameters += [conv.weight, of_images.biases[conv]]
        elif isinstance(module, Patches):
            steps.append(_Moved(*(order.to(device) for order in module.orders(shape))))
            shape = module.out_shape("", shape)
        elif isinstance(module, Flatten):
            shape = module.out_shape("", shape)
    columns = (x if reversible else x.to(dtype)).permute(1, 2, 3, 0).reshape(-1, len(x))
    run = _ReversibleRun if reversible else _Run
    # torch's annotations leave `apply` out.
    image: Tensor = run.apply(columns, dtype, steps, *parameters)  # type: ignore[no-untyped-call]
    return image.view(*shape, len(x)).permute(3, 0, 1, 2)


class _Run(torch.autograd.Function):
    """Columns (D, B) after the steps of a run: blocks, whose weights and biases are `parameters`,
    and permutations of the rows. Products are computed in `dtype`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dtype: torch.dtype, steps: Sequence[_Step], *parameters: Tensor
    ) -> Tensor:
        kept: list[Tensor | None] = []
        left = iter(parameters)
        for step in steps:
            if isinstance(step, _Moved):
                x = x.index_select(0, step.to)
                continue
            weight, bias = _matrix(next(left), dtype), next(left).to(dtype)
            columns = x.view(weight.shape[1], -1)
            inside = step.inside(weight, bias, columns)
            kept += [weight, *inside]
            x = x.clone()
            step.apply_(weight, x.view_as(columns), inside)
        ctx.save_for_backward(*kept)
        ctx.steps = steps
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kept, of_parameters = list(ctx.saved_tensors), list[Tensor]()
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        for step in reversed(ctx.steps):
            if isinstance(step, _Moved):
                gradient = gradient.index_select(0, step.back)
                continue
            mask, inner, columns, weight = (kept.pop() for _ in range(4))
            inside = Inside(columns, inner, mask)
            of_weight, of_bias = step.backward_(weight, inside, gradient.view_as(columns))
            of_parameters += [of_bias, of_weight.view(*of_weight.shape, 1, 1)]
        return gradient, None, None, *reversed(of_parameters)


class _ReversibleRun(torch.autograd.Function):
    """As _Run, with maps in the dtype of x, of which only the first and the last are kept."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dtype: torch.dtype, steps: Sequence[_Step], *parameters: Tensor
    ) -> Tensor:
        start, left = x, iter(parameters)
        x = x.clone()
        for step in steps:
            if isinstance(step, _Moved):
                x = x.index_select(0, step.to)
                continue
            weight, bias = _matrix(next(left), dtype), next(left).to(dtype)
            columns = x.view(weight.shape[1], -1)
            step.apply_(weight, columns, step.inside(weight, bias, columns))
        ctx.save_for_backward(start, x, *parameters)
        ctx.steps, ctx.dtype = steps, dtype
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        start, image, *left = ctx.saved_tensors
        of_parameters: list[Tensor] = []
        x = image.clone()
        gradient = gradient.to(ctx.dtype, copy=True, memory_format=torch.contiguous_format)
        for step in reversed(ctx.steps):
            if isinstance(step, _Moved):
                x, gradient = x.index_select(0, step.back), gradient.index_select(0, step.back)
                continue
            parameter = left.pop(-2)
            weight, bias = _matrix(parameter, ctx.dtype), left.pop().to(ctx.dtype)
            columns = x.view(weight.shape[1], -1)
            inside = step.invert_(weight, bias, columns)
            of_weight, of_bias = step.backward_(weight, inside, gradient.view_as(columns))
            # Rounded copies of all gradients would pile up until autograd casts them.
            of_parameters += [of_bias, of_weight.to(parameter.dtype).view_as(parameter)]
        _check_reversed(start, x, image)
        return gradient.to(start.dtype), None, None, *reversed(of_parameters)


def _matrix(kernel: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrix (n, C) of a kernel (n, C, 1, 1)."""
    return kernel.flatten(1).to(dtype)


def _check_reversed(start: Tensor, x: Tensor, image: Tensor) -> None:
    """Check that what came back, x (D, B), is `start`, of which `image` is the image."""
    size = start.norm() / start.shape[1] ** 0.5
    off = (torch.linalg.vector_norm(x - start, dim=0).max() / size).item()
    # A training that diverged is not to be mistaken for one that cannot be inverted.
    if not off <= _TOLERANCE and bool(image.isfinite().all()):
        raise NotReversedError(
            f"images must come back through the inverse, up to {_TOLERANCE} of their norm, but one "
            f"is off by {off:.3g}: take precision float32, a smaller coeff, or reversible false"
        )
