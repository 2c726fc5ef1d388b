"""What a trial costs, by clocks that are set by hand."""

import math
import time
from dataclasses import replace

import pytest
import torch

from study.config.search import ResourcesConfig
from study.trial import costs
from study.trial.costs import CostMeter
from tests.support.studies import epoch_report

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Clocks:
    """Seconds of the CPU and of the wall, and the joules of a meter, if there is one."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.cpu, self.wall, self.taken = 50.0, 7.0, 0.0
        self.is_metered = self.is_open = True
        patch.setattr(time, "process_time", lambda: self.cpu)
        patch.setattr(time, "perf_counter", lambda: self.wall)
        patch.setattr(costs, "meter", lambda *_: self if self.is_metered else None)

    def joules(self) -> float:
        return self.taken

    def close(self) -> None:
        self.is_open = False

    def spend(self, cpu: float, wall: float, joules: float = 0.0) -> None:
        self.cpu, self.wall, self.taken = self.cpu + cpu, self.wall + wall, self.taken + joules


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def of(meter: CostMeter) -> tuple[float | None, float | None, float | None]:
    report = meter.stamped(epoch_report(2))
    assert replace(report, cpu_hours=None, gpu_hours=None, energy_wh=None) == epoch_report(2)
    return report.cpu_hours, report.gpu_hours, report.energy_wh


def test_costs_add_up_from_the_beginning(clocks: Clocks) -> None:
    meter = CostMeter(CUDA, ResourcesConfig(gpus=0.25))
    clocks.spend(cpu=7200, wall=3600, joules=7200)
    assert of(meter) == (2.0, 0.25, 2.0)
    clocks.spend(cpu=1800, wall=7200, joules=1800)
    assert of(meter) == (2.5, 0.75, 2.5)
    meter.close()
    assert not clocks.is_open


def test_a_cpu_has_no_gpu_hours_and_what_has_no_meter_no_energy(clocks: Clocks) -> None:
    clocks.is_metered = False
    meter = CostMeter(CPU, ResourcesConfig(cpus=4))
    clocks.spend(cpu=3600, wall=900)
    assert of(meter) == (1.0, None, None)
    meter.close()


def test_a_restored_trial_goes_on_from_its_last_report(clocks: Clocks) -> None:
    meter = CostMeter(CUDA, ResourcesConfig(gpus=1))
    clocks.spend(cpu=360, wall=720, joules=3600)
    last = replace(epoch_report(1), cpu_hours=1.0, gpu_hours=2.0, energy_wh=10.0)
    meter.go_on_from(last)
    assert of(meter) == pytest.approx((1.1, 2.2, 11.0))


def test_what_an_earlier_version_did_not_report_stays_unknown(clocks: Clocks) -> None:
    meter = CostMeter(CUDA, ResourcesConfig(gpus=1))
    meter.go_on_from(epoch_report(1))
    clocks.spend(cpu=3600, wall=3600, joules=3600)
    assert of(meter) == (None, None, None)


def test_energy_that_is_metered_no_more_is_not_reported_as_the_whole(clocks: Clocks) -> None:
    """On another machine, without a meter, and then on one with it again."""
    clocks.is_metered = False
    meter = CostMeter(CPU, ResourcesConfig())
    meter.go_on_from(replace(epoch_report(1), cpu_hours=1.0, energy_wh=10.0))
    cpu, _, energy = of(meter)
    assert cpu == 1.0
    assert energy is not None
    assert math.isnan(energy)
    clocks.is_metered = True
    again = CostMeter(CPU, ResourcesConfig())
    again.go_on_from(meter.stamped(epoch_report(2)))
    clocks.spend(cpu=0, wall=0, joules=3600)
    energy = of(again)[2]
    assert energy is not None
    assert math.isnan(energy)


def test_the_cpu_time_is_that_of_this_process_and_all_its_threads() -> None:
    """Against what the process's own clock says, around it."""
    before = time.process_time()
    meter = CostMeter(CPU, ResourcesConfig(cpus=0.5))
    made = time.process_time()
    while time.process_time() - made < 0.05:
        pass
    asked = time.process_time()
    hours = of(meter)[0]
    after = time.process_time()
    assert hours is not None
    assert asked - made <= 3600 * hours <= after - before
