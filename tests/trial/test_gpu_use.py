"""The use of a GPU while a trial trains, from what a management library says that is not there."""

from collections.abc import Iterator
from itertools import count
from threading import Event, active_count

import pynvml
import pytest
import torch

from study.trial.gpu_use import measured_use

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
