"""The step of a gradient flow as a residual block: it moves no two points apart.

Meunier et al. 2022, "A dynamical system perspective for Lipschitz neural networks", there with
|W|^2 <= 2 and without an inverse.
"""

import copy
import math
from collections.abc import Mapping
from functools import partial

from torch import Tensor, nn

from models.activations import ACTIVATIONS
from models.convolution import convolved
from models.invertible_block import InvertibleBlock, Layers
from models.power_iteration import adjoint_kernel
from models.spectral_norm import SpectralNormConv2d


class PotentialBlock(InvertibleBlock):
    """x + g(x) with g = -W^T k(W x + b), W a zero-padded convolution.

    k has slopes in [0, 1], so between two points the block acts as I - W^T Q W, with a diagonal Q
    with entries in [0, 1]: a symmetric matrix with eigenvalues in [1 - |W|^2, 1], |W| the spectral
    norm. So Lip(g) is at most |W|^2, the Lipschitz constant of the block at most
    max(1, |W|^2 - 1), and that of its inverse at most 1 / (1 - |W|^2), where |W| < 1.

    Args:
        channels: of the input and the output.
        size: (H, W) of the map.
        inner_channels: of W's output.
        kernel_size: of W, odd.
        norm: "spectral" or "none".
        activation: a key of ACTIVATIONS.
        coeff: for norm="spectral", the target of |W|^2.
        dropout: probability in [0, 1) that an entry of k's output is zeroed.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        *,
        inner_channels: int,
        kernel_size: int,
        norm: str,
        activation: str,
        coeff: float,
        dropout: float,
    ) -> None:
        super().__init__(channels, size)
        conv: SpectralNormConv2d | nn.Conv2d
        if norm == "spectral":
            conv = SpectralNormConv2d(
                channels,
                inner_channels,
                kernel_size,
                size=size,
                coeff=math.sqrt(coeff),
                orthonormal=kernel_size == 1,
            )
        else:
            conv = nn.Conv2d(channels, inner_channels, kernel_size, padding=kernel_size // 2)
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
        self.conv = conv
        self.activation = ACTIVATIONS[activation]()
        self.dropout = nn.Dropout(dropout) if dropout > 0 else None

    def forward(self, x: Tensor, weights: Mapping[nn.Module, Tensor] | None = None) -> Tensor:
        weight = self._weight() if weights is None else weights.get(self.conv, self.conv.weight)
        inner = self.activation(convolved(x, weight, self.conv.bias))
        if self.dropout is not None:
            inner = self.dropout(inner)
        return x - convolved(inner, adjoint_kernel(weight))

    @property
    def target_lipschitz(self) -> float:
        conv = self.conv
        return max(1.0, conv.coeff**2 - 1) if isinstance(conv, SpectralNormConv2d) else math.inf

    def deployed(self) -> nn.Sequential:
        first = self.conv
        plain = first.deployed() if isinstance(first, SpectralNormConv2d) else copy.deepcopy(first)
        c_out, c_in, *kernel = plain.weight.shape
        k_height, k_width = kernel
        padding = k_height // 2, k_width // 2
        last = nn.Conv2d(
            c_out, c_in, (k_height, k_width), padding=padding, bias=False, device="meta"
        )
        last.weight = nn.Parameter(-adjoint_kernel(plain.weight.detach()), requires_grad=False)
        return nn.Sequential(plain, copy.deepcopy(self.activation), last.train(self.training))

    def layers(self) -> Layers:
        weight, bias = self._weight().detach(), self.conv.bias
        bias = None if bias is None else bias.detach()
        return [
            partial(convolved, weight=weight, bias=bias),
            self.activation,
            partial(convolved, weight=-adjoint_kernel(weight)),
        ]

    def _weight(self) -> Tensor:
        """That which W has now."""
        conv = self.conv
        return conv.effective_weight() if isinstance(conv, SpectralNormConv2d) else conv.weight
