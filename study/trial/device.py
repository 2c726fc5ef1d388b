"""The device of a trial: its name and its use; whether CUDA works, and what to change if not."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F

from study.errors import GpuError, GpuMemoryError

_CPU_INFO = Path("/proc/cpuinfo")
# Parts of the messages that torch passes on from CUDA's libraries when memory runs out.
_NO_MEMORY = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "out of memory")


def check_gpus() -> None:
    """Test each GPU that this process may use by a computation. Raises GpuError, which says in one
    line why that fails and what to change, or GpuMemoryError if a GPU has no memory left for it."""
    try:
        torch.cuda.init()
        n_gpus = torch.cuda.device_count()
        with memory_errors():
            for index in range(n_gpus):
                image = torch.ones(2, 3, 8, 8, device=f"cuda:{index}")
                kernel = torch.ones(4, 3, 3, 3, device=f"cuda:{index}", requires_grad=True)
                F.conv2d(image, kernel).sum().backward()
                assert kernel.grad is not None
                kernel.grad.sum().item()  # waits for the GPU, and so for its errors
    # AssertionError: torch was built without CUDA. RuntimeError: any other CUDA failure.
    except (AssertionError, RuntimeError) as error:
        raise GpuError(_what_to_change(error)) from error
    if n_gpus == 0:
        raise GpuError("CUDA must see a GPU, but sees none: CUDA_VISIBLE_DEVICES may hide them")


def _what_to_change(error: Exception) -> str:
    text = " ".join(str(error).split())
    if torch.version.cuda is None:
        return (
            f"torch must be built with CUDA, but {torch.__version__} is not: install it again, "
            "from PyPI or from the index of a version of CUDA"
        )
    if "driver" in text.lower():
        return (
            f"NVIDIA's driver must be there and be new enough for CUDA {torch.version.cuda}, with "
            f"which torch {torch.__version__} was built: install a newer driver, or torch for an "
            f"older CUDA. torch says: {text[:300]}"
        )
    return f"CUDA must work on each GPU, but: {type(error).__name__}: {text[:300]}"


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn a GPU's out-of-memory error within the context into a GpuMemoryError with advice."""
    try:
        yield
    except RuntimeError as error:
        text = " ".join(str(error).split())
        is_of_memory = isinstance(error, torch.OutOfMemoryError)
        if not is_of_memory and not any(sign in text for sign in _NO_MEMORY):
            raise
        raise GpuMemoryError(
            "the GPU must have the memory for a trial: training.batch_size or the network must be "
            "smaller, training.precision must be bf16, or resources.gpus larger, so that fewer "
            f"trials share it. torch says: {text[:300]}"
        ) from error


@cache
def device_name(device: torch.device) -> str:
    """Name of the model of a GPU, or of the processor as far as the system tells."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def memory_bytes(device: torch.device) -> int:
    """All the memory of a GPU, or of the machine, whoever uses it."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def gpu_use(device: torch.device) -> dict[str, float]:
    """One sample of the use of the whole GPU by all processes, from NVIDIA's management library:
    utilization in percent and memory in MB. Keys are names of MLflow's system metrics without their
    prefix, in which GPU 0 is the one that this process sees. Empty on a CPU, and where the library
    is missing or cannot measure the device, such as a part of a GPU (MIG)."""
    if device.type != "cuda":
        return {}
    # Installed with the study on Linux, but `study.trial` runs without it.
    try:
        from pynvml import NVMLError
    except ModuleNotFoundError:
        return {}
    try:
        return {
            "gpu_0_utilization_percentage": torch.cuda.utilization(device),
            "gpu_0_memory_usage_megabytes": torch.cuda.device_memory_used(device) / 1e6,
        }
    # RuntimeError is torch's, where a GPU is hidden from the library or is a part of one.
    except (NVMLError, RuntimeError):
        return {}
