"""The state of a training as one safetensors file, which can hold no code.

The tensors are named by number. The dicts and lists around them, and the plain values, are JSON in
the file's metadata, with {_TENSOR: number} in the place of a tensor.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

_STATE = "state"
_TENSOR = "tensor"


def state_bytes(state: object) -> bytes:
    """The content of the file for a state of tensors and plain values, in lists and in dicts whose
    keys are text. Raises TypeError for anything else."""
    tensors: dict[str, Tensor] = {}

    def plain(value: object) -> object:
        if isinstance(value, Tensor):
            name = str(len(tensors))
            # safetensors takes contiguous tensors only, and no two that share memory.
            tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
            return {_TENSOR: name}
        if isinstance(value, dict):
            if _TENSOR in value or not all(type(key) is str for key in value):
                raise TypeError(f"a state must have keys of text, none {_TENSOR!r}: {list(value)}")
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    tree = json.dumps(plain(state))
    content: bytes = save(tensors, metadata={_STATE: tree})
    return content


def read_state(path: Path) -> Any:
    """The state of a file from `state_bytes`, on the CPU; a tuple comes back as a list. Raises
    ValueError, with the file's name, if the file is not whole."""
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads(
                file.metadata()[_STATE],
                object_hook=lambda d: file.get_tensor(d[_TENSOR]) if _TENSOR in d else d,
            )
    except (LookupError, RecursionError, SafetensorError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from error
