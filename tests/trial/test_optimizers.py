"""The optimizer against torch.optim.SGD, bit for bit."""

import copy

import pytest
import torch

from models import IResNet
from study.config.trial import TrainingConfig
from study.trial.optimizers import Sgd

LEARNING_RATES = (0.1, 0.03, 0.2, 0.01)
SETTINGS = [
    TrainingConfig(momentum=0.9, nesterov=True, weight_decay=5e-4),
    TrainingConfig(momentum=0.9, nesterov=False, weight_decay=0.0),
    TrainingConfig(momentum=0.0, nesterov=False, weight_decay=1e-2),
]


def network() -> IResNet:
    return IResNet((1, 8, 8), 10, (1,), channel_multiplier=4, dropout=0.0)


def backward(model: IResNet, step: int) -> None:
    """Gradients of a loss that differs from step to step; the last bias has one at odd steps."""
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(step))
    model.classifier[-1].bias.requires_grad_(step % 2 == 1)
    model(images).square().mean().backward()


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_steps_are_those_of_torch(settings: TrainingConfig) -> None:
    ours = network()
    theirs = copy.deepcopy(ours)
    optimizer = Sgd(ours, settings)
    reference = torch.optim.SGD(
        theirs.parameters(),
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
    )
    for step, lr in enumerate(LEARNING_RATES):
        optimizer.lr = reference.param_groups[0]["lr"] = lr
        for model, of_model in ((ours, optimizer), (theirs, reference)):
            of_model.zero_grad()
            backward(model, step)
            of_model.step()
        for (name, ours_is), theirs_is in zip(
            ours.named_parameters(), theirs.parameters(), strict=True
        ):
            assert torch.equal(ours_is, theirs_is), (name, step)


def test_a_restored_optimizer_goes_on_as_the_first_one() -> None:
    first = network()
    optimizer = Sgd(first, SETTINGS[0])
    backward(first, 0)
    optimizer.step()
    second = copy.deepcopy(first)
    restored = Sgd(second, SETTINGS[0])
    restored.load_state_dict(optimizer.state_dict())
    for model, of_model in ((first, optimizer), (second, restored)):
        of_model.zero_grad()
        backward(model, 1)
        of_model.step()
    assert all(map(torch.equal, first.parameters(), second.parameters()))
