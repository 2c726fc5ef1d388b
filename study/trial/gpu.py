"""Whether CUDA works on the GPUs of this machine, and what a user can do if not."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F

from study.errors import GpuError, GpuMemoryError

# Messages of CUDA's libraries that are out of memory; torch passes them on.
_NO_MEMORY = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "out of memory")


def check_gpus() -> None:
    """Compute something on each GPU that this process may use.

    Raises:
        GpuError: in one line, why that fails, and what to change.
        GpuMemoryError: a GPU has no memory left for it.
    """
    try:
        torch.cuda.init()
        n_gpus = torch.cuda.device_count()
        with memory_errors():
            for index in range(n_gpus):
                image = torch.ones(2, 3, 8, 8, device=f"cuda:{index}")
                kernel = torch.ones(4, 3, 3, 3, device=f"cuda:{index}", requires_grad=True)
                F.conv2d(image, kernel).sum().backward()
                assert kernel.grad is not None
                kernel.grad.sum().item()  # waits for the GPU, and so for its errors
    # AssertionError: torch was built without CUDA. RuntimeError: any other CUDA failure.
    except (AssertionError, RuntimeError) as error:
        raise GpuError(_what_to_change(error)) from error
    if n_gpus == 0:
        raise GpuError("CUDA must see a GPU, but sees none: CUDA_VISIBLE_DEVICES may hide them")


def _what_to_change(error: Exception) -> str:
    text = " ".join(str(error).split())
    if torch.version.cuda is None:
        return (
            f"torch must be built with CUDA, but {torch.__version__} is not: install it again, "
            "from PyPI or from the index of a version of CUDA"
        )
    if "driver" in text.lower():
        return (
            f"NVIDIA's driver must be there and be new enough for CUDA {torch.version.cuda}, with "
            f"which torch {torch.__version__} was built: install a newer driver, or torch for an "
            f"older CUDA. torch says: {text[:300]}"
        )
    return f"CUDA must work on each GPU, but: {type(error).__name__}: {text[:300]}"


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn a GPU's out-of-memory errors within the block into a GpuMemoryError with advice."""
    try:
        yield
    except RuntimeError as error:
        text = " ".join(str(error).split())
        is_of_memory = isinstance(error, torch.OutOfMemoryError)
        if not is_of_memory and not any(sign in text for sign in _NO_MEMORY):
            raise
        raise GpuMemoryError(
            "the GPU must have the memory for a trial: training.batch_size or the network must be "
            "smaller, training.precision must be bf16, or resources.gpus larger, so that fewer "
            f"trials share it. torch says: {text[:300]}"
        ) from error
