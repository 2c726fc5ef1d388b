"""How much a GPU is used, by NVIDIA's management library."""

import torch


def gpu_use(device: torch.device) -> dict[str, float]:
    """One sample of the whole GPU, with all that runs on it.

    The names are those of MLflow's system metrics, without the prefix; GPU 0 is the one that this
    process sees. Empty on a CPU, and where the library is missing or says nothing of the device, as
    of a part of a GPU (MIG).
    """
    if device.type != "cuda":
        return {}
    # The package is there wherever the study is installed on Linux; `study.trial` does without.
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
