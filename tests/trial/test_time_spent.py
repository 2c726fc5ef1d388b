"""The hours of a trial, by clocks that are set by hand."""

import time
from dataclasses import replace

import pytest
import torch

from study.config.search import ResourcesConfig
from study.trial.time_spent import TimeSpent
from tests.support.studies import epoch_report

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Clocks:
    """Seconds of the CPU and of the wall."""

    cpu, wall = 50.0, 7.0

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "process_time", lambda: self.cpu)
        monkeypatch.setattr(time, "perf_counter", lambda: self.wall)

    def spend(self, cpu: float, wall: float) -> None:
        self.cpu, self.wall = self.cpu + cpu, self.wall + wall


def hours(spent: TimeSpent) -> tuple[float | None, float | None]:
    report = spent.stamped(epoch_report(2))
    assert replace(report, cpu_hours=None, gpu_hours=None) == epoch_report(2)
    return report.cpu_hours, report.gpu_hours


def test_hours_add_up_and_a_restored_trial_goes_on_from_its_last_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clocks = Clocks(monkeypatch)
    on_gpu = TimeSpent(CUDA, ResourcesConfig(gpus=0.25))
    on_cpu = TimeSpent(CPU, ResourcesConfig(cpus=4))
    clocks.spend(cpu=7200, wall=3600)
    assert (hours(on_gpu), hours(on_cpu)) == ((2.0, 0.25), (2.0, None))
    clocks.spend(cpu=1800, wall=7200)
    assert hours(on_gpu) == (2.5, 0.75)
    on_gpu.go_on_from(replace(epoch_report(1), cpu_hours=1.0, gpu_hours=2.0))
    assert hours(on_gpu) == (3.5, 2.75)
    on_cpu.go_on_from(replace(epoch_report(1), cpu_hours=1.0))
    assert hours(on_cpu) == (3.5, None)


def test_the_cpu_time_is_that_of_this_process_and_all_its_threads() -> None:
    """Against what the process's own clock says, around it."""
    before = time.process_time()
    spent = TimeSpent(CPU, ResourcesConfig(cpus=0.5))
    made = time.process_time()
    while time.process_time() - made < 0.05:
        pass
    asked = time.process_time()
    cpu_hours = hours(spent)[0]
    after = time.process_time()
    assert cpu_hours is not None
    assert asked - made <= 3600 * cpu_hours <= after - before
