"""Store a network in files: its description, as JSON, and its tensors, as safetensors.

Neither format can hold code: one file has the arguments of IResNet, the other the tensors' values.

A projected network differs little from its base, the network that it was made from: in each block
one weight is scaled, and the classifier is replaced. So it shares the WEIGHTS file of its base, its
NETWORK file has the scale factors, and a third file, CHANGES, has all other tensors that differ.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.arguments import check_kind, described
from models.network.forward_pass import forward_sha256
from models.network.iresnet import IResNet, deployed
from models.spec import NetworkSpec, is_import_path

NETWORK = "network.json"
"""File of a network's description: "architecture" holds the arguments of IResNet, and "precision"
may name the dtype in which the network's answers are proven."""
WEIGHTS = "weights.safetensors"
"""File of the tensors in the state_dict() of the network, or of its base if it has one."""
CHANGES = "changes.safetensors"
"""File, for a network with a base, of the tensors that are no multiples of the base's tensors."""
_FACTORS = "factors"
_DTYPES = {"float32": torch.float32, "float64": torch.float64}
# The largest share of a network's bytes in CHANGES: with more, the network is written whole.
_MOST_CHANGED = 0.5
# The integer settings of NetworkSpec.
_COUNTS = [name for name, kind in get_type_hints(NetworkSpec).items() if kind is int]
# The largest count or size. Certificates of larger maps would take hours.
_LARGEST = 100_000


def write_network(
    folder: Path, model: IResNet, description: Mapping[str, Any], base: IResNet | None = None
) -> None:
    """Write a network into a folder, as NETWORK and WEIGHTS.

    Args:
        folder: must exist.
        model: on any device, in any mode.
        description: values that JSON can hold; its "architecture" must be the arguments of IResNet
            that build a network with the tensors of model. classifier_eps is added to them.
        base: the network that model was made from, with tensors of the same names and shapes. If at
            most half of the bytes are in tensors that are no multiples of base's, CHANGES is
            written instead of WEIGHTS. Read with base's WEIGHTS, the network is the same, bit for
            bit.

    Raises:
        TypeError: if an argument is of the wrong type.
        ValueError: before anything is written, if folder is missing, description has no
            architecture, or the network that would be read computes another function than model or
            has tensors of other names, shapes or dtypes.

    >>> built_from = {"in_shape": [1, 8, 8], "n_classes": 2, "blocks": [1], "coeff": 0.5}
    >>> models.write_network(folder, model, {"architecture": built_from})
    >>> torch.equal(models.read_network(folder)(images), model(images))
    True
    """
    for name, value, kind in (
        ("folder", folder, Path),
        ("model", model, IResNet),
        ("description", description, Mapping),
    ):
        check_kind(name, value, kind)
    if not isinstance(description.get("architecture"), Mapping):
        raise ValueError(
            "description must have the arguments of IResNet as its architecture, but has "
            f"{described(description.get('architecture'))}"
        )
    if not folder.is_dir():
        raise ValueError(f"folder must be a folder that is there, but got {folder}")
    architecture = {**description["architecture"], "classifier_eps": model.classifier_eps}
    content = {**description, "architecture": architecture}
    tensors, file = _tensors(model), WEIGHTS
    built = _built(architecture)
    _check(WEIGHTS, tensors, built.state_dict())
    read = _filled(built, tensors)
    # Targets that no weight exceeds may differ: the plain convolutions are the same.
    if forward_sha256(read) != forward_sha256(model) and (
        forward_sha256(deployed(read)) != forward_sha256(deployed(model))
    ):
        raise ValueError(
            f"{NETWORK} must describe the network that is written, but its architecture builds "
            "one with other modules or settings"
        )
    if base is not None:
        check_kind("base", base, IResNet)
        _check("base", _tensors(base), tensors)
        factors, changed = _compared(tensors, _tensors(base))
        if _n_bytes(changed) <= _MOST_CHANGED * _n_bytes(tensors):
            content[_FACTORS] = factors
            tensors, file = changed, CHANGES
    (folder / NETWORK).write_text(json.dumps(content, indent=1) + "\n")
    save_file(tensors, folder / file)


def write_weights(folder: Path, base: IResNet) -> None:
    """Write the tensors of a base into a folder, as WEIGHTS: what networks that were written with
    it there, as CHANGES, are read with."""
    save_file(_tensors(base), folder / WEIGHTS)


def _tensors(model: IResNet) -> dict[str, Tensor]:
    """Name -> tensor of the state_dict, contiguous on the CPU: equal networks give equal bytes."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }


def _n_bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def _compared(
    tensors: Mapping[str, Tensor], base: Mapping[str, Tensor]
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Returns (factors, changed), by the names of the tensors that differ from the base's: the
    factor of each tensor that is a multiple of the base's, and every other tensor itself."""
    factors, changed = {}, {}
    for name, tensor in tensors.items():
        if _is_same(tensor, base[name]):
            continue
        factor = _factor(tensor, base[name])
        if factor is None:
            changed[name] = tensor
        else:
            factors[name] = factor
    return factors, changed


