import json

import pytest
import torch
from torch import nn

from models import IResNet, differences, fingerprint


def network(**changes: object) -> IResNet:
    arguments: dict[str, object] = {"blocks": (1, 1), "coeff": 0.7, "dropout": 0.1, **changes}
    torch.manual_seed(0)
    return IResNet((1, 8, 8), 10, **arguments)  # type: ignore[arg-type]  # whatever a test changes


def stored(model: IResNet) -> dict[str, dict[str, object]]:
    """As it comes back from a file."""
    content: dict[str, dict[str, object]] = json.loads(json.dumps(fingerprint(model)))
    return content


def test_a_network_is_itself_in_either_mode_and_layout() -> None:
    model = network()
    before = stored(model)
    assert list(differences(model, before)) == []
    assert list(differences(model.train().to(memory_format=torch.contiguous_format), before)) == []


def test_every_tensor_is_told_apart_down_to_the_last_bit() -> None:
    names = list(network().state_dict())
    assert len(names) > 20
    for name in names:
        model = network()
        before = stored(model)
        tensor = model.state_dict()[name]
        if tensor.is_floating_point():
            last = (-1,) * tensor.dim()
            tensor[last] = torch.nextafter(tensor[last], torch.tensor(torch.inf))
        else:
            tensor += 1
        (problem,) = differences(model, before)
        assert problem == f"weights: the tensor {name} is not the one that was certified"


@pytest.mark.parametrize(
    ("change", "module"),
    [
        ({"blocks": (1, 2)}, "body.4"),
        ({"coeff": 0.6}, "body.1.residual.0"),
        ({"dropout": 0.2}, "body.1.residual.4"),
        ({"activation": "elu"}, "body.1.residual.1"),
        ({"norm": "none"}, "body.1.residual.0"),
        ({"channel_multiplier": 8}, "body.0"),
    ],
)
def test_another_architecture_is_named_by_its_module(
    change: dict[str, object], module: str
) -> None:
    found = list(differences(network(**change), stored(network())))
    assert any(p.startswith("architecture: the module at ") and module in p for p in found)


def test_a_hook_changes_what_a_network_does_and_is_said() -> None:
    model = network()
    before = stored(model)
    convolution = next(m for m in model.modules() if isinstance(m, nn.ReLU))
    convolution.register_forward_hook(lambda *_: None)
    (problem,) = differences(model, before)
    assert "has hooks" in problem
