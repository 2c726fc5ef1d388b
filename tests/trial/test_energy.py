"""Meters of energy, from counters that are made up."""

import math
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from threading import active_count

import pytest
import torch

from study.config.search import ResourcesConfig
from study.trial import energy
from study.trial.energy import GpuMeter, ProcessorMeter, meter

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
N_CPUS = os.cpu_count() or 1
RANGE = 262_143_328_850
"""Microjoules after which the counter of a server begins anew."""


class Zone:
    """A zone of RAPL, as Linux shows it."""

    def __init__(self, powercap: Path, folder: str, name: str, start: int) -> None:
        self.path = powercap / folder
        self.path.mkdir(parents=True)
        (self.path / "name").write_text(f"{name}\n")
        (self.path / "max_energy_range_uj").write_text(f"{RANGE}\n")
        self.microjoules = start
        self.take(0)

    def take(self, joules: float) -> None:
        self.microjoules = (self.microjoules + round(joules * 1e6)) % RANGE
        new = self.path / "new"
        new.write_text(f"{self.microjoules}\n")
        new.replace(self.path / "energy_uj")  # as a whole, for who reads it meanwhile


@pytest.fixture
def zones(tmp_path: Path) -> dict[str, Zone]:
    """Two processors of a server, and what else its folder has."""
    (tmp_path / "intel-rapl").mkdir()  # the controller, which is no zone
    named = {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
        "intel-rapl:1": "package-1",
        "intel-rapl:1:0": "dram",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
    }
    return {
        folder: Zone(tmp_path, folder, name, 1_000_000 * index)
        for index, (folder, name) in enumerate(named.items())
    }


@pytest.fixture
def processors(zones: dict[str, Zone], tmp_path: Path) -> Iterator[ProcessorMeter]:
    made = ProcessorMeter(tmp_path, seconds=600)
    yield made
    made.close()


def test_packages_and_memory_are_counted_and_what_is_in_them_or_around_them_is_not(
    zones: dict[str, Zone], processors: ProcessorMeter
) -> None:
    assert processors.joules() == 0
    for zone, joules in zip(zones.values(), (10, 7, 2, 20.5, 3, 1000, 10), strict=True):
        zone.take(joules)
    assert processors.joules() == pytest.approx(10 + 2 + 20.5 + 3)
    assert processors.joules() == pytest.approx(35.5)  # nothing was taken since


@pytest.mark.parametrize("seed", range(5))
def test_a_counter_that_begins_anew_loses_nothing(
    seed: int, zones: dict[str, Zone], processors: ProcessorMeter
) -> None:
    """Over many times its range, read at least once in each."""
    rng, total = random.Random(seed), 0.0
    for _ in range(50):
        joules = rng.uniform(0, 0.999 * RANGE / 1e6)
        zones["intel-rapl:1"].take(joules)
        total += joules
        assert processors.joules() == pytest.approx(total)
    assert total > 10 * RANGE / 1e6


def test_it_is_read_while_nobody_asks(zones: dict[str, Zone], tmp_path: Path) -> None:
    n_threads = active_count()
    made = ProcessorMeter(tmp_path, seconds=0.001)
    zone, total = zones["intel-rapl:0"], 0.0
    for _ in range(3):
        zone.take(0.6 * RANGE / 1e6)  # three of these begin anew once
        total += 0.6 * RANGE / 1e6
        deadline = time.monotonic() + 60
        while made._counters[0]._last != zone.microjoules:
            assert time.monotonic() < deadline
            time.sleep(0.001)  # until the thread has seen it
    assert made.joules() == pytest.approx(total)
    made.close()
    assert active_count() == n_threads


def test_a_counter_that_is_gone_on_the_way_leaves_nothing_known(
    zones: dict[str, Zone], processors: ProcessorMeter
) -> None:
    zones["intel-rapl:0"].take(5)
    (zones["intel-rapl:0"].path / "energy_uj").rename(zones["intel-rapl:0"].path / "away")
    assert math.isnan(processors.joules())
    zones["intel-rapl:0"].take(5)
    assert math.isnan(processors.joules())


def test_a_trial_with_all_processors_is_metered_and_no_other(
    zones: dict[str, Zone], tmp_path: Path
) -> None:
    n_threads = active_count()
    made = meter(CPU, ResourcesConfig(cpus=N_CPUS), tmp_path)
    assert made is not None
    zones["intel-rapl:0"].take(3)
    assert made.joules() == pytest.approx(3)
    made.close()
    assert meter(CPU, ResourcesConfig(cpus=0.5), tmp_path) is None
    if N_CPUS > 1:
        assert meter(CPU, ResourcesConfig(cpus=N_CPUS - 1), tmp_path) is None
    assert active_count() == n_threads


def test_without_a_counter_there_is_no_meter(zones: dict[str, Zone], tmp_path: Path) -> None:
    whole = ResourcesConfig(cpus=N_CPUS)
    assert meter(CPU, whole, tmp_path / "absent") is None
    (zones["intel-rapl:0"].path / "max_energy_range_uj").write_text("")
    assert meter(CPU, whole, tmp_path) is None
    for folder in ("intel-rapl:0", "intel-rapl:1"):
        (zones[folder].path / "name").write_text("psys")
    assert meter(CPU, whole, tmp_path) is None


def test_a_counter_for_root_alone_is_no_meter(
    zones: dict[str, Zone], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_text

    def refused(path: Path) -> str:  # as Linux does; the tests may run as root
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_text", refused)
    assert meter(CPU, ResourcesConfig(cpus=N_CPUS), tmp_path) is None


def test_a_whole_gpu_is_metered_and_a_part_of_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[float | None] = [1000.0, 1360.5, 1400.0]
    monkeypatch.setattr(energy, "total_energy", lambda device: answers.pop(0))
    # Its own meter alone, with all processors too.
    made = meter(CUDA, ResourcesConfig(cpus=N_CPUS, gpus=1))
    assert isinstance(made, GpuMeter)
    assert [made.joules(), made.joules()] == [360.5, 400.0]
    assert meter(CUDA, ResourcesConfig(gpus=0.5)) is None
    answers.append(None)  # it has no meter
    assert meter(CUDA, ResourcesConfig(cpus=N_CPUS, gpus=1)) is None


@pytest.mark.parametrize("then", [None, 999.0])
def test_a_gpu_whose_counter_is_lost_or_begins_anew_leaves_nothing_known(
    then: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "total_energy", lambda device: then)
    assert math.isnan(GpuMeter(CUDA, start=1000.0).joules())
