"""The written-out gradient of runs of potential blocks against autograd through the modules."""

from typing import Any

import pytest
import torch
from torch import Tensor

from models import IResNet, training_features
from models.blocks.potential import PotentialBlock
from tests.support.networks import with_biases

PATCHES = {"blocks": (2, 2), "block": "potential", "patch": 2, "bottleneck": 2}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "dense": {"blocks": (), "bottleneck": 3},
    "patches": PATCHES,
    "convolutions": {"blocks": (1,), "block": "potential", "bottleneck": 2},
    "bottlenecks": {"blocks": (1, 1), "bottleneck": 1},
    "no dense": {**PATCHES, "dense_blocks": 0},
}


def network(name: str, **changes: Any) -> IResNet:
    settings = {"channel_multiplier": 1, "head": "lipschitz", "coeff": 0.7, "dropout": 0.0}
    settings |= {"dense_blocks": 2, **ARCHITECTURES[name], **changes}
    return with_biases(IResNet((3, 8, 8), 5, **settings))


def logits_and_gradients(model: IResNet, logits: Tensor) -> list[Tensor]:
    model.zero_grad()
    (logits * torch.arange(5)).square().mean().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    return [logits.detach(), *(gradient for gradient in gradients if gradient is not None)]


@pytest.mark.parametrize("activation", ["relu", "elu", "softplus"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_and_gradients_are_those_of_the_modules(name: str, activation: str) -> None:
    model = network(name, activation=activation).double().train()
    images = torch.rand(4, 3, 8, 8, dtype=torch.float64)
    ours = logits_and_gradients(model, model.classifier(training_features(model, images)))
    theirs = logits_and_gradients(model, model(images))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_the_gradient_reaches_what_stands_before_a_run() -> None:
    model = network("patches").double().train()
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    (ours,) = torch.autograd.grad(
        model.classifier(training_features(model, images)).square().sum(), images
    )
    (theirs,) = torch.autograd.grad(model(images).square().sum(), images)
    torch.testing.assert_close(ours, theirs)


def test_dropout_drops_entries_behind_the_activation_and_scales_the_others() -> None:
    """With W = I and a large bias every entry of k(W x + b) is large, and so shows its mask."""
    model = network("dense", dropout=0.25, dense_blocks=1, bottleneck=1, coeff=1.0).train()
    (block,) = (module for module in model.body if isinstance(module, PotentialBlock))
    with torch.no_grad():
        block.conv.weight.copy_(torch.eye(192).view(192, 192, 1, 1))
        block.conv.bias.fill_(100.0)
        model.classifier[-1].weight.copy_(torch.eye(5, 192))
        model.classifier[-1].bias.zero_()
    torch.manual_seed(0)
    logits = model.classifier(training_features(model, torch.zeros(2000, 3, 8, 8)))
    dropped = logits.detach().abs() < 1e-3
    assert dropped.double().mean().item() == pytest.approx(0.25, abs=0.01)
    torch.testing.assert_close(logits[~dropped], torch.full_like(logits[~dropped], -400 / 3))
    expected = 400 / 3 * (~dropped).sum(dim=0)
    (gradient,) = torch.autograd.grad(-logits.sum(), block.conv.bias)
    torch.testing.assert_close(100 * gradient[:5], expected.float())


def test_under_autocast_maps_are_rounded_and_gradients_are_not_far_off() -> None:
    model = network("patches").train()
    images = torch.rand(16, 3, 8, 8)
    exact = logits_and_gradients(model, model.classifier(training_features(model, images)))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.classifier(training_features(model, images))
    assert logits.dtype == torch.bfloat16
    for a, b in zip(logits_and_gradients(model, logits.float()), exact, strict=True):
        assert a.dtype == torch.float32
        assert 0 < (a - b).norm() < 0.05 * b.norm()
