"""The forward pass of a network in training, with the gradient of its potential blocks written out.

A run of potential blocks with orthonormal rows is one function. Its maps are matrices with a column
for each image, so that each kind of block sees its pixels or patches as columns without a copy, and
to cut other patches is to move rows: a permutation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.blocks.invertible_block import InvertibleBlock
from models.blocks.potential import PotentialBlock
from models.isometries import Flatten, Patches, Shape
from models.layers.activations import ACTIVATIONS, gradient_through
from models.layers.orthonormal import OrthonormalConv2d
from models.network.iresnet import IResNet


def training_logits(model: IResNet, x: Tensor) -> Tensor:
    """The logits (B, n_classes) of a network in training mode for images x (B, C, H, W): model(x)
    with other rounding, other draws of dropout masks, and, under autocast, maps in its dtype."""
    weights = model.effective_weights()
    for in_run, modules in groupby(model.body, _joins):
        if in_run:
            x = _through(list(modules), x)
            continue
        for module in modules:
            x = module.image(x, weights) if isinstance(module, InvertibleBlock) else module(x)
    logits: Tensor = model.classifier(x)
    return logits


def _joins(module: nn.Module) -> bool:
    if type(module) is PotentialBlock:
        is_known = type(module.activation) in ACTIVATIONS.values()
        return is_known and type(module.conv) is OrthonormalConv2d
    return isinstance(module, Flatten | Patches)


@dataclass(frozen=True)
class _Moved:
    """The rows of a map in another order: row to[i] moves to i, and row i to back[i]."""

    to: Tensor
    back: Tensor


@dataclass(frozen=True)
class _Block:
    """x - c W^T m k(c W x + b) for the columns x (C, N), with a dropout mask m."""

    coeff: float
    activation: nn.Module
    dropout: nn.Module | None


def _through(modules: Sequence[nn.Module], x: Tensor) -> Tensor:
    """The image of x (B, C, H, W) under consecutive modules that join a run."""
    dtype, device = x.dtype, x.device
    if torch.is_autocast_enabled(device.type):
        dtype = torch.get_autocast_dtype(device.type)
    steps: list[_Moved | _Block] = []
    parameters: list[Tensor] = []
    shape: Shape = (x.shape[1], x.shape[2], x.shape[3])
    for module in modules:
        if isinstance(module, PotentialBlock):
            conv = module.conv
            assert isinstance(conv, OrthonormalConv2d)
            steps.append(_Block(conv.coeff, module.activation, module.dropout))
            parameters += [conv.weight, conv.bias]
        elif isinstance(module, Patches):
            steps.append(_Moved(*(order.to(device) for order in module.orders(shape))))
            shape = module.out_shape("", shape)
        elif isinstance(module, Flatten):
            shape = module.out_shape("", shape)
    columns = x.to(dtype).permute(1, 2, 3, 0).reshape(-1, len(x))
    # torch's annotations leave `apply` out.
    image: Tensor = _Run.apply(columns, steps, *parameters)  # type: ignore[no-untyped-call]
    return image.view(*shape, len(x)).permute(3, 0, 1, 2)


class _Run(torch.autograd.Function):
    """Columns (D, B) after the steps of a run: blocks, and permutations of the rows."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, steps: Sequence[_Moved | _Block], *parameters: Tensor
    ) -> Tensor:
        kept: list[Tensor | None] = []
        left = iter(parameters)
        for step in steps:
            if isinstance(step, _Moved):
                x = x.index_select(0, step.to)
                continue
            weight, bias = next(left).flatten(1).to(x.dtype), next(left).to(x.dtype)
            columns = x.view(weight.shape[1], -1)
            inner = torch.addmm(bias.unsqueeze(1), weight, columns, alpha=step.coeff)
            inner = step.activation(inner)
            mask = None if step.dropout is None else step.dropout(torch.ones_like(inner))
            kept += [weight, columns, inner, mask]
            inner = inner if mask is None else inner * mask
            x = torch.addmm(columns, weight.T, inner, alpha=-step.coeff).view_as(x)
        ctx.save_for_backward(*kept)
        ctx.steps = steps
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kept, of_parameters = list(ctx.saved_tensors), list[Tensor]()
        gradient = gradient.contiguous()
        for step in reversed(ctx.steps):
            if isinstance(step, _Moved):
                gradient = gradient.index_select(0, step.back)
                continue
            mask, inner, columns, weight = (kept.pop() for _ in range(4))
            c, outer = step.coeff, gradient.view_as(columns)
            # Up to the factor -c.
            slope = torch.mm(weight, outer)
            slope = slope if mask is None else slope.mul_(mask)
            slope = gradient_through(step.activation, inner, slope)
            inner = inner if mask is None else inner * mask
            of_weight = torch.mm(inner, outer.T)
            of_weight.addmm_(slope, columns.T, beta=-c, alpha=-(c**2))
            of_parameters += [slope.sum(dim=1).mul_(-c), of_weight.view(*of_weight.shape, 1, 1)]
            gradient = torch.addmm(outer, weight.T, slope, alpha=-(c**2)).view_as(gradient)
        return gradient, None, *reversed(of_parameters)
