"""The arithmetic that proofs assume, and that torch can be told to leave.

torch has settings under which products of float32 numbers are computed with 8 or 11 bits instead of
24, and numbers below 2^-126 are replaced by zero. No proof here counts either: where one of them is
on, what depends on it is refused.
"""

from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

# Entries that torch leaves to one thread.
_GRAIN = 2**15
# By kind of device, the attributes of torch that say how float32 numbers are multiplied.
_SETTINGS = {
    "cpu": ("backends.mkldnn.matmul.fp32_precision", "backends.mkldnn.conv.fp32_precision"),
    "cuda": ("backends.cuda.matmul.fp32_precision", "backends.cudnn.conv.fp32_precision"),
}
# What they are where that is done in full: on request, or by default.
_IN_FULL = ("ieee", "none")


def refuse_flushed_denormals() -> None:
    """Raise ValueError if torch flushes denormal numbers to zero, in this thread or in the threads
    of its operations. A weight of 1e-40 would count as zero here, and need not where the network
    runs."""
    denormal = torch.full((torch.get_num_threads() * _GRAIN,), 1e-40)
    if not bool((denormal * 1.0).all()):
        raise ValueError(
            "denormal numbers must be kept for a proof, but torch flushes them to zero: call "
            "torch.set_flush_denormal(False)"
        )


def reduced_products(x: Tensor) -> str | None:
    """How torch may compute products of maps like x in less than their precision, under autocast,
    or in TF32 or bfloat16 in place of float32: a sentence; None if it does not."""
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        return f"torch.autocast({kind!r}) is on: leave it"
    if x.dtype == torch.float32:
        if kind == "cpu" and _uses_nnpack():
            return (
                "without oneDNN torch convolves by NNPACK, which rounds by more: call "
                "torch.backends.nnpack.set_flags(False), or use float64"
            )
        for setting in _SETTINGS["cuda" if kind == "cuda" else "cpu"]:
            precision = attrgetter(setting)(torch)
            if precision not in _IN_FULL:
                return f"torch.{setting} is {precision!r}: set it to 'ieee', or use float64"
    return None


def _uses_nnpack() -> bool:
    """Whether torch may convolve float32 maps on a CPU by NNPACK, whose fast transforms do not sum
    products."""
    # torch's stubs do not know all that these have; only the latter says whether NNPACK is on.
    onednn: Any = torch.backends.mkldnn
    private: Any = torch._C
    return (
        not (onednn.is_available() and onednn.enabled)
        and torch.backends.nnpack.is_available()
        and private._get_nnpack_enabled()
    )


def refuse_reduced_products(x: Tensor) -> None:
    """Raise ValueError if torch may compute products of maps like x in less than their
    precision."""
    reduced = reduced_products(x)
    if reduced is not None:
        raise ValueError(
            "products must be computed in full for a proof that counts rounding, and for the "
            f"answers that it is about, but {reduced}"
        )
