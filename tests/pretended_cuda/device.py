"""A CUDA device that is pretended: tensors that say they are on cuda:0, and compute on the CPU.

Within `PretendedCuda` real code runs with device="cuda" where there is no GPU. Every operation of
aten is seen. What CUDA would refuse is refused: tensors of two devices in one operation, a
generator of the CPU, numpy. So is an operation that is not in `reviewed`. What makes the host wait
for the device is counted, with the line of the project that it came from.

It leans on torch's internals: see `device.cpp`. Not covered: what cuDNN, cuBLAS and cuSOLVER do,
forward-mode differentiation, and torch.compile. Each test compares with the CPU, so that a mistake
of the pretense itself is seen too.
"""

import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from models import forward_pass
from tests.pretended_cuda.reviewed import DETERMINISTIC, VIEWS

_ROOT = Path(__file__).parents[2]
_CUDA = torch.device("cuda", 0)
_ATEN = torch.ops.aten
# One CPU tensor may stand beside CUDA ones: what is copied, and indices, which are copied.
_COPIES = {"copy_", "_to_copy", "_foreach_copy_"}
_INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}
# The host needs what they compute.
_READS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero"}
# Their result says on the host whether they succeeded.
_CHECKED = {"_linalg_eigh", "linalg_cholesky", "_linalg_svd", "linalg_inv"}


class DeviceMixedError(RuntimeError):
    """Tensors or generators of two devices meet."""


class NotReviewedError(RuntimeError):
    """Nobody has looked whether an operation has a deterministic kernel on CUDA."""


class PretendedTensor(Tensor):
    """Says that it is on cuda:0; `host` has its values."""

    host: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, host: Tensor) -> "PretendedTensor":
        tensor = Tensor._make_wrapper_subclass(
            cls, host.shape, strides=host.stride(), dtype=host.dtype, device=_CUDA
        )
        tensor.host = host
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return PretendedCuda.current().run(func, args, kwargs or {})

    def tolist(self) -> Any:
        PretendedCuda.current().wait("tolist")
        return self.host.tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise DeviceMixedError("a cuda tensor has no numpy array")

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            with torch.no_grad():
                copied = self.detach().clone()
            is_parameter = isinstance(self, torch.nn.Parameter)
            memo[id(self)] = (
                torch.nn.Parameter(copied, self.requires_grad)
                if is_parameter
                else (copied.requires_grad_(self.requires_grad))
            )
        return memo[id(self)]

    def __repr__(self, **kwargs: Any) -> str:
        return f"on cuda:0, {self.host!r}"


