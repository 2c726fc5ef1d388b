"""Randomness of a trial: seeds, and algorithms that give the same bits each time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch


def choose_algorithms(deterministic: bool, compiled: bool = False) -> None:
    """Choose algorithms for the whole process: those that give the same bits each time, or any.
    TF32 and bfloat16 in place of float32 are always off: their bits are too few for an inverse, and
    proofs count the rounding of float32."""
    # cuBLAS reads it when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if compiled:
        torch.use_deterministic_algorithms(deterministic)
    else:
        # The same, but for torch's compiler, whose import takes a second.
        torch.set_deterministic_debug_mode("error" if deterministic else "default")
    # It serves debugging alone, and takes a twentieth of the time of a dense network.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    # Before 2.15, torch's stubs do not know `conv` of either.
    for backend in (torch.backends.cudnn, torch.backends.mkldnn):
        cast(Any, backend).conv.fp32_precision = "ieee"


def mixed_seed(seed: int, epoch: int) -> int:
    """A seed in torch's range, from a trial's seed and an epoch."""
    return (seed * 1_000_003 + epoch) % 2**63


@contextmanager
def seeded(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global random state within the context, for initialization and dropout."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(mixed_seed(seed, epoch))
        yield
