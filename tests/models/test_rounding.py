import math

import pytest
import torch
from torch import nn

from models.norms.rounding import absolute_norm
from tests.support.oracles import dense_norm


def layer(weight: torch.Tensor) -> nn.Conv2d:
    c_out, c_in, k, _ = weight.shape
    conv = nn.Conv2d(c_in, c_out, k, padding=k // 2, bias=False).to(weight.dtype)
    conv.weight = nn.Parameter(weight)
    return conv


def kernels() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(6, 9, 3, 3, generator=generator, dtype=torch.float64)
    gaps = random.clone()
    gaps[:, 2] = 0.0
    gaps[4] = 0.0
    return {
        "random": random,
        "wide": random.transpose(0, 1).contiguous(),
        "one entry": torch.zeros_like(random).index_fill(0, torch.tensor([3]), 1.0),
        "zeros in rows and columns": gaps,
        "two scales": random
        * torch.tensor([1.0, 1e-200] * 3, dtype=torch.float64).view(6, 1, 1, 1),
        "matrix": random[:, :, :1, :1].contiguous(),
    }


@pytest.mark.parametrize("name", kernels())
@pytest.mark.parametrize("exponent", [-200, 0, 150])
def test_the_norm_of_an_absolute_kernel_is_at_least_that_of_its_taps(
    name: str, exponent: int
) -> None:
    """Against singular values; and against those of the dense operator on a map of 5 x 5."""
    kernel = kernels()[name]
    bound = absolute_norm(layer(kernel * 10.0**exponent)) * 10.0**-exponent
    exact = torch.linalg.matrix_norm(kernel.abs().sum(dim=(2, 3)), ord=2).item()
    assert exact <= bound <= 1.01 * exact
    assert dense_norm(kernel.abs(), (5, 5)) <= bound


@pytest.mark.parametrize("value", [0.0, math.inf, math.nan])
def test_the_norm_of_a_kernel_without_a_finite_largest_entry(value: float) -> None:
    bound = absolute_norm(layer(torch.full((2, 3, 1, 1), value)))
    assert bound == value or math.isnan(value)
