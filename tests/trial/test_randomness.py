from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from models.floats.torch_modes import refuse_reduced_products
from study.trial.randomness import choose_algorithms

BACKENDS: Any = torch.backends


@pytest.fixture
def settings() -> Iterator[None]:
    """torch's own ones afterwards."""
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    BACKENDS.mkldnn.conv.fp32_precision = "none"


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_trial_computes_products_in_full_whatever_was_set_before(device: str) -> None:
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = True
    BACKENDS.mkldnn.conv.fp32_precision = "bf16"
    maps: Any = SimpleNamespace(device=torch.device(device), dtype=torch.float32)
    with pytest.raises(ValueError, match="must be computed in full"):
        refuse_reduced_products(maps)
    choose_algorithms(deterministic=True)
    refuse_reduced_products(maps)
    # torch's older names say the same.
    assert torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.cudnn.allow_tf32 is False
