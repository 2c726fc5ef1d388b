"""What decides a forward pass: the classes of the modules, their settings and their tensors.

Python can make a module run something else: by a hook, by a `forward` set on the instance, by a
weight that is recomputed from another one. A proof that reads settings and tensors would not see
it. So whatever goes beyond class, settings and tensors is refused here, and these three have a
digest, by which a proof identifies its network. The classes themselves are trusted, as Python,
torch and the processor are.
"""

import hashlib
import sys
from collections import OrderedDict
from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from models.blocks.own import Block

_PACKAGE = __name__.partition(".")[0]
_PLAIN = (bool, int, float, str, type(None))
# What a subclass of a network may define: no call of a network looks at it.
_FREE = {
    "__init__", "__module__", "__dict__", "__weakref__", "__doc__", "__qualname__",
    "__annotations__", "__repr__", "__firstlineno__", "__static_attributes__", "__parameters__",
    "__orig_bases__", "__annotate__", "__annotate_func__", "__annotations_cache__", "extra_repr",
}  # fmt: skip
# What nn.Module gives each instance: torch looks there for tensors, modules and hooks.
_TABLES = vars(nn.Module()).keys()
# Attributes of instances, which an attribute of the class would hide or replace.
_OF_INSTANCES = {"body", "classifier", "in_shape", *_TABLES}


