"""Networks whose modules were moved, renamed, shared or copied: what is proven of them holds for
what runs, and they are stored as they are, or refused."""

import copy
import random
from pathlib import Path

import pytest
import torch
from torch import nn

from models import IResNet, certify, read_network, write_network
from tests.support import networks
from tests.support.networks import blocks_of

ARCHITECTURE = {
    "in_shape": [2, 4, 4], "n_classes": 3, "blocks": [3, 2], "channel_multiplier": 2,
    "bottleneck": 2, "dropout": 0.0, "norm": "none",
}  # fmt: skip


def network() -> IResNet:
    torch.manual_seed(0)
    return networks.network(**ARCHITECTURE).eval()


def to_the_end(parent: nn.Module, name: str) -> None:
    """The module of that name becomes the last, under its name."""
    parent._modules[name] = parent._modules.pop(name)


def rearrange(model: IResNet, dice: random.Random) -> None:
    """One change: of the body, of a block, or of the classifier."""
    block = dice.choice(blocks_of(model))
    parent = dice.choice([model.body, block.residual, model.classifier])
    one, other = (dice.choice(list(parent._modules)) for _ in range(2))
    match dice.randrange(4):
        case 0:
            to_the_end(parent, one)
        case 1:
            parent._modules[one], parent._modules[other] = (
                parent._modules[other],
                parent._modules[one],
            )
        case 2:
            parent._modules[one] = parent._modules[other]
        case 3:
            parent.add_module("extra", copy.deepcopy(parent._modules[one]))


@pytest.mark.parametrize("seed", range(20))
def test_what_is_certified_is_inverted_and_what_is_stored_comes_back(
    seed: int, tmp_path: Path
) -> None:
    dice, model = random.Random(seed), network()
    for _ in range(dice.randint(1, 3)):
        rearrange(model, dice)
    x = torch.randn(4, 2, 4, 4)
    try:
        certificate = certify(model, "fast")
    except ValueError:
        certificate = None
    if certificate is not None and certificate.contraction:
        with torch.no_grad():
            solution = model.inverse(model.features(x), certificate=certificate)
        assert solution.error_bound is not None
        error = (solution.last_iterate - x).double().flatten(1).norm(dim=1)
        # What the features of float32 are off by is no part of the bound.
        assert (error <= solution.error_bound[0] + 1e-5).all()
    try:
        write_network(tmp_path, model, {"architecture": ARCHITECTURE})
    except ValueError:
        assert not list(tmp_path.iterdir())
        return
    with torch.no_grad():
        assert torch.equal(read_network(tmp_path)(x), model(x))
