"""The optimizers against those of torch.optim."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from models import IResNet
from models.blocks.potential import PotentialBlock
from models.layers.spectral_norm import SpectralNormConv2d
from study.config.trial import TrainingConfig
from study.trial.optimizers import Muon, Sgd, make_optimizer
from study.trial.orthogonalization import orthogonalized

LR_FACTORS = (1.0, 0.3, 2.0, 0.1)


def network() -> IResNet:
    return IResNet((1, 8, 8), 10, (1,), channel_multiplier=4, dropout=0.0)


def backward(model: IResNet, step: int) -> None:
    """Gradients of a loss that differs from step to step."""
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(step))
    model.zero_grad()
    model(images).square().mean().backward()


@pytest.mark.parametrize(
    "given",
    [
        {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
        {"momentum": 0.9, "nesterov": False, "weight_decay": 0.0},
        {"momentum": 0.0, "nesterov": False, "weight_decay": 1e-2},
    ],
)
def test_the_steps_are_those_of_torch(given: dict[str, Any]) -> None:
    settings = TrainingConfig(**given)
    ours = network()
    theirs = copy.deepcopy(ours)
    optimizer = Sgd(ours, settings)
    reference = torch.optim.SGD(theirs.parameters(), **given)
    for step, factor in enumerate(LR_FACTORS):
        optimizer.lr_factor = factor
        reference.param_groups[0]["lr"] = settings.lr * factor
        for model, of_model in ((ours, optimizer), (theirs, reference)):
            backward(model, step)
            of_model.step()
        for (name, ours_is), theirs_is in zip(
            ours.named_parameters(), theirs.parameters(), strict=True
        ):
            assert torch.equal(ours_is, theirs_is), (name, step)


def kernels_of(model: IResNet) -> dict[str, torch.Tensor]:
    return {f"body.{n}": p for n, p in model.body.named_parameters() if p.dim() == 4}


@pytest.mark.parametrize("nesterov", [False, True])
def test_muon_steps_every_kernel_by_its_orthogonalized_momentum(nesterov: bool) -> None:
    """A kernel at a time, as the formulas stand; the largest singular value is that of the rate."""
    settings = TrainingConfig(optimizer="muon", lr=0.2, momentum=0.8, nesterov=nesterov)
    model = IResNet((1, 8, 8), 10, (1, 2), channel_multiplier=8, dropout=0.0)
    optimizer = Muon(model, settings)
    momentum = {name: torch.zeros_like(p) for name, p in kernels_of(model).items()}
    for step, factor in enumerate(LR_FACTORS):
        optimizer.lr_factor = factor
        backward(model, step)
        before = {name: p.detach().clone() for name, p in kernels_of(model).items()}
        gradients = {}
        for name, kernel in kernels_of(model).items():
            assert kernel.grad is not None
            gradients[name] = kernel.grad.clone()
        optimizer.step()
        for name, kernel in kernels_of(model).items():
            gradient = gradients[name]
            momentum[name] = 0.8 * momentum[name] + gradient
            direction = gradient + 0.8 * momentum[name] if nesterov else momentum[name]
            update = orthogonalized(direction.flatten(1)[None], 3)[0].view_as(kernel)
            expected = before[name] - 0.2 * factor * update
            torch.testing.assert_close(kernel.detach(), expected, rtol=1e-4, atol=1e-5)
            changed = (kernel.detach() - before[name]).flatten(1)
            assert torch.linalg.matrix_norm(changed, ord=2) <= 1.22 * 0.2 * factor


def test_what_is_no_kernel_takes_the_steps_of_torchs_adamw() -> None:
    """The step of a normalized bias is shorter by 0.1 times the product of its targets."""
    settings = TrainingConfig(optimizer="muon", other_lr=0.03, weight_decay=0.1)
    ours = network()
    theirs = copy.deepcopy(ours)
    optimizer = Muon(ours, settings)
    scales = {f"residual.{2 * index}.bias": 0.1 * 0.9 ** (index + 1) for index in range(3)}
    groups: list[dict[str, Any]] = []
    for name, parameter in theirs.named_parameters():
        if name not in kernels_of(theirs):
            scale = scales.get(name.removeprefix("body.1."), 1.0)
            groups.append({"params": [parameter], "weight_decay": 0.1 / scale, "scale": scale})
    assert {group["scale"] for group in groups} == {1.0, *scales.values()}
    reference = torch.optim.AdamW(groups, betas=(0.9, 0.99), eps=1e-10)
    for step, factor in enumerate(LR_FACTORS):
        optimizer.lr_factor = factor
        for group in reference.param_groups:
            group["lr"] = 0.03 * factor * group["scale"]
        backward(ours, step)
        for name, parameter in ours.named_parameters():
            # That of a bias ahead of a BatchNorm is rounding alone: one network decides for both.
            theirs.get_parameter(name).grad = parameter.grad
        optimizer.step()
        reference.step()
        for name, parameter in ours.named_parameters():
            if name not in kernels_of(ours):
                # Multiplied and divided by its scale, a bias is rounded once more, relative to its
                # steps: where these cancel, more than relative to what remains. Of the others
                # every bit is the same.
                scale = scales.get(name.removeprefix("body.1."))
                atol = 0.0 if scale is None else 1e-6 * 0.03 * scale
                torch.testing.assert_close(parameter, theirs.get_parameter(name), rtol=0, atol=atol)


def test_kernels_of_a_layer_that_has_died_stay_finite() -> None:
    """Their momentum decays to the smallest floats while the others train on."""
    torch.manual_seed(0)
    model = IResNet((1, 8, 8), 3, (2,), dropout=0.0)
    dead = [m for m in model.body[-1].modules() if isinstance(m, SpectralNormConv2d)]
    optimizer = make_optimizer(model, TrainingConfig(optimizer="muon", momentum=0.5))
    images, labels = torch.randn(16, 1, 8, 8), torch.arange(16) % 3
    for step in range(200):
        if step == 5:
            assert dead[0].weight.grad is not None
            assert dead[0].weight.grad.abs().max() > 0
            assert dead[0].bias is not None
            dead[0].bias.data.fill_(-50.0)
            before = [layer.weight.detach().clone() for layer in dead]
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        model.update_spectral_norm()
    assert dead[0].weight.grad.abs().max() == 0
    for layer, weight in zip(dead, before, strict=True):
        moved = torch.linalg.matrix_norm((layer.weight - weight).flatten(1), ord=2).item()
        assert 0 < moved < 200 * 0.1 / 2


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_rows_of_dense_potentials_stay_orthonormal(precision: str) -> None:
    """At small and at large rates, and from weights that are scaled; other kernels are not turned
    into such: they grow."""
    model = IResNet((1, 8, 8), 10, (1,), block="potential", dense_blocks=2, bottleneck=2)
    dense = [block.conv for block in model.body if isinstance(block, PotentialBlock)][1:]
    singular = torch.stack([torch.linalg.svdvals(conv.weight.flatten(1)) for conv in dense])
    torch.testing.assert_close(singular, torch.ones_like(singular))
    with torch.no_grad():
        dense[0].weight.mul_(0.1)
    settings = TrainingConfig(optimizer="muon", lr=0.2, precision=precision)
    optimizer = Muon(model, settings)
    room = 1e-5 if precision == "float32" else 0.01
    for step in range(60):
        optimizer.lr_factor = 5.0 if step < 10 else 0.1
        backward(model, step)
        optimizer.step()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            model.update_spectral_norm()
        singular = torch.stack([torch.linalg.svdvals(conv.weight.flatten(1)) for conv in dense])
        assert singular.max() <= 1 + room
    assert singular.min() >= 1 - 0.01
