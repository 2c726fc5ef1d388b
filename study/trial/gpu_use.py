"""How much a trial's GPU is used while it trains, and what energy it takes, by NVIDIA's management
library."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import fmean

import torch

# Between two samples. A driver's own period is 1/6 s to 1 s.
_SECONDS = 1.0


@contextmanager
def measured_use(device: torch.device, seconds: float = _SECONDS) -> Iterator[dict[str, float]]:
    """Yield a dict that has, after the block, the means over samples that were taken within it.

    The names are those of MLflow's system metrics, without the prefix; GPU 0 is the one that this
    process sees. The GPU is measured as a whole, with all other trials on it. Left out is what it
    does not say; on a CPU, on a part of a GPU (MIG) and without a driver's library nothing is
    measured.

    Args:
        seconds: between two samples, > 0.
    """
    means: dict[str, float] = {}
    if device.type != "cuda":
        yield means
        return
    samples: dict[str, list[float]] = defaultdict(list)
    ended = threading.Event()
    sampling = threading.Thread(target=_sample, args=(device, samples, ended, seconds), daemon=True)
    sampling.start()
    try:
        yield means
    finally:
        ended.set()
        sampling.join()
    means.update({name: fmean(values) for name, values in samples.items()})


def _sample(
    device: torch.device, samples: dict[str, list[float]], ended: threading.Event, seconds: float
) -> None:
    # The package is there wherever the study is installed on Linux; `study.trial` does without.
    try:
        from pynvml import NVMLError
    except ModuleNotFoundError:
        return
    questions: dict[str, Callable[[], float]] = {
        "gpu_0_utilization_percentage": lambda: torch.cuda.utilization(device),
        "gpu_0_memory_usage_megabytes": lambda: torch.cuda.device_memory_used(device) / 1e6,
        "gpu_0_power_usage_watts": lambda: torch.cuda.power_draw(device) / 1e3,
    }
    is_last = False
    while not is_last:
        # The last sample is taken as the block ends, so that there is one.
        is_last = ended.wait(seconds)
        for name, ask in list(questions.items()):
            try:
                value = ask()
            # The second is torch's, where a GPU is hidden from the library or is a part of one.
            except (NVMLError, RuntimeError):
                del questions[name]
            else:
                samples[name].append(value)


def total_energy(device: torch.device) -> float | None:
    """Joules that a GPU has taken since its driver was loaded; None where it does not say, where it
    is divided (MIG) and its counter is not of one part, or without a driver's library."""
    try:
        import pynvml
    except ModuleNotFoundError:
        return None
    # By its id: the library numbers GPUs otherwise than CUDA_VISIBLE_DEVICES does.
    uuid = torch.cuda.get_device_properties(device).uuid
    try:
        pynvml.nvmlInit()
        gpu = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        if _is_divided(gpu):
            return None
        millijoules: int = pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
    except pynvml.NVMLError:
        return None
    return millijoules / 1e3


def _is_divided(gpu: object) -> bool:
    import pynvml

    try:
        now, _ = pynvml.nvmlDeviceGetMigMode(gpu)
    except pynvml.NVMLError_NotSupported:
        return False
    return bool(now == pynvml.NVML_DEVICE_MIG_ENABLE)
