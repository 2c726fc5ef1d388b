import pytest
import torch
from torch import nn

from models.layers.convolution import convolved


@pytest.mark.parametrize("kernel_size", [(1, 1), (1, 3), (3, 1), (3, 5)])
def test_it_is_the_convolution_that_keeps_the_size(kernel_size: tuple[int, int]) -> None:
    conv = nn.Conv2d(3, 2, kernel_size, padding="same", dtype=torch.float64)
    x = torch.randn(4, 3, 5, 6, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(convolved(x, conv.weight, conv.bias), conv(x))