def parts(root: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """(path, module) of a module and all below it, in order; a module in two places comes twice."""
    yield path, root
    for name, child in root._modules.items():
        if isinstance(child, nn.Module):
            yield from parts(child, f"{path}.{name}" if path else name)


def refuse_other_network(model: nn.Module, network: type[nn.Module]) -> None:
    """Refuse a network unless the settings and tensors of its body alone decide the features: its
    root runs as the class `network` does, and each module of the body as its own class does. Every
    proof about a network begins with this check.

    Raises ValueError with the module's path, the rule and what was found.
    """
    _check_class(type(model), network)
    refuse_more_of_one(model, "the root", model.training)
    body = model.get_submodule("body")
    if type(body) is not nn.ModuleList:
        raise ValueError(
            f"no Lipschitz bound is known for the module {type(body).__name__} at body"
        )
    refuse_more(body, "body", model.training)


def _check_class(kind: type, network: type) -> None:
    """Raise ValueError unless `kind` is `network` or a subclass that computes the same."""
    name_of_network = network.__name__
    if not issubclass(kind, network):
        raise ValueError(f"the network must be an {name_of_network}, but is a {kind.__name__}")
    if type(kind) is not type:
        raise ValueError(f"{kind.__name__} must have the metaclass type, but has {type(kind)}")
    theirs = {name for parent in network.__mro__ for name in vars(parent)} | _OF_INSTANCES
    # Also base classes behind the network's: those ahead of nn.Module take precedence over it.
    for parent in set(kind.__mro__) - set(network.__mro__):
        for name in vars(parent):
            # Python looks up special methods, such as __deepcopy__, that no base class defines.
            if name not in _FREE and (name in theirs or _is_special(name)):
                raise ValueError(
                    f"a subclass of {name_of_network} must change nothing of the forward pass, but "
                    f"{parent.__name__} has its own {name}"
                )


def refuse_more(root: nn.Module, path: str, training: bool) -> None:
    """Refuse whatever is more than class, settings and tensors, in a module and all below it.

    Raises ValueError with the module's path, the rule and what was found. `path` is the path of
    root, and `training` the mode in which every module must be.
    """
    for where, module in parts(root, path):
        refuse_more_of_one(module, where, training)


def refuse_more_of_one(module: nn.Module, path: str, training: bool) -> None:
    """`refuse_more` for a single module, without the modules below it."""
    if _has_any_global_hook():
        raise ValueError("no hook may run in a forward pass, but torch has one for all modules")
    for rule in _broken(module, training):
        raise ValueError(f"the {type(module).__name__} at {path} {rule}")


def _broken(module: nn.Module, training: bool) -> Iterator[str]:
    """Yield the rules that a module breaks, without regard to the modules below it."""
    own = vars(module)
    missing = sorted(_TABLES - own.keys())
    if missing:
        yield f"must have what nn.Module gives it, but has no {', '.join(missing)}"
        return
    for key, value in own.items():
        if "_hook" in key and value:
            hooks = value.values() if isinstance(value, dict) else ()
            kinds = ", ".join(sorted(type(hook).__name__ for hook in hooks)) or value
            yield f"must have no hook, but has {key}: {kinds}"
    for kind in ("_parameters", "_buffers", "_modules"):
        table = own[kind]
        if type(table) not in (dict, OrderedDict):
            yield f"must keep {kind} in a dict, but has a {type(table).__name__}"
        for name, value in table.items():
            if not name.isprintable():
                yield f"must have parts with printable names, but has {name!r:.80}"
            if name in own:
                yield f"must have one {name}, but an attribute hides that in {kind}"
            if kind != "_modules" and value is not None:
                yield from _unusable(name, value)
    for key in own:
        # mypy mistakes the __hash__ of a module's instances for that of the class.
        of_class = key in _names(type(module))  # type: ignore[arg-type]
        if (of_class and key != "_compiled_call_impl") or _is_special(key):
            yield f"must run as its class does, but has a {key} of its own"
    for key, value in _settings(module).items():
        if not _is_plain(value):
            yield f"must have plain settings, but {key} is a {type(value).__name__}"
    if own.get("_compiled_call_impl") is not None:
        yield "must run as its class does, but is compiled; compile another module around it"
    if module.training is not training:
        yield f"must be in the network's mode, training={training}, but is in the other"
    if getattr(module, "inplace", False) is not False:
        yield "must not change its input, but has inplace=True"


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _settings(module: nn.Module) -> dict[str, object]:
    """The settings of a module by name: all attributes that nn.Module does not give it. For classes
    of torch without those with a leading underscore, which follow from the others."""
    is_of_torch = type(module).__module__.partition(".")[0] == "torch"
    return {
        key: value
        for key, value in sorted(vars(module).items())
        if key not in _TABLES
        and key != "_compiled_call_impl"
        and not (key.startswith("_") and is_of_torch)
    }


@cache
def _names(of: type) -> frozenset[str]:
    """All names that a class and its bases define."""
    return frozenset(name for parent in of.__mro__ for name in vars(parent))


def _unusable(name: str, tensor: Tensor) -> Iterator[str]:
    if type(tensor) not in (Tensor, nn.Parameter):
        yield f"must have plain tensors, but {name} is a {type(tensor).__name__}"
    elif tensor.layout != torch.strided or tensor.is_quantized:
        yield f"must have dense tensors, but {name} is {tensor.layout}, {tensor.dtype}"
    elif tensor.is_meta:
        yield f"must have tensors with values, but {name} is on the device meta"
    elif tensor.is_complex():
        yield f"must have real tensors, but {name} is {tensor.dtype}"


def _is_plain(value: object) -> bool:
    if type(value) in (tuple, list):
        assert isinstance(value, tuple | list)
        return all(map(_is_plain, value))
    return type(value) in _PLAIN


def forward_sha256(root: nn.Module) -> str:
    """SHA-256, hex, of all that decides a forward pass: classes, settings, and the tensors' types,
    shapes and values; independent of device, layout and mode."""
    digest = hashlib.sha256()
    blocks = (module for _, module in parts(root) if isinstance(module, Block))
    of_authors = {module for block in blocks for _, module in parts(block)}
    for path, module in parts(root):
        settings = _settings(module)
        name = _name_in_digest(type(module), is_of_author=module in of_authors)
        digest.update(f"{path} {name} {settings!r}\n".encode())
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            digest.update(f"{name} {tensor if tensor is None else sha256(tensor)}\n".encode())
    return digest.hexdigest()


def _name_in_digest(kind: type, is_of_author: bool) -> str:
    """The name of a module's class in a digest: the bare name for a class of torch.nn or of this
    package. Where both have a class of one name, such as Flatten, the settings differ. Modules in
    blocks of other authors have bare names too: a certificate names these authors, whose classes
    are trusted. Any other class, whatever it says of itself, has its import path."""
    name = kind.__qualname__
    package, _, _ = kind.__module__.partition(".")
    home = sys.modules.get(kind.__module__) if package == _PACKAGE else nn
    is_known = getattr(home, name, None) is kind
    return name if is_known or is_of_author else repr(f"{kind.__module__}:{name}")


def sha256(tensor: Tensor) -> str:
    """SHA-256, hex, of a tensor's type, shape and values; independent of device and layout."""
    plain = tensor.detach().cpu().resolve_neg().contiguous()
    text = f"{plain.dtype} {tuple(plain.shape)} "
    # As bytes: not every type of torch is one of numpy.
    content = plain.reshape(-1).view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(text.encode() + content).hexdigest()
