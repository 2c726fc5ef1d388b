"""The usual, plain forms of what `models` computes fast, written from the paper.

Oracles in the tests, baselines in the benchmarks: power iteration by each layer, inside
forward; the singular values of a kernel's Fourier transform, one layer at a time; and an inverse
of 100 steps.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.bottleneck import ResidualBlock
from models.isometries import InjectivePad, Squeeze
from models.layers.spectral_norm import SpectralNormConv2d
from models.network.iresnet import IResNet

_N_INVERSE_STEPS = 100  # paper, section 3


class PerLayerSpectralNormConv2d(nn.Module):
    """W * min(1, coeff / sigma), sigma from power iteration in every forward pass in training."""

    def __init__(self, layer: SpectralNormConv2d, n_power_iterations: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach().clone())
        self.bias = nn.Parameter(layer.bias.detach().clone())
        self.coeff = layer.coeff
        self.n_power_iterations = n_power_iterations
        self.padding = layer.weight.shape[-1] // 2
        self.register_buffer("v", torch.randn(1, layer.weight.shape[1], *layer.size))
        self.register_buffer("u", F.conv2d(self.v, self.weight.detach(), padding=self.padding))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                for _ in range(self.n_power_iterations):
                    u = F.conv2d(self.v, self.weight, padding=self.padding)
                    self.u = u / u.norm()
                    v = F.conv_transpose2d(self.u, self.weight, padding=self.padding)
                    self.v = v / v.norm()
        sigma = (self.u * F.conv2d(self.v, self.weight, padding=self.padding)).sum()
        weight = self.weight * torch.clamp(self.coeff / sigma, max=1)
        return F.conv2d(x, weight, self.bias, padding=self.padding)


def per_layer_spectral_norm(model: IResNet, n_power_iterations: int) -> IResNet:
    """The model, in place, with the per-layer form in the place of every SpectralNormConv2d."""
    for block in model.body:
        if isinstance(block, ResidualBlock):
            for name, layer in block.residual.named_children():
                if isinstance(layer, SpectralNormConv2d):
                    setattr(
                        block.residual,
                        name,
                        PerLayerSpectralNormConv2d(layer, n_power_iterations),
                    )
    return model


def circular_norm(weight: Tensor, torus: tuple[int, int]) -> float:
    """The spectral norm of a circular convolution, after Sedghi et al.: fft2, then svd.

    weight: (c_out, c_in, k_h, k_w), computed in float64. With torus = (H, W) it is the
    paper's check of a layer; with torus = (H + r, W + r), r = (k - 1) / 2, a bound.
    """
    kernel = weight.detach().double().numpy()
    symbol = np.fft.fft2(kernel, torus, axes=(2, 3)).transpose(2, 3, 0, 1)
    return float(np.linalg.svd(symbol, compute_uv=False).max())


@torch.no_grad()
def inverse(model: IResNet, z: Tensor) -> Tensor:
    """x (B, C, H, W) with features(x) = z: 100 steps of x <- z - g(x) a block, for all alike."""
    for module in reversed(model.body):
        if isinstance(module, ResidualBlock):
            x = z
            for _ in range(_N_INVERSE_STEPS):
                x = z - module.residual(x)
            z = x
        else:
            assert isinstance(module, Squeeze | InjectivePad)
            z = module.inverse(z)
    return z
