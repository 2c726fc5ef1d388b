"""Training passes whose backward pass inverts blocks, against passes that keep their maps."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from models import IResNet, NotReversedError, kept_bytes, training_features
from tests.support.networks import normalized_layers, with_biases

PATCHES = {"blocks": (2, 2), "patch": 2, "bottleneck": 2}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "dense": {"blocks": (), "bottleneck": 3, "dense_blocks": 4},
    "patches": {**PATCHES, "dense_blocks": 0},
    "both": PATCHES,
    "behind convolutions": {"blocks": (1,), "bottleneck": 2},
}


def network(name: str, **changes: Any) -> IResNet:
    settings: dict[str, Any] = {"channel_multiplier": 1, "head": "lipschitz", "dropout": 0.0}
    settings |= {"block": "potential", "coeff": 0.4, "dense_blocks": 2}
    settings |= {"in_shape": (3, 8, 8), "n_classes": 5}
    return with_biases(IResNet(**{**settings, **ARCHITECTURES[name], **changes}))


def unsettle(model: IResNet, by: float) -> None:
    """Move rows from orthonormality, as an optimizer does."""
    with torch.no_grad():
        for layer in normalized_layers(model):
            layer.weight.add_(torch.randn_like(layer.weight), alpha=by)


def gradients(model: IResNet, images: Tensor, *, reversible: bool) -> list[Tensor]:
    model.zero_grad()
    torch.manual_seed(3)  # of dropout
    logits = model.classifier(training_features(model, images, reversible=reversible))
    (logits.to(images.dtype) * torch.arange(5)).square().mean().backward()
    given = [parameter.grad for parameter in model.parameters()]
    return [logits.detach(), *(gradient for gradient in given if gradient is not None)]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("activation", ["relu", "elu", "softplus"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradients_are_those_of_a_pass_that_keeps_its_maps(
    name: str, activation: str, dropout: float
) -> None:
    model = network(name, activation=activation, dropout=dropout).double().train()
    unsettle(model, 0.01)
    images = torch.rand(4, 3, 8, 8, dtype=torch.float64)
    theirs = gradients(model, images, reversible=False)
    for a, b in zip(gradients(model, images, reversible=True), theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
def test_gradients_of_512_blocks(dtype: torch.dtype, tolerance: float) -> None:
    """With a smooth activation: where a ReLU is nearly at its kink, rounding alone decides."""
    changes: dict[str, Any] = {"dense_blocks": 512, "coeff": 0.01, "activation": "softplus"}
    model = network("dense", in_shape=(3, 4, 4), **changes).to(dtype).train()
    images = torch.rand(4, 3, 4, 4, dtype=dtype)
    ours, theirs = (gradients(model, images, reversible=is_on) for is_on in (True, False))
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).norm() <= tolerance * b.norm()


@contextmanager
def saved(model: IResNet) -> Iterator[list[int]]:
    """Collects the sizes in bytes of what is saved for a backward pass, without parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    sizes: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            sizes.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes


def test_what_a_pass_saves_does_not_grow_with_depth() -> None:
    totals: dict[bool, list[int]] = {True: [], False: []}
    for depth in (2, 20):
        model = network("dense", dense_blocks=depth, dropout=0.1).train()
        for reversible, of_depths in totals.items():
            with saved(model) as sizes:
                training_features(model, torch.rand(4, 3, 8, 8), reversible=reversible)
            of_depths.append(sum(sizes))
    assert totals[True][0] == totals[True][1]
    assert totals[False][0] < totals[False][1]


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("name", ["dense", "patches", "both"])
def test_the_bytes_that_a_plain_pass_keeps_are_known(name: str, dropout: float) -> None:
    model = network(name, dropout=dropout).train()
    with saved(model) as sizes:
        training_features(model, torch.rand(4, 3, 8, 8))
    assert kept_bytes(model, 4, torch.float32) == sum(sizes)
    assert kept_bytes(model, 8, torch.bfloat16) == sum(sizes)


def test_under_autocast_maps_stay_in_float32_and_gradients_are_not_far_off() -> None:
    model = network("both", coeff=0.2).train()
    images = torch.rand(16, 3, 8, 8)
    exact = gradients(model, images, reversible=False)
    with torch.autocast("cpu", torch.bfloat16):
        ours = gradients(model, images, reversible=True)
    for a, b in zip(ours[1:], exact[1:], strict=True):
        assert a.dtype == torch.float32
        assert 0 < (a - b).norm() < 0.05 * b.norm()


@pytest.mark.parametrize(
    "changes",
    [
        {"coeff": 0.95, "dense_blocks": 100},  # amplifies float32's rounding
        {"coeff": 0.8, "dropout": 0.4},  # masks of 1 / 0.6: more than one input for an image
    ],
)
def test_an_image_that_does_not_come_back_ends_the_pass(changes: dict[str, Any]) -> None:
    model = network("dense", **changes).train()
    with pytest.raises(NotReversedError, match="one is off by"):
        gradients(model, torch.rand(8, 3, 8, 8), reversible=True)


def test_a_training_that_diverged_is_not_taken_for_one_that_cannot_be_inverted() -> None:
    model = network("dense").train()
    with torch.no_grad():
        normalized_layers(model)[0].weight.fill_(torch.nan)
    _, *ours = gradients(model, torch.rand(4, 3, 8, 8), reversible=True)
    assert any(gradient.isnan().any() for gradient in ours)