class PretendedCuda(TorchDispatchMode):
    """Within it there is one CUDA device.

    Attributes:
        operations: name of an operation that launches a kernel -> how often.
        waits: (kind, line of the project) -> how often the host waited for the device.
    """

    _current: ClassVar["PretendedCuda | None"] = None

    def __init__(self) -> None:
        super().__init__()
        self.operations = Counter[str]()
        self.waits = Counter[tuple[str, str]]()
        self._patch = pytest.MonkeyPatch()

    @classmethod
    def current(cls) -> "PretendedCuda":
        assert cls._current is not None, "a pretended tensor is used outside of PretendedCuda"
        return cls._current

    def __enter__(self) -> "PretendedCuda":
        PretendedCuda._current = self
        answers: dict[str, Callable[..., Any]] = {
            "_lazy_init": lambda: None,
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "is_bf16_supported": lambda *args, **kwargs: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            # Random numbers are the CPU's, and so is their state.
            "get_rng_state": lambda device=0: torch.get_rng_state(),
            "set_rng_state": lambda state, device=0: None,
            "manual_seed_all": lambda seed: None,
            "max_memory_allocated": lambda device=None: 2**20,
            "reset_peak_memory_stats": lambda device=None: None,
            "get_device_name": lambda device=None: "pretended",
            "utilization": lambda device=None: 50,
            "device_memory_used": lambda device=None: 2**20,
        }
        for name, answer in answers.items():
            self._patch.setattr(torch.cuda, name, answer)
        self._patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        # Certificates are of plain tensors alone, for which these stand.
        unusable = forward_pass._unusable
        self._patch.setattr(
            forward_pass,
            "_unusable",
            lambda name, t: iter(()) if isinstance(t, PretendedTensor) else unusable(name, t),
        )
        # Parameters are replaced as a module moves: no tensor becomes one of another class.
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        torch._C._set_only_lift_cpu_tensors(False)
        torch.__future__.set_overwrite_module_params_on_conversion(False)
        self._patch.undo()
        PretendedCuda._current = None

    def wait(self, kind: str) -> None:
        self.waits[(kind, _line())] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
        here = [t for t in tensors if isinstance(t, PretendedTensor)]
        device = None if kwargs.get("device") is None else torch.device(kwargs["device"])
        if not here and (device is None or device.type == "cpu"):
            return func(*args, **kwargs)
        name = func._overloadpacket.__name__
        on_host = [t for t in tensors if not isinstance(t, PretendedTensor)]
        self._refuse_mixed(func, name, args, kwargs, here, on_host)
        self._count_waits(name, args, kwargs, here, device)
        if name not in DETERMINISTIC and name not in VIEWS:
            raise NotReviewedError(f"{func} at {_line()}: see tests/pretended_cuda/reviewed.py")
        if name not in VIEWS:
            self.operations[name] += _n_launches(name, args)
        # Lazily conjugated or negated tensors would be taken for plain ones by what is below.
        func = {_ATEN._conj.default: _ATEN.conj_physical.default}.get(func, func)
        kwargs = {**kwargs, "device": "cpu"} if device is not None else kwargs
        host_args, host_kwargs = tree_map(_host, (args, kwargs))
        result = func(*host_args, **host_kwargs)
        if name == "_local_scalar_dense" or (
            name == "_to_copy" and device is not None and device.type == "cpu"
        ):
            return result
        # What an operation changed in place is the tensor that came in.
        known = {id(t.host): t for t in here}
        on_device = name not in ("copy_", "_foreach_copy_") or bool(here)

        def wrapped(value: Any) -> Any:
            if not isinstance(value, Tensor) or not on_device:
                return value
            same = known.get(id(value))
            return PretendedTensor(value) if same is None else same

        return tree_map(wrapped, result)

    def _refuse_mixed(
        self,
        func: Any,
        name: str,
        args: Any,
        kwargs: dict[str, Any],
        here: list[PretendedTensor],
        on_host: list[Tensor],
    ) -> None:
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type != "cuda":
            raise DeviceMixedError(f"{func}: a generator of the CPU at {_line()}")
        if name in _COPIES or not here:
            return
        # A number may come from the host, and so may indices of what is on the device.
        indices = args[1] if name in _INDEXED and isinstance(args[0], PretendedTensor) else ()
        mixed = [t for t in on_host if t.dim() > 0 and not any(t is index for index in indices)]
        if mixed:
            shapes = [tuple(t.shape) for t in mixed]
            raise DeviceMixedError(f"{func}: of the CPU, {shapes}, beside cuda at {_line()}")

    def _count_waits(
        self,
        name: str,
        args: Any,
        kwargs: dict[str, Any],
        here: list[PretendedTensor],
        device: torch.device | None,
    ) -> None:
        if name in _READS or name in _CHECKED:
            self.wait(name)
        goes_over = (
            name == "_to_copy" and device is not None and (device.type == "cpu") == bool(here)
        )
        if name == "copy_":
            to, source = (isinstance(tensor, PretendedTensor) for tensor in args[:2])
            goes_over = to != source
        if goes_over and not kwargs.get("non_blocking"):
            self.wait("copy")
        for index in args[1] if name in _INDEXED else ():
            if index is not None and not isinstance(index, PretendedTensor):
                self.wait("index from the host")
            # How many entries a mask has is known on the device. One number needs no count.
            is_mask = index is not None and index.dtype == torch.bool
            if is_mask and (name == "index" or args[2].numel() != 1):
                self.wait("mask")


def _n_launches(name: str, args: Any) -> int:
    """Kernels that an operation launches: one, but one a tensor for lists that have not one layout
    in each place, or a tensor with gaps (ATen/native/ForeachUtils.h)."""
    if not name.startswith("_foreach_"):
        return 1
    lists = [tensors for tensors in args if isinstance(tensors, list | tuple)]
    lists = [tensors for tensors in lists if tensors and isinstance(tensors[0], Tensor)]
    layouts = [[_layout(tensor) for tensor in tensors] for tensors in lists]
    is_dense = all(_is_dense(tensor) for tensors in lists for tensor in tensors)
    return 1 if is_dense and all(others == layouts[0] for others in layouts) else len(lists[0])


def _layout(tensor: Tensor) -> list[tuple[int, int]]:
    """(size, stride) of each axis; where there is one entry the stride says nothing."""
    return [(n, step) for n, step in zip(tensor.shape, tensor.stride(), strict=True) if n > 1]


def _is_dense(tensor: Tensor) -> bool:
    """Whether its entries fill a piece of memory."""
    reach = sum((n - 1) * step for n, step in _layout(tensor))
    return reach + 1 == tensor.numel()


def _host(value: Any) -> Any:
    return value.host if isinstance(value, PretendedTensor) else value


def _line() -> str:
    """The innermost line of the project, without its tests."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path.is_relative_to(_ROOT / "models") or path.is_relative_to(_ROOT / "study"):
            return f"{path.relative_to(_ROOT)}:{frame.lineno}"
    return "?"
