"""The device of a trial: its name and its use."""

import platform
from functools import cache
from pathlib import Path

import torch

_CPU_INFO = Path("/proc/cpuinfo")


@cache
def device_name(device: torch.device) -> str:
    """The model of a GPU, or of the processor as far as the system says it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def gpu_use(device: torch.device) -> dict[str, float]:
    """One sample of the use of the whole GPU, whatever runs on it, by NVIDIA's management library.

    The names are those of MLflow's system metrics, without the prefix; GPU 0 is the one that this
    process sees. Empty on a CPU, and where the library is missing or says nothing of the device, as
    of a part of a GPU (MIG).
    """
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
