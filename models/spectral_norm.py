"""Spectral normalization of zero-padded convolutions by power iteration.

The operator is the convolution itself, with its zero padding and at the size of the
map that it is applied to, not the kernel flattened to a matrix (Gouk et al. 2018, as
used by Behrmann et al., section 3).

The estimate lives outside the forward pass. A layer keeps one unit vector on its side
with fewer channels, and the outer product G of the two singular vectors, folded to
the shape of the kernel. sigma = <G, W> is then both the estimate and, since
d sigma / dW = G, its gradient: forward is a pure function of weight and buffers.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Enough for the first forward pass to see a sensible sigma; training refines it.
_N_INITIAL_ITERATIONS = 10


def convolution(x: Tensor, weight: Tensor) -> Tensor:
    """The linear map of a layer: stride 1, odd kernel, zeros around the edge.

    Args:
        x: (B, c_in, H, W).
        weight: (c_out, c_in, k, k), k odd.
    """
    return F.conv2d(x, weight, padding=weight.shape[-1] // 2)


def convolution_adjoint(y: Tensor, weight: Tensor) -> Tensor:
    """The adjoint of `convolution`: <y, conv(x)> = <adjoint(y), x>.

    Args:
        y: (B, c_out, H, W).
        weight: (c_out, c_in, k, k), k odd.
    """
    return F.conv_transpose2d(y, weight, padding=weight.shape[-1] // 2)


def power_iteration(weight: Tensor, vector: Tensor, n_iterations: int) -> tuple[Tensor, Tensor]:
    """Power iteration on a batch of L convolutions of one shape at once.

    Args:
        weight: (L, c_out, c_in, k, k) with c_in <= c_out, k odd.
        vector: (L, c_in, H, W), unit l2 norm per layer: where to start.
        n_iterations: at least 1. One is the convolution and its adjoint.

    Returns:
        The refined unit vectors (L, c_in, H, W), and G (L, c_out, c_in, k, k) such that
        sigma_l = <G_l, weight_l> estimates the spectral norm from below.
    """
    n_layers, c_out, c_in, k, _ = weight.shape
    height, width = vector.shape[-2:]
    padding = k // 2
    matrix = weight.reshape(n_layers, c_out, c_in * k * k)
    for _ in range(n_iterations):
        patches = F.unfold(vector, k, padding=padding)
        image = _normalized(torch.bmm(matrix, patches), torch.zeros_like(matrix[:, :, :1]))
        back = F.fold(torch.bmm(matrix.transpose(1, 2), image), (height, width), k, padding=padding)
        vector = _normalized(back, vector)
    outer = torch.bmm(image, F.unfold(vector, k, padding=padding).transpose(1, 2))
    return vector, outer.reshape(weight.shape)


def _normalized(vector: Tensor, otherwise: Tensor) -> Tensor:
    """Unit l2 norm per leading index; `otherwise` where the vector is zero, as under W = 0."""
    norm = torch.linalg.vector_norm(vector, dim=tuple(range(1, vector.dim())), keepdim=True)
    return torch.where(norm > 0, vector / norm, otherwise)


def _swapped(weight: Tensor) -> Tensor:
    """Kernel (..., c_out, c_in, k, k) of the adjoint as a convolution; its own inverse."""
    return weight.transpose(-4, -3).flip(-1, -2)


class SpectralNormConv2d(nn.Module):
    """Zero-padded convolution with the weight W * min(1, coeff / sigma), and a bias.

    sigma is a lower estimate of the spectral norm of W, so the norm of the effective
    weight may exceed coeff: `certify` says by how much it can.

    Args:
        in_channels, out_channels: channels of the maps.
        kernel_size: odd.
        size: (H, W) of the maps; the norm of a zero-padded convolution depends on it.
        coeff: target of the spectral norm, l2 to l2, > 0.
    """

    vector: Tensor
    outer: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        size: tuple[int, int],
        coeff: float,
    ) -> None:
        super().__init__()
        self.coeff = coeff
        self.size = size
        # Conv2d's own initialization, so that the three kinds of network start alike.
        plain = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        assert plain.bias is not None
        self.weight = nn.Parameter(plain.weight.detach())
        self.bias = nn.Parameter(plain.bias.detach())
        start = torch.randn(min(in_channels, out_channels), *size)
        self.register_buffer("vector", start / start.norm())
        self.register_buffer("outer", torch.zeros_like(self.weight))
        update_spectral_norm([self], _N_INITIAL_ITERATIONS)

    @property
    def sigma(self) -> Tensor:
        """Power-iteration estimate of the spectral norm of `weight`, from below; scalar.

        Summed in float64, so that the order of summation, which depends on the machine and
        its threads, does not show in the effective weight: what was certified on one
        machine is what another one runs.
        """
        return (self.outer * self.weight).sum(dtype=torch.float64).to(self.weight.dtype)

    def effective_weight(self) -> Tensor:
        """W * min(1, coeff / sigma), the kernel that forward convolves with."""
        # max(sigma, coeff) is the same minimum, without a division by a sigma of zero.
        return self.weight * (self.coeff / self.sigma.clamp(min=self.coeff))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.effective_weight(), self.bias, padding=self.weight.shape[-1] // 2)

    def extra_repr(self) -> str:
        c_out, c_in, k, _ = self.weight.shape
        return f"{c_in}, {c_out}, kernel_size={k}, size={self.size}, coeff={self.coeff}"


@torch.no_grad()
def update_spectral_norm(layers: Sequence[SpectralNormConv2d], n_iterations: int) -> None:
    """Refine every sigma by n_iterations from where it stood (warm start), in place.

    Layers of one shape, a layer and the transpose of another included, are iterated as
    one batch.

    Raises:
        ValueError: if n_iterations < 1.
    """
    if n_iterations < 1:
        raise ValueError(
            f"n_power_iterations >= 1 must hold, but got n_power_iterations={n_iterations}"
        )
    groups: dict[tuple[torch.Size, torch.Size], list[SpectralNormConv2d]] = defaultdict(list)
    for layer in layers:
        groups[(_small_in(layer.weight).shape, layer.vector.shape)].append(layer)
    for group in groups.values():
        weight = torch.stack([_small_in(layer.weight) for layer in group])
        vector = torch.stack([layer.vector for layer in group])
        vector, outer = power_iteration(weight, vector, n_iterations)
        for index, layer in enumerate(group):
            layer.vector.copy_(vector[index])
            swapped = layer.weight.shape[0] < layer.weight.shape[1]
            layer.outer.copy_(_swapped(outer[index]) if swapped else outer[index])


def _small_in(weight: Tensor) -> Tensor:
    """The kernel, or its adjoint's, whichever has the fewer channels going in."""
    c_out, c_in = weight.shape[:2]
    return _swapped(weight) if c_out < c_in else weight
