"""Randomness of a trial: seeds, and algorithms that give the same bits each time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def choose_algorithms(deterministic: bool) -> None:
    """Choose algorithms for the whole process: those that give the same bits each time, or any.
    TF32 of newer GPUs is always off: its 10 bits are too few for an inverse."""
    # cuBLAS reads it when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    # It serves debugging alone, and takes a twentieth of the time of a dense network. The stubs do
    # not know it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def mixed_seed(seed: int, epoch: int) -> int:
    """A seed in torch's range, from a trial's seed and an epoch."""
    return (seed * 1_000_003 + epoch) % 2**63


@contextmanager
def seeded(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global random state, for initialization and dropout, and restore it after."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(mixed_seed(seed, epoch))
        yield
