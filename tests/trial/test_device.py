"""What a user reads where CUDA does not work, on a machine that has none; and what is recorded of a
GPU's use."""

from collections.abc import Callable

import pynvml
import pytest
import torch

from study.errors import GpuError, GpuMemoryError
from study.trial.device import check_gpus, gpu_use, memory_errors


def raising(error: Exception) -> Callable[..., None]:
    def fails(*args: object, **kwargs: object) -> None:
        raise error

    return fails


@pytest.mark.skipif(torch.version.cuda is not None, reason="torch is built with CUDA here")
def test_a_torch_without_cuda_is_named() -> None:
    """The real thing: nothing is replaced."""
    with pytest.raises(GpuError, match=r"torch must be built with CUDA, but .* is not: install"):
        check_gpus()


DRIVER = r"NVIDIA's driver must .* for CUDA 13\.0, .*"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # As torch 2.13 says it: torch/cuda/__init__.py and c10/cuda.
        ("The NVIDIA driver on your system is too old (found version 11040).", DRIVER + "The NV"),
        ("Found no NVIDIA driver on your system. Please check that you", DRIVER + "Found no NV"),
        ("CUDA driver version is insufficient for CUDA runtime version", DRIVER + "CUDA driver"),
        ("uncorrectable\nECC error", "work on each GPU, but: RuntimeError: uncorrectable ECC"),
        (None, "must see a GPU, but sees none: CUDA_VISIBLE_DEVICES may"),
    ],
)
def test_what_keeps_cuda_from_working_is_named(
    text: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    init = raising(RuntimeError(text)) if text else lambda: None
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(GpuError, match=said):
        check_gpus()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_a_gpu_without_memory_says_what_to_change(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a GpuError: it may have the memory later."""
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch, "ones", raising(error))
    with pytest.raises(GpuMemoryError) as raised:
        check_gpus()
    for setting in ("training.batch_size", "training.precision", "resources.gpus"):
        assert setting in str(raised.value)
    assert str(error)[:20] in str(raised.value)
    assert "\n" not in str(raised.value)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shape") as raised, memory_errors():
        raise RuntimeError("a shape is wrong")
    assert type(raised.value) is RuntimeError


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
