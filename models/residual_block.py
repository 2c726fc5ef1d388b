"""The residual block of an i-ResNet, and its inverse (Behrmann et al., section 3)."""

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from models.activations import ACTIVATIONS
from models.fixed_point import Solution, fixed_point
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


class ResidualBlock(nn.Module):
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
        super().__init__()
        self.in_shape = (channels, *size)

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
        """x + g(x) for x (B, C, H, W); `weights` are the layers' effective ones, if at hand."""
        g = x
        for module in self.residual:
            if weights is not None and isinstance(module, SpectralNormConv2d):
                g = module(g, weights[module])
            else:
                g = module(g)
        return x + g

    def deployed(self) -> nn.Sequential:
        """A copy of g in plain modules: its convolutions have the effective weights."""
        return nn.Sequential(
            *(
                m.deployed() if isinstance(m, SpectralNormConv2d) else copy.deepcopy(m)
                for m in self.residual
            )
        )

    @torch.no_grad()
    def inverse(
        self,
        z: Tensor,
        *,
        rtol: float = 1e-6,
        atol: float = 0.0,
        max_steps: int | Tensor = 100,
        expanding: bool = False,
    ) -> Solution:
        """Solve x + g(x) = z for x (B, C, H, W) by fixed-point iteration from z, in the precision
        of the weights, under autocast too.

        Args:
            z: (B, C, H, W), of the block's in_shape.
            rtol, atol, max_steps: as in `fixed_point`.
            expanding: whether it is known to be invertible though g may not contract.

        Raises:
            RuntimeError: in training mode with dropout or BatchNorm, where g is no function of one
                sample.
            ValueError: if z is not of in_shape.
        """
        if self.training and any(
            isinstance(m, nn.Dropout | nn.BatchNorm2d) for m in self.residual.modules()
        ):
            raise RuntimeError(
                "inverse needs eval mode: dropout and BatchNorm make the network in training "
                "mode no function of a single sample; call model.eval() first"
            )
        if z.shape[1:] != self.in_shape:
            raise ValueError(
                f"z of shape {self.in_shape} must be given, but got {tuple(z.shape[1:])}"
            )
        # Not `deployed`, whose modules take a tenth of the inverse's time to make.
        layers = [
            m.convolution() if isinstance(m, SpectralNormConv2d) else m for m in self.residual
        ]
        # The iteration sees (B, H, W, C), in which channels_last maps are contiguous, so that it
        # neither copies nor reorders samples.
        pixels = z.permute(0, 2, 3, 1).contiguous()
        solved, targets = torch.empty(0), pixels

        def step(x: Tensor, rows: Tensor) -> Tensor:
            nonlocal solved, targets
            if rows is not solved:  # the same as in the step before, as a rule
                solved, targets = rows, pixels[rows]
            g = x.permute(0, 3, 1, 2)
            for layer in layers:
                g = layer(g)
            g = g.permute(0, 2, 3, 1)
            return torch.sub(targets, g, out=g)

        with torch.autocast(z.device.type, enabled=False):
            solution = fixed_point(
                step, pixels, rtol=rtol, atol=atol, max_steps=max_steps, expanding=expanding
            )
        return replace(
            solution,
            value=solution.value.permute(0, 3, 1, 2),
            last_iterate=solution.last_iterate.permute(0, 3, 1, 2),
        )
