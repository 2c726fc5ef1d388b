"""A network as two files: what it is, as JSON, and its tensors, as safetensors.

Neither format can hold code. A network is built here, from the arguments of IResNet in the one file
and the values of the tensors in the other; nothing else of it is theirs.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from models.iresnet import IResNet

NETWORK = "network.json"
"""Describes a network; "architecture" holds the arguments of IResNet."""
WEIGHTS = "weights.safetensors"
"""The tensors of its state_dict()."""
_COUNTS = ("n_classes", "bottleneck", "channel_multiplier", "n_power_iterations")
# In the files of before it was an argument, torch's own.
_FORMER_EPS = 1e-5
# Of a count or a size, pixels too. Certificates of larger maps would take hours.
_LARGEST = 100_000
# Three weights and three biases at least.
_TENSORS_OF_A_BLOCK = 6


def write_network(folder: Path, model: IResNet, description: Mapping[str, Any]) -> None:
    """Write a network into a folder, as NETWORK and WEIGHTS.

    Args:
        folder: must exist.
        model: on any device, in any mode.
        description: of plain values; its "architecture" must be the arguments of IResNet that
            build a network with the tensors of model. classifier_eps is added.
    """
    architecture = {**description["architecture"], "classifier_eps": model.classifier_eps}
    content = {**description, "architecture": architecture}
    (folder / NETWORK).write_text(json.dumps(content, indent=1) + "\n")
    # Each with memory of its own, in one layout, so that the same network gives the same bytes.
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    save_file(tensors, folder / WEIGHTS)


def read_network(folder: Path) -> IResNet:
    """The network of a folder that `write_network` wrote, in eval mode, on the CPU.

    Raises:
        ValueError: in one line, with the name of the file, if one cannot be read, NETWORK
            describes no network, or WEIGHTS has not exactly the tensors of that network.
    """
    architecture = _architecture(folder / NETWORK)
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            names = set(file.keys())
            model = _built(architecture, len(names))
            empty = model.state_dict()
            for name in sorted(names ^ empty.keys()):
                what = "has no tensor" if name in empty else "has a tensor that it must not have:"
                raise ValueError(f"{WEIGHTS} {what} {name}")
            tensors = {name: file.get_tensor(name) for name in empty}
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{WEIGHTS} cannot be read: {_one_line(error)}") from error
    for name, expected in empty.items():
        shape, dtype = tensors[name].shape, tensors[name].dtype
        if (shape, dtype) != (expected.shape, expected.dtype):
            raise ValueError(
                f"{WEIGHTS}: the tensor {name} must be {tuple(expected.shape)}, {expected.dtype}, "
                f"but is {tuple(shape)}, {dtype}"
            )
    model = model.to_empty(device="cpu")
    model.load_state_dict(tensors)
    return model.eval()


def _architecture(path: Path) -> Mapping[str, Any]:
    try:
        architecture = json.loads(path.read_text(encoding="utf-8"))["architecture"]
        # They are checked here, since a list of a million blocks would be built for minutes.
        sizes = [*architecture["in_shape"], *architecture["blocks"]]
        sizes += (architecture[name] for name in _COUNTS if name in architecture)
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise ValueError(f"{NETWORK} cannot be read: {_one_line(error)}") from error
    if not isinstance(architecture, dict) or not all(type(size) is int for size in sizes):
        raise ValueError(f"{NETWORK}: sizes and counts must be whole numbers")
    if max(sizes) > _LARGEST:
        raise ValueError(f"{NETWORK}: sizes and counts must be at most {_LARGEST}")
    return {"classifier_eps": _FORMER_EPS, **architecture}


def _built(architecture: Mapping[str, Any], n_tensors: int) -> IResNet:
    """A network without memory for its tensors, of which WEIGHTS has so many."""
    if _TENSORS_OF_A_BLOCK * sum(architecture["blocks"]) > n_tensors:
        raise ValueError(
            f"{NETWORK} must describe the network of {WEIGHTS}, but has "
            f"{sum(architecture['blocks'])} blocks for {n_tensors} tensors"
        )
    try:
        with torch.device("meta"):
            return IResNet(**architecture)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise ValueError(f"{NETWORK} describes no network: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
