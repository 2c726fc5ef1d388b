"""What a trial costs: time of its processor and of its GPU, and energy."""

import math
import time
from dataclasses import replace

import torch

from study.config.search import ResourcesConfig
from study.metrics.reports import EpochReport
from study.trial.energy import meter


class CostMeter:
    """Measures what this process spends on a trial, from now on until it is closed.

    Args:
        device: that it trains on.
        resources: what it was given.
    """

    def __init__(self, device: torch.device, resources: ResourcesConfig) -> None:
        self._gpus = resources.gpus if device.type == "cuda" else None
        self._cpu_start, self._start = time.process_time(), time.perf_counter()
        self._meter = meter(device, resources)
        self._before: tuple[float | None, float | None, float | None] = (0.0, 0.0, 0.0)

    def go_on_from(self, last: EpochReport) -> None:
        """Count on from what the last report of a restored trial says."""
        self._before = (last.cpu_hours, last.gpu_hours, last.energy_wh)

    def stamped(self, report: EpochReport) -> EpochReport:
        """A report with what its trial has cost so far."""
        hours = (time.perf_counter() - self._start) / 3600
        cpu, gpu, energy = self._before
        return replace(
            report,
            cpu_hours=_total(cpu, (time.process_time() - self._cpu_start) / 3600),
            gpu_hours=_total(gpu, None if self._gpus is None else self._gpus * hours),
            energy_wh=_total(energy, None if self._meter is None else self._meter.joules() / 3600),
        )

    def close(self) -> None:
        """Measure no more."""
        if self._meter is not None:
            self._meter.close()


def _total(before: float | None, since: float | None) -> float | None:
    """What was spent before and since; None where it was never known. NaN where it is known no
    more: the last value that was reported must not stand for the whole."""
    if before is None:
        return None
    if since is None:
        return math.nan if before > 0 else None
    return before + since
