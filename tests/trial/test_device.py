"""The use of a GPU, by a management library that is not there."""

import pynvml
import pytest
import torch

from study.trial.device import gpu_use

CUDA = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """A GPU that is used for 40 percent of the time; the devices that it was asked for."""
    asked = []

    def utilization(device: torch.device) -> int:
        asked.append(device)
        return 40

    monkeypatch.setattr(torch.cuda, "utilization", utilization)
    monkeypatch.setattr(torch.cuda, "device_memory_used", lambda device: 3_000_000)
    return asked


def test_a_gpu_is_asked_once(gpu: list[torch.device]) -> None:
    assert gpu_use(CUDA) == {
        "gpu_0_utilization_percentage": 40,
        "gpu_0_memory_usage_megabytes": 3,
    }
    assert gpu == [CUDA]


def test_on_a_cpu_nothing_is_asked(gpu: list[torch.device]) -> None:
    assert gpu_use(torch.device("cpu")) == {}
    assert gpu == []


@pytest.mark.parametrize(
    "error",
    [
        pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED),
        # torch 2.13, torch/cuda/__init__.py
        RuntimeError("device 0 is not visible (CUDA_VISIBLE_DEVICES=[])"),
    ],
)
def test_a_gpu_that_says_nothing_ends_no_training(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(device: torch.device) -> int:
        raise error

    monkeypatch.setattr(torch.cuda, "utilization", refuse)
    assert gpu_use(CUDA) == {}
