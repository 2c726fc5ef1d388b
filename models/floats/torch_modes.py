"""Checks that torch computes as proofs assume.

torch has settings under which products of float32 numbers are computed with 8 or 11 bits instead of
24, or numbers below 2^-126 are replaced by zero. No proof here accounts for either: where such a
setting is on, whatever depends on it is refused.
"""

from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

# The number of entries up to which torch uses one thread.
_GRAIN = 2**15
# Kind of device -> the attributes of torch that say how float32 numbers are multiplied.
_SETTINGS = {
    "cpu": ("backends.mkldnn.matmul.fp32_precision", "backends.mkldnn.conv.fp32_precision"),
    "cuda": ("backends.cuda.matmul.fp32_precision", "backends.cudnn.conv.fp32_precision"),
}
# Their values under which products are computed in full: on request, or by default.
_IN_FULL = ("ieee", "none")


def refuse_flushed_denormals() -> None:
    """Raise ValueError if torch flushes denormal numbers to zero, in this thread or in the threads
    of its operations. A weight of 1e-40 would be zero in a proof, but might not be where the
    network runs."""
    denormal = torch.full((torch.get_num_threads() * _GRAIN,), 1e-40)
    if not bool((denormal * 1.0).all()):
        raise ValueError(
            "denormal numbers must be kept for a proof, but torch flushes them to zero: call "
            "torch.set_flush_denormal(False)"
        )


def reduced_products(x: Tensor) -> str | None:
    """Why torch may compute products of maps like x in less than their precision (autocast, TF32,
    bfloat16 or NNPACK), as a sentence with a remedy; None if it computes them in full."""
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
    """Whether torch may convolve float32 maps on a CPU by NNPACK, not by plain sums of products."""
    # torch's stubs lack these attributes; only torch._C says whether NNPACK is on.
    onednn: Any = torch.backends.mkldnn
    private: Any = torch._C
    return (
        not (onednn.is_available() and onednn.enabled)
        and torch.backends.nnpack.is_available()
        and private._get_nnpack_enabled()
    )


def refuse_reduced_products(x: Tensor) -> None:
    """Raise ValueError if `reduced_products` finds a reason for maps like x."""
    reduced = reduced_products(x)
    if reduced is not None:
        raise ValueError(
            "products must be computed in full for a proof that counts rounding, and for the "
            f"answers that it is about, but {reduced}"
        )