def _factor(tensor: Tensor, base: Tensor) -> float | None:
    """The factor f with tensor == f * base, bit for bit; None if there is none."""
    if tensor.dtype != torch.float32 or not tensor.numel():
        return None
    # From the largest entry, where rounding matters least; the quotient may be off by one bit.
    at = base.abs().argmax()
    near = tensor.flatten()[at] / base.flatten()[at]
    for toward in (near, torch.tensor(0.0), torch.tensor(torch.inf)):
        factor = torch.nextafter(near, toward)
        if _is_same(base * factor, tensor):
            return float(factor)
    return None


def _is_same(tensor: Tensor, other: Tensor) -> bool:
    """Whether two tensors have one dtype and the same bits."""
    one, two = tensor.flatten().view(torch.uint8), other.flatten().view(torch.uint8)
    return tensor.dtype == other.dtype and torch.equal(one, two)


def read_network(folder: Path, *, trust: bool = False) -> IResNet:
    """The network that `write_network` wrote into a folder, in eval mode, on the CPU. For a network
    with a base, the WEIGHTS of the base must be in the folder. A network with blocks of another
    author is read only with `trust`, since their code is imported and run.

    Raises:
        TypeError: if folder is no Path.
        ValueError: in one line with the file's name, if a file cannot be read, NETWORK describes no
            network or one that needs `trust`, or WEIGHTS has other tensors than that network.
    """
    check_kind("folder", folder, Path)
    content = _content(folder / NETWORK)
    block = content["architecture"].get("block")
    if is_import_path(block) and not trust:
        raise ValueError(
            f"{NETWORK} has blocks of {block:.100}, whose code is run only if it is trusted"
        )
    tensors = _loaded(folder / WEIGHTS)
    model = _built(content["architecture"])
    _check(WEIGHTS, tensors, model.state_dict())
    if _FACTORS in content:
        _change(tensors, content[_FACTORS], folder / CHANGES)
    return _filled(model, tensors)


def proven_dtype(folder: Path) -> torch.dtype:
    """The dtype in which answers are proven, of the network that `write_network` wrote into a
    folder: float32 if NETWORK does not say, as in older files. Tensors are stored in float32.

    Raises:
        ValueError: in one line, if NETWORK cannot be read or names another dtype.
    """
    name = _content(folder / NETWORK).get("precision", "float32")
    dtype = _DTYPES.get(name) if isinstance(name, str) else None
    if dtype is None:
        rule = f"precision must be {' or '.join(_DTYPES)}"
        raise ValueError(f"{NETWORK}: {rule}, but is {name!s:.60}")
    return dtype


def _filled(model: IResNet, tensors: Mapping[str, Tensor]) -> IResNet:
    """The model of `_built` with these tensors as values, in eval mode, on the CPU."""
    model = model.to_empty(device="cpu")
    model.load_state_dict(tensors)
    return model.eval()


def _loaded(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path.name} cannot be read: {_one_line(error)}") from error


def _check(file: str, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless a file has exactly the expected tensors, by name, shape and dtype;
    CHANGES may lack some."""
    for name in sorted(tensors.keys() ^ expected.keys()):
        if name in tensors:
            raise ValueError(f"{file} has a tensor that it must not have: {name}")
        if file != CHANGES:
            raise ValueError(f"{file} has no tensor {name}")
    for name, tensor in tensors.items():
        shape, dtype = expected[name].shape, expected[name].dtype
        if (tensor.shape, tensor.dtype) != (shape, dtype):
            raise ValueError(
                f"{file}: the tensor {name} must be {tuple(shape)}, {dtype}, "
                f"but is {tuple(tensor.shape)}, {tensor.dtype}"
            )


def _change(tensors: dict[str, Tensor], factors: object, path: Path) -> None:
    """Turn the tensors of a base, in place, into the tensors of the network made from it."""
    if not isinstance(factors, dict) or not all(type(f) is float for f in factors.values()):
        raise ValueError(f"{NETWORK}: {_FACTORS} must be numbers by the names of tensors")
    changes = _loaded(path)
    _check(CHANGES, changes, tensors)
    for name, factor in factors.items():
        if name not in tensors or name in changes or tensors[name].dtype != torch.float32:
            raise ValueError(f"{NETWORK}: {_FACTORS} has a tensor that it must not have: {name}")
        changes[name] = tensors[name] * torch.tensor(factor)
    tensors.update(changes)


def _content(path: Path) -> Mapping[str, Any]:
    """The content of a NETWORK file. Raises ValueError if it cannot be read, or if a size or count
    in it is not a whole number of at most _LARGEST."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        architecture = content["architecture"]
        # Checked before a network is built: a million blocks would take minutes.
        sizes = [*architecture["in_shape"], *architecture["blocks"]]
        sizes += (architecture[name] for name in _COUNTS if name in architecture)
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise ValueError(f"{NETWORK} cannot be read: {_one_line(error)}") from error
    if not isinstance(architecture, dict) or not all(type(size) is int for size in sizes):
        raise ValueError(f"{NETWORK}: sizes and counts must be whole numbers")
    if max(sizes) > _LARGEST:
        raise ValueError(f"{NETWORK}: sizes and counts must be at most {_LARGEST}")
    mapping: Mapping[str, Any] = content
    return mapping


def _built(architecture: Mapping[str, Any]) -> IResNet:
    """A network on the device meta, without memory. Raises ValueError if it cannot be built."""
    try:
        with torch.device("meta"):
            return IResNet(NetworkSpec(**architecture))
    # Any exception, since another author's blocks may raise any.
    except Exception as error:
        raise ValueError(f"{NETWORK} describes no network: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
