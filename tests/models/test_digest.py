"""The digest by which a proof identifies its network."""

import hashlib

import pytest
import torch
from torch import Tensor, nn

from models import certified_radius, certify
from models.heads.pooled import GlobalAveragePool
from models.network.forward_pass import forward_sha256
from tests.support.changed_networks import set_entry, small


def test_the_digest_is_of_all_that_decides() -> None:
    model = small(norm="spectral", dropout=0.1)
    digest = forward_sha256(model.body)
    assert forward_sha256(model.train().body) == digest
    assert forward_sha256(model.to(memory_format=torch.contiguous_format).body) == digest
    assert forward_sha256(small(norm="none").body) != digest
    for name in model.body.state_dict():
        changed = small(norm="spectral", dropout=0.1)
        changed.load_state_dict(model.state_dict())
        assert forward_sha256(changed.body) == digest
        set_entry(changed.body.state_dict()[name], 0, 7)
        assert forward_sha256(changed.body) != digest, name
    dropout = next(m for m in model.body.modules() if isinstance(m, nn.Dropout))
    dropout.p = 0.2
    assert forward_sha256(model.body) != digest


class Sequential(nn.Sequential):
    """Of the bare name of torch's."""

    def forward(self, x: Tensor) -> Tensor:
        return -super().forward(x)


class Forged(nn.Sequential):
    """That says to be torch's."""

    __module__ = nn.Sequential.__module__
    __qualname__ = nn.Sequential.__qualname__

    def forward(self, x: Tensor) -> Tensor:
        return -super().forward(x)


class ForgedRelu(nn.ReLU):
    """That says to be one of this package."""

    __module__ = "models.network.iresnet"
    __qualname__ = "GlobalAveragePool"


@pytest.mark.parametrize("kind", [Sequential, Forged])
def test_a_classifier_of_another_class_is_not_the_certified_one(kind: type[nn.Module]) -> None:
    """Its tensors and settings are the same, its answers are not."""
    model, images = small(), torch.rand(4, 2, 4, 4)
    labels, certificate = model(images).argmax(1), certify(model, "fast")
    certified_radius(model, images, labels, certificate)
    model.classifier.__class__ = kind
    assert not bool((model(images).argmax(1) == labels).any())
    with pytest.raises(ValueError, match="certificate must be that of the classifier as it is"):
        certified_radius(model, images, labels, certificate)


def test_a_digest_tells_a_class_from_another_that_takes_its_name() -> None:
    pairs: list[tuple[nn.Module, type[nn.Module]]] = [
        (nn.Sequential(), Sequential),
        (nn.Sequential(), Forged),
        (GlobalAveragePool(), ForgedRelu),
        (nn.Conv2d(1, 1, 1), torch.ao.nn.qat.Conv2d),
    ]
    for module, other in pairs:
        digest = forward_sha256(module)
        assert module.__class__.__qualname__ == other.__qualname__
        module.__class__ = other
        assert forward_sha256(module) != digest


def test_digests_are_those_of_earlier_versions() -> None:
    """By bare names of classes: certificates that were stored before can be verified."""
    for changes in ({}, {"norm": "spectral"}, {"norm": "batch"}, {"activation": "softplus"}):
        model = small(**changes)
        text = hashlib.sha256()
        for path, module in model.body.named_modules():
            settings = [(k, v) for k, v in vars(module).items() if k[0] != "_" and k != "training"]
            text.update(f"{path} {type(module).__name__} {dict(sorted(settings))}\n".encode())
            own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            for name, tensor in own:
                content = f"{tensor.dtype} {tuple(tensor.shape)} ".encode()
                content += tensor.detach().contiguous().numpy().tobytes()
                text.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
        assert forward_sha256(model.body) == text.hexdigest()
