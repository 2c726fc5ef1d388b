import copy
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from models import IResNet, certify, deployed, project, read_network, write_network
from models.storage.network_files import CHANGES, NETWORK, WEIGHTS
from tests.support import networks

ARCHITECTURE: dict[str, Any] = {"in_shape": [1, 8, 8], "n_classes": 10, "blocks": [1, 2]}


def network(**changes: Any) -> IResNet:
    torch.manual_seed(0)
    model = networks.network(**{**ARCHITECTURE, **changes})
    model(torch.rand(8, *model.in_shape))  # the statistics of the classifier are others now
    model.update_spectral_norm()
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_network(tmp_path, network(), {"architecture": ARCHITECTURE})
    return tmp_path


@pytest.mark.parametrize(
    ("norm", "activation"), [("spectral", "relu"), ("batch", "elu"), ("none", "softplus")]
)
def test_every_kind_of_network_comes_back(norm: str, activation: str, tmp_path: Path) -> None:
    settings = {"norm": norm, "activation": activation, "coeff": 0.7, "dropout": 0.2}
    model = network(**settings)
    write_network(tmp_path, model, {"architecture": {**ARCHITECTURE, **settings}})
    again = read_network(tmp_path)
    assert not again.training
    state = model.state_dict()
    assert list(again.state_dict()) == list(state)
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, state[name])
        assert tensor.stride() == state[name].stride()  # the last bits of a sum follow the layout
    assert [str(m) for m in again.modules()] == [str(m) for m in model.modules()]
    x = torch.rand(2, 1, 8, 8) - 0.5
    with torch.no_grad():
        assert torch.equal(again(x), model.eval()(x))


def replaced_activation(model: IResNet) -> None:
    block = model.body[1].residual  # type: ignore[union-attr]
    block[1] = nn.ELU()  # type: ignore[index, operator]


def smaller_target(model: IResNet) -> None:
    layer = model.body[1].residual[0]  # type: ignore[union-attr, index]
    layer.coeff = 0.3


def without_bias(model: IResNet) -> None:
    model.classifier[-1] = nn.Linear(16, 10, bias=False)


@pytest.mark.parametrize(
    "change", [nn.Module.double, nn.Module.half, replaced_activation, smaller_target, without_bias]
)
def test_what_would_come_back_as_another_network_is_not_written(
    change: Callable[[IResNet], object], tmp_path: Path
) -> None:
    model = network(norm="spectral")
    change(model)
    with pytest.raises(ValueError, match=f"{NETWORK} must describe|{WEIGHTS}"):
        write_network(tmp_path, model, {"architecture": {**ARCHITECTURE, "norm": "spectral"}})
    assert not list(tmp_path.iterdir())


def test_a_projected_network_comes_back_projected(tmp_path: Path) -> None:
    model = network(norm="spectral", coeff=0.9)
    certificate = project(model, lipschitz=0.05)
    write_network(tmp_path, model, {"architecture": {**ARCHITECTURE, "coeff": 0.9}})
    # Its targets are those of the architecture again, and bound nothing more than its weights do.
    assert certify(read_network(tmp_path), "full").blocks == certificate.blocks


def test_the_constant_of_the_classifier_comes_back(tmp_path: Path) -> None:
    write_network(tmp_path, network(classifier_eps=1e-3), {"architecture": ARCHITECTURE})
    assert read_network(tmp_path).classifier[0].eps == 1e-3


def test_no_random_number_is_drawn_to_read_a_network(folder: Path) -> None:
    before = torch.get_rng_state()
    read_network(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_same_network_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    model = network().to(memory_format=torch.contiguous_format)
    write_network(other, model, {"architecture": ARCHITECTURE})
    for name in (NETWORK, WEIGHTS):
        assert (other / name).read_bytes() == (folder / name).read_bytes()


@pytest.fixture
def projected(tmp_path: Path) -> tuple[Path, IResNet]:
    """The folder of a network that was written as one made from another, and the network."""
    trained = deployed(network(coeff=0.9))
    model = copy.deepcopy(trained)
    images = [torch.rand(16, *model.in_shape) - 0.5 for _ in range(2)]
    project(model, lipschitz=0.05, images=images)
    description = {"architecture": {**ARCHITECTURE, "norm": "none"}}
    write_network(tmp_path, model, description, base=trained)
    assert not (tmp_path / WEIGHTS).exists()
    (tmp_path / "trained").mkdir()
    write_network(tmp_path / "trained", trained, description)
    shutil.copy(tmp_path / "trained" / WEIGHTS, tmp_path)
    return tmp_path, model


def test_a_network_made_from_another_comes_back_bit_for_bit(
    projected: tuple[Path, IResNet],
) -> None:
    folder, model = projected
    again = read_network(folder).state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(again[name], tensor), name
    # The last weight of each block is a multiple; of the classifier all is there.
    assert len(json.loads((folder / NETWORK).read_text())["factors"]) == sum(ARCHITECTURE["blocks"])
    assert all(name.startswith("classifier.") for name in load_file(folder / CHANGES))
    assert (folder / CHANGES).stat().st_size < (folder / WEIGHTS).stat().st_size / 2


def test_a_network_with_little_of_another_is_written_whole(tmp_path: Path) -> None:
    model, other = network(norm="none"), IResNet(**{**ARCHITECTURE, "norm": "none"})
    write_network(tmp_path, model, {"architecture": {**ARCHITECTURE, "norm": "none"}}, base=other)
    assert not (tmp_path / CHANGES).exists()
    again = read_network(tmp_path).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (NETWORK, [], "factors must be numbers by the names of tensors"),
        (NETWORK, {"body.1.residual.2.weight": "2"}, "factors must be numbers by the names of "),
        (NETWORK, {"body.1.gain": 2.0}, "factors has a tensor that it must not have: body.1.gain"),
        (NETWORK, {"classifier.3.bias": 2.0}, "must not have: classifier.3.bias"),
        (CHANGES, None, "cannot be read: "),
        (CHANGES, {"body.1.gain": torch.ones(1)}, "tensor that it must not have: body.1.gain"),
        (CHANGES, {"classifier.3.bias": torch.ones(9)}, r"classifier.3.bias must be \(10,\), "),
    ],
)
def test_factors_and_changes_are_of_tensors_of_the_network_and_of_none_twice(
    projected: tuple[Path, IResNet], name: str, content: Any, problem: str
) -> None:
    path = projected[0] / name
    if content is None:
        path.unlink()
    elif name == NETWORK:
        path.write_text(json.dumps({**json.loads(path.read_text()), "factors": content}))
    else:
        save_file(content, path)
    with pytest.raises(ValueError, match=rf"^{name}[^\n]*{problem}[^\n]*$"):
        read_network(projected[0])


