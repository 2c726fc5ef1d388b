"""The use of a GPU while a trial trains, from what a management library says that is not there."""

from collections.abc import Iterator
from itertools import count
from threading import Event, active_count
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

from study.trial.gpu_use import measured_use, total_energy

CUDA = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """One that is used for 0, 1, 2, ... percent of the time, sample by sample."""
    percents = count()
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: next(percents))
    monkeypatch.setattr(torch.cuda, "device_memory_used", lambda device: 3_000_000)
    monkeypatch.setattr(torch.cuda, "power_draw", lambda device: 120_000)
    return percents


def test_the_mean_of_the_samples_is_there_after_the_block(
    gpu: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    third, utilization, n_threads = Event(), torch.cuda.utilization, active_count()

    def asked(device: torch.device) -> int:
        percent = utilization(device)
        if percent == 2:
            third.set()
        return percent

    monkeypatch.setattr(torch.cuda, "utilization", asked)
    with measured_use(CUDA, seconds=0.01) as use:
        assert third.wait(60)
        assert use == {}
    n_samples = next(gpu)
    assert n_samples > 2
    assert use == {
        "gpu_0_utilization_percentage": (n_samples - 1) / 2,
        "gpu_0_memory_usage_megabytes": 3,
        "gpu_0_power_usage_watts": 120,
    }
    assert active_count() == n_threads
    assert next(gpu) == n_samples + 1  # nobody asks any more


def test_a_block_shorter_than_a_period_has_one_sample(gpu: Iterator[int]) -> None:
    with measured_use(CUDA, seconds=600) as use:
        pass
    assert next(gpu) == 1
    assert len(use) == 3


@pytest.mark.parametrize(
    "error",
    [
        pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED),
        # torch 2.13, torch/cuda/__init__.py
        RuntimeError("device 0 is not visible (CUDA_VISIBLE_DEVICES=[])"),
    ],
)
def test_what_the_gpu_does_not_say_is_left_out(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(device: torch.device) -> int:
        raise error

    monkeypatch.setattr(torch.cuda, "utilization", refuse)
    with measured_use(CUDA, seconds=0.01) as use:
        pass  # what is asked as it ends
    assert set(use) == {"gpu_0_memory_usage_megabytes", "gpu_0_power_usage_watts"}


def test_an_error_of_the_training_passes_and_ends_the_sampling(gpu: Iterator[int]) -> None:
    n_threads = active_count()
    with pytest.raises(RuntimeError, match="of the training"), measured_use(CUDA, seconds=0.01):
        raise RuntimeError("of the training")
    assert active_count() == n_threads
    n_samples = next(gpu)
    assert next(gpu) == n_samples + 1


def test_on_a_cpu_nothing_is_asked(gpu: Iterator[int]) -> None:
    n_threads = active_count()
    with measured_use(torch.device("cpu"), seconds=0.01) as use:
        assert active_count() == n_threads
    assert use == {}
    assert next(gpu) == 0


class Library:
    """NVIDIA's management library of a machine with one GPU."""

    uuid = "0d3b9d4a-6f1e-8f1b-5a0e-0c7d3a9be001"
    millijoules = 5_000_250
    mig: Any = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)  # as of a GPU that knows no MIG

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.is_begun = False
        names = {
            "nvmlInit": self.begin,
            "nvmlDeviceGetHandleByUUID": self.handle,
            "nvmlDeviceGetMigMode": lambda gpu: self.answer(gpu, self.mig),
            "nvmlDeviceGetTotalEnergyConsumption": lambda gpu: self.answer(gpu, self.millijoules),
        }
        for name, function in names.items():
            patch.setattr(pynvml, name, function)
        properties = SimpleNamespace(uuid=self.uuid)
        patch.setattr(torch.cuda, "get_device_properties", lambda device: properties)

    def begin(self) -> None:
        self.is_begun = True

    def handle(self, uuid: str) -> str:
        assert self.is_begun
        if uuid != f"GPU-{self.uuid}":
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return "the GPU"

    def answer(self, gpu: str, value: Any) -> Any:
        assert gpu == "the GPU"
        if isinstance(value, Exception):
            raise value
        return value


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    return Library(monkeypatch)


def test_a_gpu_says_what_energy_it_has_taken(library: Library) -> None:
    assert total_energy(CUDA) == 5000.25
    library.mig = [pynvml.NVML_DEVICE_MIG_DISABLE, pynvml.NVML_DEVICE_MIG_ENABLE]
    assert total_energy(CUDA) == 5000.25


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("mig", [pynvml.NVML_DEVICE_MIG_ENABLE, pynvml.NVML_DEVICE_MIG_ENABLE]),
        ("mig", pynvml.NVMLError(pynvml.NVML_ERROR_NO_PERMISSION)),
        ("millijoules", pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)),
        ("uuid", "another"),
    ],
)
def test_a_gpu_that_is_divided_or_has_no_meter_says_nothing(
    attribute: str, value: Any, library: Library
) -> None:
    setattr(library, attribute, value)
    assert total_energy(CUDA) is None


def test_without_a_driver_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(monkeypatch)
    missing = pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: library.answer("the GPU", missing))
    assert total_energy(CUDA) is None
