"""The bottleneck block of an i-ResNet (Behrmann et al., section 3)."""

import copy
import math
from collections.abc import Mapping

from torch import Tensor, nn

from models.activations import ACTIVATIONS
from models.invertible_block import InvertibleBlock, Layers
from models.spectral_norm import SpectralNormConv2d

# The least target of the first two layers with budget="last": near 1, so that a small coeff makes
# only the last layer small.
_FIRST_TARGET = 0.97


def layer_targets(coeff: float, budget: str, dropout: float) -> tuple[float, float, float]:
    """The targets of a block's three layers; arguments as of ResidualBlock."""
    kept = 1 - dropout
    if budget == "even":
        return coeff, coeff, coeff * kept
    first = max(coeff, _FIRST_TARGET)
    return first, first, coeff**3 / first**2 * kept


class ResidualBlock(InvertibleBlock):
    """x + g(x) with g = W3 k(W2 k(W1 k(x))): 3x3, 1x1, 3x3 (paper, section 3).

    With norm="batch", a BatchNorm stands before every activation. Dropout stands before the last
    convolution; kept entries are scaled by 1 / (1 - dropout), so the target of that convolution is
    smaller by 1 - dropout, and the product of the targets is coeff**3 in training with any mask.

    Args:
        channels: of the input and the output.
        size: (H, W) of the map.
        inner_channels: between the convolutions.
        norm: "spectral", "batch" or "none".
        activation: a key of ACTIVATIONS.
        coeff: for norm="spectral", the cube root of the product of the targets, spectral norms.
        budget: "even": each target is coeff (paper). "last": the first two targets stay large, and
            the last one is what remains of the product. A small coeff then shrinks the step size of
            a block (paper, equation 1), and not the features that it computes.
        dropout: probability in [0, 1).
        first: whether it is the first block of a network, which has no activation ahead.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        *,
        inner_channels: int,
        norm: str,
        activation: str,
        coeff: float,
        budget: str,
        dropout: float,
        first: bool = False,
    ) -> None:
        super().__init__(channels, size)

        def activate(n_channels: int) -> list[nn.Module]:
            layers: list[nn.Module] = [nn.BatchNorm2d(n_channels)] if norm == "batch" else []
            return [*layers, ACTIVATIONS[activation]()]

        targets = iter(layer_targets(coeff, budget, dropout))

        def convolve(c_in: int, c_out: int, k: int) -> nn.Module:
            layer: SpectralNormConv2d | nn.Conv2d
            if norm == "spectral":
                layer = SpectralNormConv2d(c_in, c_out, k, size=size, coeff=next(targets))
            else:
                layer = nn.Conv2d(c_in, c_out, k, padding=k // 2)
            # torch's random biases outweigh what small coefficients let through.
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
            return layer

        self.residual = nn.Sequential(
            *([] if first else activate(channels)),
            convolve(channels, inner_channels, 3),
            *activate(inner_channels),
            convolve(inner_channels, inner_channels, 1),
            *activate(inner_channels),
            *([nn.Dropout(dropout)] if dropout > 0 else []),
            convolve(inner_channels, channels, 3),
        )

    def forward(self, x: Tensor, weights: Mapping[nn.Module, Tensor] | None = None) -> Tensor:
        g = x
        for module in self.residual:
            if weights is not None and isinstance(module, SpectralNormConv2d):
                g = module(g, weights[module])
            else:
                g = module(g)
        return x + g

    @property
    def target_lipschitz(self) -> float:
        targets = [m.coeff for m in self.residual if isinstance(m, SpectralNormConv2d)]
        return 1 + math.prod(targets) if targets else math.inf

    def deployed(self) -> nn.Sequential:
        return nn.Sequential(
            *(
                m.deployed() if isinstance(m, SpectralNormConv2d) else copy.deepcopy(m)
                for m in self.residual
            )
        )

    def layers(self) -> Layers:
        return [m.convolution() if isinstance(m, SpectralNormConv2d) else m for m in self.residual]