class Malicious:
    """Pickled so that loading it touches a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_a_pickle_in_the_place_of_a_file_is_not_run(folder: Path, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    (folder / WEIGHTS).write_bytes(pickle.dumps(Malicious(touched)))
    with pytest.raises(ValueError, match=r"^weights.safetensors cannot be read: [^\n]*$"):
        read_network(folder)
    torch.save({"x": torch.zeros(1)}, folder / WEIGHTS)
    with pytest.raises(ValueError, match=r"^weights.safetensors cannot be read: [^\n]*$"):
        read_network(folder)
    assert not touched.exists()


def test_a_torn_file_is_said_in_one_line(folder: Path) -> None:
    for name in (NETWORK, WEIGHTS):
        path = folder / name
        whole = path.read_bytes()
        # A JSON text is whole without the line break behind it.
        for n in (0, 1, 7, 100, len(whole) // 2, len(whole) - 2):
            path.write_bytes(whole[:n])
            with pytest.raises(ValueError, match=rf"^{name} cannot be read: [^\n]*$"):
                read_network(folder)
        path.unlink()
        with pytest.raises(ValueError, match=rf"^{name} cannot be read: [^\n]*$"):
            read_network(folder)
        path.write_bytes(whole)
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(ValueError, match=r"^weights.safetensors cannot be read: [^\n]*$"):
        read_network(folder)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: t.pop("body.1.residual.2.weight"), "has no tensor body.1.residual.2.weight"),
        (
            lambda t: t.update({"body.1.gain": torch.ones(1)}),
            "has a tensor that it must not have: body.1.gain",
        ),
        (
            lambda t: t.update({"classifier.3.bias": torch.ones(9)}),
            r"tensor classifier.3.bias must be \(10,\), torch.float32, but is \(9,\)",
        ),
        (
            lambda t: t.update({"classifier.3.bias": torch.ones(10).double()}),
            r"classifier.3.bias must be \(10,\), torch.float32, but is \(10,\), torch.float64",
        ),
        (lambda t: t.clear(), "weights.safetensors has no tensor body.1.residual.0.bias"),
    ],
)
def test_the_tensors_must_be_those_of_the_network(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], object], problem: str
) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(ValueError, match=problem):
        read_network(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"blocks": [1, 3]},
        {"blocks": [10**9, 10**9]},
        {"blocks": [-(10**9), 10**9]},
        {"blocks": []},
        {"blocks": "12"},
        {"blocks": None},
        {"blocks": [1.0, 2.0]},
        {"blocks": [True, 2]},
        {"blocks": [1] * 60},
        {"in_shape": [1, 8]},
        {"in_shape": [1, 8, 10**12]},
        {"in_shape": [1, 2**70, 2**70]},
        {"in_shape": [-1, 8, 8]},
        {"in_shape": {"a": 1}},
        {"n_classes": 10**12},
        {"n_classes": "ten"},
        {"channel_multiplier": 10**9},
        {"channel_multiplier": 4.5},
        {"bottleneck": 0},
        {"bottleneck": 0.5},
        {"norm": "other"},
        {"norm": "none"},
        {"norm": ["spectral"]},
        {"activation": "forward"},
        {"activation": {}},
        {"coeff": float("nan")},
        {"coeff": "0.9"},
        {"dropout": 1},
        {"classifier_eps": 0},
        {"n_power_iterations": 0},
        {"extra": 1},
    ],
    ids=str,
)
def test_another_architecture_is_refused_in_one_line(folder: Path, change: dict[str, Any]) -> None:
    content = json.dumps({"architecture": {**ARCHITECTURE, **change}})
    (folder / NETWORK).write_text(content)
    with pytest.raises(ValueError, match=r"^(network.json|weights.safetensors)[^\n]*$"):
        read_network(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"null", b"[1]", b"{}", b'{"architecture": 1}', b'{"architecture": []}',
        b'{"architecture": {"in_shape": 1}}', b"1" * 9999, b"[" * 100_000, b"\xff",
    ],
    ids=lambda content: repr(content[:20]),
)  # fmt: skip
def test_a_description_that_is_none_is_refused_in_one_line(folder: Path, content: bytes) -> None:
    (folder / NETWORK).write_bytes(content)
    with pytest.raises(ValueError, match=r"^network.json[^\n]*$"):
        read_network(folder)
