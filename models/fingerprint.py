"""What identifies a network: its modules with their settings, and a digest of every tensor."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_PLAIN = (bool, int, float, str)


def fingerprint(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Plain dicts, for JSON.

    Returns:
        "modules": path in model.named_modules() -> the class and the plain settings of a module.
        "weights_sha256": name in model.state_dict() -> SHA-256 of a tensor's type, shape and
            values, hex; the same wherever the tensor is and however it is laid out.
    """
    return {
        "modules": {name: _settings(module) for name, module in model.named_modules()},
        "weights_sha256": {name: _digest(t) for name, t in model.state_dict().items()},
    }


def differences(model: nn.Module, stored: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Where a network is not the one whose fingerprint is stored, a sentence each."""
    for path, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            yield f"architecture: the module at {path} has hooks, which no certificate covers"
    found = fingerprint(model)
    for path in sorted(stored["modules"].keys() ^ found["modules"].keys()):
        where = "is missing" if path in stored["modules"] else "is not of the certified network"
        yield f"architecture: the module at {path} {where}"
    for path in stored["modules"].keys() & found["modules"].keys():
        was, now = stored["modules"][path], found["modules"][path]
        # Settings that a later version of torch has added say nothing.
        changed = {key: now.get(key) for key in was if was[key] != now.get(key)}
        if changed:
            expected = {key: was[key] for key in changed}
            yield f"architecture: the module at {path} has {changed} where certified was {expected}"
    for name in sorted(stored["weights_sha256"].keys() ^ found["weights_sha256"].keys()):
        yield f"weights: the tensor {name} is in one of the stored and the certified network only"
    for name, digest in found["weights_sha256"].items():
        if stored["weights_sha256"].get(name, digest) != digest:
            yield f"weights: the tensor {name} is not the one that was certified"


def _settings(module: nn.Module) -> dict[str, Any]:
    settings: dict[str, Any] = {"type": type(module).__name__}
    for key, value in vars(module).items():
        if key.startswith("_") or key == "training":
            continue
        if isinstance(value, tuple) and all(isinstance(v, _PLAIN) for v in value):
            settings[key] = list(value)
        elif isinstance(value, _PLAIN):
            settings[key] = value
    return settings


def _digest(tensor: Tensor) -> str:
    plain = tensor.detach().cpu().contiguous()
    text = f"{plain.dtype} {tuple(plain.shape)} "
    # As bytes: not every type of torch is one of numpy.
    content = plain.reshape(-1).view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(text.encode() + content).hexdigest()
