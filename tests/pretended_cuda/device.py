"""A CUDA device that is pretended: tensors that say they are on cuda:0, and compute on the CPU.

Within `PretendedCuda` real code runs with device="cuda" where there is no GPU. Every operation of
aten is seen. What CUDA would refuse is refused: tensors of two devices in one operation, a
generator of the CPU, an operation without a deterministic kernel. What makes the host wait for the
device is counted, with the line of the project that it came from.

It leans on torch's internals: see `device.cpp`. Not covered: what cuDNN, cuBLAS and cuSOLVER do,
forward-mode differentiation, and torch.compile. The tests compare with the CPU, so that a mistake
of the pretense itself is seen too.
"""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from models.network import forward_pass

_ROOT = Path(__file__).parents[2]
# One CPU tensor may stand beside CUDA ones: what is copied, and indices, which are copied.
_COPIES = {"copy_", "_to_copy", "_foreach_copy_"}
_INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}
# The host needs what they compute, or whether they succeeded.
_READS = {
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_linalg_eigh",
    "linalg_cholesky", "_linalg_svd", "linalg_inv",
}  # fmt: skip
# From the documentation of torch.use_deterministic_algorithms: those that it refuses on CUDA.
_NOT_DETERMINISTIC = {
    "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "_ctc_loss_backward",
    "_histogramdd_from_bin_cts", "adaptive_max_pool2d_backward", "avg_pool3d_backward", "bincount",
    "cumsum", "fractional_max_pool2d_backward", "grid_sampler_2d_backward", "histc", "kthvalue",
    "max_pool3d_with_indices_backward", "max_unpool2d", "median", "nll_loss2d_forward", "put_",
    "reflection_pad1d_backward", "reflection_pad2d_backward", "replication_pad2d_backward",
    "resize_", "scatter_reduce", "upsample_bicubic2d_backward", "upsample_bilinear2d_backward",
}  # fmt: skip
# What torch.cuda says of the device. Random numbers are the CPU's, and so is their state.
_ANSWERS: dict[str, Callable[..., Any]] = {
    "_lazy_init": lambda: None,
    "is_available": lambda: True,
    "is_initialized": lambda: True,
    "is_bf16_supported": lambda *args, **kwargs: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "get_rng_state": lambda device=0: torch.get_rng_state(),
    "set_rng_state": lambda state, device=0: None,
    "manual_seed_all": lambda seed: None,
    "max_memory_allocated": lambda device=None: 2**20,
    "reset_peak_memory_stats": lambda device=None: None,
    "get_device_name": lambda device=None: "pretended",
    "utilization": lambda device=None: 50,
    "device_memory_used": lambda device=None: 2**20,
}


class RefusedError(RuntimeError):
    """What CUDA would refuse, or what has no deterministic kernel there."""


class PretendedTensor(Tensor):
    """Says that it is on cuda:0; `host` has its values."""

    host: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, host: Tensor) -> "PretendedTensor":
        tensor = Tensor._make_wrapper_subclass(
            cls, host.shape, strides=host.stride(), dtype=host.dtype, device="cuda:0"
        )
        tensor.host = host
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return PretendedCuda.current().run(func, args, kwargs or {})

    def tolist(self) -> Any:
        PretendedCuda.current().wait("tolist")
        return self.host.tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            copied = self.detach().clone()
            is_parameter = isinstance(self, torch.nn.Parameter)
            memo[id(self)] = (
                torch.nn.Parameter(copied, self.requires_grad)
                if is_parameter
                else copied.requires_grad_(self.requires_grad)
            )
        return memo[id(self)]


class PretendedCuda(TorchDispatchMode):
    """Within it there is one CUDA device.

    Attributes:
        n_operations: those that are no views.
        waits: (kind, line of the project) -> how often the host waited for the device.
    """

    _current: ClassVar["PretendedCuda | None"] = None

    def __init__(self) -> None:
        super().__init__()
        self.n_operations = 0
        self.waits = Counter[tuple[str, str]]()
        self._patch = pytest.MonkeyPatch()

    @classmethod
    def current(cls) -> "PretendedCuda":
        assert cls._current is not None, "a pretended tensor is used outside of PretendedCuda"
        return cls._current

    def __enter__(self) -> "PretendedCuda":
        PretendedCuda._current = self
        for name, answer in _ANSWERS.items():
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
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        is_here = any(isinstance(t, PretendedTensor) for t in tensors)
        to = None if kwargs.get("device") is None else torch.device(kwargs["device"]).type
        if not is_here and to in (None, "cpu"):
            return func(*args, **kwargs)
        name = func._overloadpacket.__name__
        if name in _NOT_DETERMINISTIC:
            raise RefusedError(f"{func} has no deterministic kernel, at {_line()}")
        self._refuse_mixed(name, args, kwargs, [t for t in tensors if is_here])
        self._count_waits(name, args, kwargs, is_here, to)
        self.n_operations += not func.is_view
        if to is not None:
            kwargs = {**kwargs, "device": "cpu"}
        host_args, host_kwargs = tree_map(_host, (args, kwargs))
        result = func(*host_args, **host_kwargs)
        if to == "cpu":
            return result
        # What an operation changed in place is the tensor that came in.
        known = {id(_host(t)): t for t in tensors}

        def wrapped(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            return known[id(value)] if id(value) in known else PretendedTensor(value)

        return tree_map(wrapped, result)

    def _refuse_mixed(
        self, name: str, args: Any, kwargs: dict[str, Any], beside: list[Tensor]
    ) -> None:
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type != "cuda":
            raise RefusedError(f"{name}: a generator of the CPU at {_line()}")
        if name in _COPIES:
            return
        # A number may come from the host, and so may indices of what is on the device.
        indices = args[1] if name in _INDEXED and isinstance(args[0], PretendedTensor) else ()
        on_host = [t for t in beside if not isinstance(t, PretendedTensor) and t.dim() > 0]
        mixed = [tuple(t.shape) for t in on_host if not any(t is index for index in indices)]
        if mixed:
            raise RefusedError(f"{name}: of the CPU, {mixed}, beside cuda at {_line()}")

    def _count_waits(
        self, name: str, args: Any, kwargs: dict[str, Any], is_here: bool, to: str | None
    ) -> None:
        if name in _READS:
            self.wait(name)
        goes_over = name == "_to_copy" and to is not None and (to == "cpu") == is_here
        if name == "copy_":
            goes_over = isinstance(args[0], PretendedTensor) != isinstance(args[1], PretendedTensor)
        if goes_over and not kwargs.get("non_blocking"):
            self.wait("copy")
        for index in args[1] if name in _INDEXED else ():
            if index is not None and not isinstance(index, PretendedTensor):
                self.wait("index from the host")
            # How many entries a mask has is known on the device. One number needs no count.
            is_mask = index is not None and index.dtype == torch.bool
            if is_mask and (name == "index" or args[2].numel() != 1):
                self.wait("mask")


def _host(value: Any) -> Any:
    return value.host if isinstance(value, PretendedTensor) else value


def _line() -> str:
    """The innermost line of the project, without its tests."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_ROOT / "models") or path.is_relative_to(_ROOT / "study"):
            return f"{path.relative_to(_ROOT)}:{frame.f_lineno}"
    return "?"
