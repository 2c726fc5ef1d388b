import json
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from models import IResNet, code_sha256, differences, weights_sha256


def network(**changes: object) -> IResNet:
    arguments: dict[str, object] = {"blocks": (1, 1), "coeff": 0.7, "dropout": 0.1, **changes}
    torch.manual_seed(0)
    return IResNet((1, 8, 8), 10, **arguments)  # type: ignore[arg-type]


def test_a_network_has_its_digests_in_either_mode_and_layout() -> None:
    model = network()
    before = json.loads(json.dumps(weights_sha256(model)))
    assert before.keys() == model.state_dict().keys()
    assert weights_sha256(model.train().to(memory_format=torch.contiguous_format)) == before
    assert weights_sha256(network()) == before
    assert weights_sha256(model.double()) != before


def test_every_tensor_is_told_apart_down_to_the_last_bit() -> None:
    before = weights_sha256(network())
    assert len(before) > 20
    for name in before:
        model = network()
        tensor = model.state_dict()[name]
        if tensor.is_floating_point():
            last = (-1,) * tensor.dim()
            tensor[last] = torch.nextafter(tensor[last], torch.tensor(torch.inf))
        else:
            tensor += 1
        changed = {key for key, digest in weights_sha256(model).items() if digest != before[key]}
        assert changed == {name}


def test_networks_that_are_built_alike_differ_in_nothing_whatever_their_weights() -> None:
    for norm in ("spectral", "batch", "none"):
        model = network(norm=norm).eval()
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        assert list(differences(model, network(norm=norm))) == []


@pytest.mark.parametrize(
    ("change", "module"),
    [
        ({"blocks": (1, 2)}, "body has not the same modules: 4"),
        ({"coeff": 0.6}, "body.1.residual.0 has coeff="),
        ({"dropout": 0.2}, "body.1.residual.4 has p=0.2"),
        ({"activation": "elu"}, "body.1.residual.1 must be a ReLU, but is a ELU"),
        ({"norm": "none"}, "body.1.residual.0 must be a SpectralNormConv2d, but is a Conv2d"),
        ({"channel_multiplier": 8}, "body.0 has n_channels=7"),
        ({"n_power_iterations": 3}, "the root has n_power_iterations=3"),
    ],
)
def test_another_architecture_is_named_by_its_module(
    change: dict[str, object], module: str
) -> None:
    assert any(module in problem for problem in differences(network(**change), network()))


def test_an_attribute_that_stands_in_the_way_is_found() -> None:
    """What the file of a network could hold, and no look at its tensors would show."""

    def forward(model: IResNet) -> None:
        model.__dict__["forward"] = nn.Sequential()

    def classifier(model: IResNet) -> None:
        model.__dict__["classifier"] = nn.Linear(1, 1)

    def bias(model: IResNet) -> None:
        model.get_submodule("body.1.residual.2").__dict__["bias"] = torch.zeros(1)

    def compiled(model: IResNet) -> None:
        model.__dict__["_compiled_call_impl"] = nn.Identity()

    def order(model: IResNet) -> None:
        children = model.classifier._modules
        children["0"] = children.pop("0")

    def hook(model: IResNet) -> None:
        model.get_submodule("body.1").register_forward_hook(lambda *_: None)

    def hooks_of_another_kind(model: IResNet) -> None:
        model.__dict__["_forward_pre_hooks"] = OrderedDict({0: nn.Identity()})

    def kernel(model: IResNet) -> None:
        model.get_submodule("classifier.3")._parameters["weight"] = nn.Parameter(torch.zeros(1))

    def no_tensors(model: IResNet) -> None:
        model.get_submodule("classifier.3").__dict__["_parameters"] = {}

    def nothing(model: IResNet) -> None:
        model.__dict__["_modules"] = None

    for change in (
        forward, classifier, bias, compiled, order, hook, hooks_of_another_kind, kernel,
        no_tensors, nothing,
    ):  # fmt: skip
        model = network()
        change(model)
        found = list(differences(model, network()))
        assert found, change.__name__
        assert all(problem.startswith("architecture: the module at ") for problem in found)


def test_the_digest_of_code_is_that_of_its_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "b.py").write_text("2")
    before = code_sha256(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("compiled")
    assert code_sha256(tmp_path) == before
    (tmp_path / "b.py").write_text("3")
    assert code_sha256(tmp_path) != before
    (tmp_path / "b.py").write_text("2")
    (tmp_path / "b.py").rename(tmp_path / "c.py")
    assert code_sha256(tmp_path) != before
