"""Timing in turns: every contender once a round, so that a slow minute slows all alike."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch

# Before each contender: the threads of OpenBLAS go on spinning for about a tenth of a second after
# its last call, and would take that from whoever comes next.
_PAUSE_SECONDS = 0.3


def in_turns(
    contenders: Mapping[str, Callable[[], object]], n_rounds: int
) -> dict[str, list[float]]:
    """Seconds of each contender in each of n_rounds, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for n_round in range(n_rounds + 1):
        for name, run in contenders.items():
            time.sleep(_PAUSE_SECONDS)
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if n_round > 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(values: list[float]) -> str:
    """The median, and the quartiles in brackets."""
    if len(values) < 3:
        return f"{statistics.median(values):.3f} [{min(values):.3f}, {max(values):.3f}]"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"


def ratios(of: list[float], over: list[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(of, over, strict=True)]


def machine() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            model = next((x.split(":")[1].strip() for x in lines if "model name" in x), model)
    return (
        f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads, {device}; "
        f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}"
    )
