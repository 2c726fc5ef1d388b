"""The CPU and GPU time that a trial costs."""

import time
from dataclasses import replace

import torch

from study.config.search import ResourcesConfig
from study.metrics.reports import EpochReport


class TimeSpent:
    """Counts the CPU and GPU hours that this process spends, from now on, on a trial that trains on
    `device` and was given `resources`."""

    def __init__(self, device: torch.device, resources: ResourcesConfig) -> None:
        self._gpus = resources.gpus if device.type == "cuda" else None
        self._cpu_start, self._start = time.process_time(), time.perf_counter()
        self._cpu_before = self._gpu_before = 0.0

    def go_on_from(self, last: EpochReport) -> None:
        """Continue from the hours in the last report of a restored trial."""
        self._cpu_before, self._gpu_before = last.cpu_hours or 0.0, last.gpu_hours or 0.0

    def stamped(self, report: EpochReport) -> EpochReport:
        """The report with the trial's hours so far added; GPU hours are None on a CPU."""
        cpu = (time.process_time() - self._cpu_start) / 3600
        wall = (time.perf_counter() - self._start) / 3600
        return replace(
            report,
            cpu_hours=self._cpu_before + cpu,
            gpu_hours=None if self._gpus is None else self._gpu_before + self._gpus * wall,
        )
