"""The use of a GPU, by a management library that is not there."""

import pynvml
import pytest
import torch

from study.trial.device import gpu_use

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
USED = {"gpu_0_utilization_percentage": 40, "gpu_0_memory_usage_megabytes": 3}


@pytest.mark.parametrize(
    ("device", "error", "expected"),
    [
        (CUDA, None, USED),
        (CPU, AssertionError("a CPU is not asked"), {}),
        # A GPU that says nothing ends no training.
        (CUDA, pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED), {}),
        # torch 2.13, torch/cuda/__init__.py
        (CUDA, RuntimeError("device 0 is not visible (CUDA_VISIBLE_DEVICES=[])"), {}),
    ],
)
def test_what_a_gpu_says_of_its_use_is_given(
    device: torch.device,
    error: Exception | None,
    expected: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def utilization(asked: torch.device) -> int:
        assert asked == CUDA
        if error is not None:
            raise error
        return 40

    monkeypatch.setattr(torch.cuda, "utilization", utilization)
    monkeypatch.setattr(torch.cuda, "device_memory_used", lambda device: 3_000_000)
    assert gpu_use(device) == expected
