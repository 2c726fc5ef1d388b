"""A network that was stored: read without running code of its file, and compared with the one that
it must be, module by module, tensor by tensor, and by the code that comes with it."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.forward_pass import sha256
from models.iresnet import (
    ACTIVATIONS,
    GlobalAveragePool,
    InjectivePad,
    IResNet,
    ResidualBlock,
    Squeeze,
)
from models.spectral_norm import SpectralNormConv2d

_PARTS = (
    IResNet, ResidualBlock, Squeeze, InjectivePad, GlobalAveragePool, SpectralNormConv2d,
    nn.ModuleList, nn.Sequential, nn.Conv2d, nn.BatchNorm2d, nn.Dropout, nn.Linear,
    *ACTIVATIONS.values(),
)  # fmt: skip
_PLAIN = (bool, int, float, str, type(None))


def weights_sha256(model: nn.Module) -> dict[str, str]:
    """Name in model.state_dict() -> SHA-256 of a tensor, hex."""
    return {name: sha256(tensor) for name, tensor in model.state_dict().items()}


def code_sha256(folder: Path) -> str:
    """SHA-256 of all files below a folder, names and contents, hex; compiled ones left out."""
    digest = hashlib.sha256()
    paths = [p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    for path in sorted(paths, key=lambda p: p.relative_to(folder).as_posix()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def differences(model: nn.Module, built: nn.Module) -> Iterator[str]:
    """Where a network of a file is not made like one that was built here, a sentence each; nothing
    where both differ in the values of their tensors alone.

    A file decides every attribute of its modules, and an attribute may hide a method or a weight.
    So each must be one that the module built here has, with its value. Modules must be of the same
    class, in the same order, and none may have hooks. Nothing of `model` is called.
    """
    yield from _differences("", model, built)


def _differences(path: str, module: object, built: nn.Module) -> Iterator[str]:
    where = f"architecture: the module at {path or 'the root'}"
    if type(module) is not type(built):
        yield f"{where} must be a {type(built).__name__}, but is a {type(module).__name__}"
        return
    stored, expected = vars(module), vars(built)
    for key in stored.keys() - expected.keys():
        yield f"{where} has an attribute {key} that no {type(built).__name__} has"
    for key, value in expected.items():
        # The torch of the file may have had fewer attributes, which hides nothing.
        if key not in stored or key == "training":
            continue
        if key == "_modules":
            yield from _children(path, stored[key], value)
        elif key in ("_parameters", "_buffers"):
            yield from _tensors(where, stored[key], value)
        elif not _equal(stored[key], value):
            yield f"{where} has {key}={stored[key]!r:.80} where it must be {value!r:.80}"


def _children(path: str, stored: Any, expected: Mapping[str, nn.Module]) -> Iterator[str]:
    names = list(stored) if isinstance(stored, dict) else []
    if names != list(expected):
        odd = next((n for n in [*names, *expected] if (n in names) != (n in expected)), None)
        what = "its modules in another order" if odd is None else f"not the same modules: {odd}"
        yield f"architecture: the module at {path or 'the root'} has {what}"
        return
    for name, child in expected.items():
        yield from _differences(f"{path}.{name}" if path else name, stored[name], child)


def _tensors(where: str, stored: Any, expected: Mapping[str, Tensor | None]) -> Iterator[str]:
    if not isinstance(stored, dict) or list(stored) != list(expected):
        yield f"{where} must have the tensors {', '.join(expected) or 'none'}"
        return
    for name, tensor in expected.items():
        other = stored[name]
        if tensor is None or not isinstance(other, Tensor):
            same = other is None and tensor is None
        else:
            same = (other.shape, other.dtype) == (tensor.shape, tensor.dtype)
        if not same:
            yield f"{where} has a tensor {name} of another shape or type"


def _equal(stored: object, expected: object) -> bool:
    if isinstance(expected, Mapping):  # hooks, all of them empty
        return isinstance(stored, Mapping) and len(stored) == len(expected) == 0
    if isinstance(expected, tuple | list):
        return (
            isinstance(stored, tuple | list)
            and len(stored) == len(expected)
            and all(map(_equal, stored, expected))
        )
    if isinstance(expected, set):
        return stored == expected == set()
    return type(stored) is type(expected) and isinstance(stored, _PLAIN) and stored == expected


def load_pickled(path: Path) -> IResNet:
    """The network that torch.save wrote, on the CPU.

    Only tensors, plain values and the modules of an IResNet are unpickled. The file decides all of
    their attributes, so `differences` must come before anything of it is called.

    Raises:
        ValueError: in one line, if the file is torn, or holds anything else.
    """
    try:
        with torch.serialization.safe_globals(list(_PARTS)):
            model = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has a dozen for a file that is not what it should be
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"it cannot be read: {reason}") from error
    if type(model) is not IResNet:
        raise ValueError(f"it must hold an IResNet, but holds a {type(model).__name__}")
    return model
