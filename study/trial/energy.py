"""Energy of the device that a trial trains on, by the device's own meter; none is estimated."""

import math
import os
import threading
from pathlib import Path
from typing import Protocol

import torch

from study.config.search import ResourcesConfig
from study.trial.gpu_use import total_energy

_POWERCAP = Path("/sys/class/powercap")
# A processor's counter begins anew after 65 kJ or more: it is read so often that it could do so
# twice, unseen, above 1 kW alone.
_SECONDS = 60.0


class Meter(Protocol):
    """Of what a device has taken since the meter was made."""

    def joules(self) -> float:
        """NaN once the device does not say any more."""

    def close(self) -> None: ...


def meter(
    device: torch.device, resources: ResourcesConfig, powercap: Path = _POWERCAP
) -> Meter | None:
    """A meter of what a trial takes; None where none measures this trial alone.

    That is the GPU's where the trial has it for itself, and on a CPU the processors' where it has
    all of them.

    Args:
        powercap: the folder of Linux's power capping framework, which has RAPL's counters.
    """
    if device.type == "cuda":
        start = total_energy(device) if resources.gpus == 1 else None
        return None if start is None else GpuMeter(device, start)
    if resources.cpus < (os.cpu_count() or math.inf):
        return None
    try:
        return ProcessorMeter(powercap)
    # Absent on many machines, and readable by root alone on most others.
    except (OSError, ValueError):
        return None


class GpuMeter:
    """Of a whole GPU: board and memory."""

    def __init__(self, device: torch.device, start: float) -> None:
        """start: its `total_energy`."""
        self._device, self._start = device, start

    def joules(self) -> float:
        """NaN once the GPU does not say any more."""
        now = total_energy(self._device)
        return math.nan if now is None or now < self._start else now - self._start

    def close(self) -> None:
        """Nothing is open."""


class _Counter:
    """Joules of a zone of RAPL since this was made.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it has no number.
    """

    def __init__(self, zone: Path) -> None:
        self._path = zone / "energy_uj"
        self._range = int((zone / "max_energy_range_uj").read_text())
        self._last = int(self._path.read_text())
        self._microjoules = 0

    def joules(self) -> float:
        now = int(self._path.read_text())
        self._microjoules += now - self._last + (self._range if now < self._last else 0)
        self._last = now
        return self._microjoules / 1e6


class ProcessorMeter:
    """Of all processors of a machine, and of its memory where that is measured, by RAPL. A thread
    reads the counters until this is closed.

    Raises:
        OSError: if there is no counter, or it cannot be read.
    """

    def __init__(self, powercap: Path = _POWERCAP, seconds: float = _SECONDS) -> None:
        """
        Args:
            seconds: between two readings, > 0.
        """
        # A package's has in it what its cores take, and that of the whole platform (psys) would
        # have the packages in it.
        zones = [
            zone
            for zone in sorted(powercap.glob("intel-rapl:*"))
            if (name := (zone / "name").read_text().strip()).startswith("package-")
            or name == "dram"
        ]
        if not any((zone / "name").read_text().startswith("package-") for zone in zones):
            raise FileNotFoundError(f"{powercap} must have the counter of a processor")
        self._counters = [_Counter(zone) for zone in zones]
        self._is_lost = False
        self._reading = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(seconds,), daemon=True)
        self._thread.start()

    def joules(self) -> float:
        """NaN once a counter cannot be read any more."""
        with self._reading:
            try:
                total = sum(counter.joules() for counter in self._counters)
            except (OSError, ValueError):
                self._is_lost = True
            return math.nan if self._is_lost else total

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()

    def _read(self, seconds: float) -> None:
        while not self._ended.wait(seconds):
            self.joules()
