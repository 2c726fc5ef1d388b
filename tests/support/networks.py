"""Untrained networks."""

from typing import Any

import torch
from torch import nn

from models import IResNet
from models.blocks.bottleneck import ResidualBlock
from models.layers.normalized import NormalizedConv2d


def network(**changes: Any) -> IResNet:
    """A small network with random biases in its blocks; `changes` override its arguments."""
    small: dict[str, Any] = {"in_shape": (2, 8, 8), "n_classes": 3, "blocks": (2, 1)}
    return with_biases(IResNet(**{**small, **changes}))


@torch.no_grad()
def with_biases(model: IResNet) -> IResNet:
    """Set random biases in the blocks, in place; the biases of a new network are zero."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.body.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(0, 0.2, generator=generator)
    return model


@torch.no_grad()
def enlarge(model: IResNet, factor: float) -> None:
    """Multiply every kernel of the blocks and update the norms: with a factor of a few, normalized
    layers reach their targets."""
    for parameter in model.body.parameters():
        parameter.mul_(factor if parameter.dim() == 4 else 1)
    model.update_spectral_norm()


def classifying(**changes: Any) -> IResNet:
    """A small network in eval mode with statistics and a classifier of its own."""
    model = network(in_shape=(2, 4, 4), n_classes=4, blocks=(1, 1), **changes)
    for _ in range(3):
        model.train()(torch.rand(32, 2, 4, 4))
    with torch.no_grad():
        for module in model.classifier:
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(-2, 2)
                module.bias.normal_()
    return model.eval()


def blocks_of(model: IResNet) -> list[ResidualBlock]:
    return [module for module in model.body if isinstance(module, ResidualBlock)]


def normalized_layers(module: nn.Module) -> list[NormalizedConv2d]:
    return [layer for layer in module.modules() if isinstance(layer, NormalizedConv2d)]
