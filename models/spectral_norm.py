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
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

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


def adjoint_kernel(weight: Tensor) -> Tensor:
    """Kernel (..., c_out, c_in, k, k) of the adjoint as a convolution; its own inverse."""
    return weight.transpose(-4, -3).flip(-1, -2)


def power_iteration(weight: Tensor, vector: Tensor, n_iterations: int) -> tuple[Tensor, Tensor]:
    """Power iteration on a batch of L convolutions of one shape at once.

    Args:
        weight: (L, c_out, c_in, k_h, k_w) with c_in <= c_out, k_h and k_w odd.
        vector: (L, c_in, H, W), unit l2 norm per layer: where to start.
        n_iterations: at least 1. One is the convolution and its adjoint.

    Returns:
        The refined unit vectors (L, c_in, H, W), and G (L, c_out, c_in, k_h, k_w) such that
        sigma_l = <G_l, weight_l> estimates the spectral norm from below.
    """
    kernel = (weight.shape[3], weight.shape[4])
    matrix = weight.permute(0, 1, 3, 4, 2).flatten(2)
    vector, outer = _power_iteration(matrix, vector, kernel, n_iterations)
    return vector, outer.unflatten(2, (*kernel, -1)).permute(0, 1, 4, 2, 3)


def _power_iteration(
    matrix: Tensor, vector: Tensor, kernel: tuple[int, int], n_iterations: int
) -> tuple[Tensor, Tensor]:
    """`power_iteration` on matrices (L, c_out, k_h k_w c_in), and G of that shape."""
    for _ in range(n_iterations):
        image = torch.bmm(matrix, _patches(vector, kernel))
        back = _patches_adjoint(torch.bmm(matrix.transpose(1, 2), image), vector.shape, kernel)
        vector = _normalized(back, vector)
    outer = torch.bmm(_normalized(image), _patches(vector, kernel).transpose(1, 2))
    return vector, outer


def _patches(x: Tensor, kernel: tuple[int, int]) -> Tensor:
    """What each tap of a zero-padded kernel sees: (L, c, H, W) -> (L, k_h k_w c, H W).

    nn.functional.unfold does the same with the channels first, and takes several times as long
    on the CPU.
    """
    (k_h, k_w), n_layers = kernel, x.shape[0]
    padded = F.pad(x, (k_w // 2, k_w // 2, k_h // 2, k_h // 2))
    windows = padded.unfold(2, k_h, 1).unfold(3, k_w, 1)  # (L, c, H, W, k_h, k_w)
    return windows.permute(0, 4, 5, 1, 2, 3).reshape(n_layers, -1, x.shape[2] * x.shape[3])


def _patches_adjoint(patches: Tensor, shape: torch.Size, kernel: tuple[int, int]) -> Tensor:
    """The adjoint of `_patches`: (L, k_h k_w c, H W) -> shape = (L, c, H, W)."""
    (k_h, k_w), (n_layers, channels, height, width) = kernel, shape
    taps = patches.view(n_layers, k_h, k_w, channels, height, width)
    padded = patches.new_zeros(n_layers, channels, height + k_h - 1, width + k_w - 1)
    for y, x in product(range(k_h), range(k_w)):
        padded[:, :, y : y + height, x : x + width] += taps[:, y, x]
    return padded[:, :, k_h // 2 : k_h // 2 + height, k_w // 2 : k_w // 2 + width]


def _normalized(vector: Tensor, otherwise: Tensor | None = None) -> Tensor:
    """Unit l2 norm per leading index; `otherwise`, or zero, where it is zero, as under W = 0."""
    norm = torch.linalg.vector_norm(vector, dim=tuple(range(1, vector.dim())), keepdim=True)
    if otherwise is None:
        otherwise = torch.zeros_like(norm)
    return torch.where(norm > 0, vector / norm, otherwise)


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
        # A 1x1 convolution is a matrix on every pixel: one pixel has its norm.
        start = torch.randn(min(in_channels, out_channels), *(size if kernel_size > 1 else (1, 1)))
        self.register_buffer("vector", start / start.norm())
        self.register_buffer("outer", torch.zeros_like(self.weight))
        update_spectral_norm([self], _N_INITIAL_ITERATIONS)

    @property
    def sigma(self) -> Tensor:
        """Power-iteration estimate of the spectral norm of `weight`, from below; float64, ().

        The sum over all entries at once would depend, in its last bits, on the number of
        threads, and with it the effective weight: what was certified with some threads would
        not be what others run. Rows are summed by one thread each, and their sums in float64.
        """
        return (self.outer * self.weight).sum(dim=(1, 2, 3)).sum(dtype=torch.float64)

    def effective_weight(self) -> Tensor:
        """W * min(1, coeff / sigma), the kernel that forward convolves with."""
        # max(sigma, coeff) is the same minimum, without a division by a sigma of zero.
        return self.weight * (self.coeff / self.sigma.clamp(min=self.coeff))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.effective_weight(), self.bias, padding=self.weight.shape[-1] // 2)

    def convolution(self) -> Callable[[Tensor], Tensor]:
        """The same map as a plain function, with the effective weight of now."""
        weight, bias = self.effective_weight().detach(), self.bias.detach()
        return partial(F.conv2d, weight=weight, bias=bias, padding=weight.shape[-1] // 2)

    def deployed(self) -> nn.Conv2d:
        """The same map as a plain convolution, its weight the effective weight of now."""
        c_out, c_in, k, _ = self.weight.shape
        # On "meta" no memory is taken, and no random number drawn, for what is replaced.
        plain = nn.Conv2d(c_in, c_out, k, padding=k // 2, device="meta")
        plain.weight = nn.Parameter(self.effective_weight().detach(), requires_grad=False)
        plain.bias = nn.Parameter(self.bias.detach(), requires_grad=False)
        return plain.train(self.training)

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
        groups[(_taps_last(layer.weight).shape, layer.vector.shape)].append(layer)
    for (shape, _), group in groups.items():
        _, k_h, k_w, _ = shape
        matrix = torch.stack([_taps_last(layer.weight) for layer in group]).flatten(2)
        vector = torch.stack([layer.vector for layer in group])
        vector, outer = _power_iteration(matrix, vector, (k_h, k_w), n_iterations)
        outer = outer.unflatten(2, (k_h, k_w, -1)).permute(0, 1, 4, 2, 3)
        for layer, new_vector, new_outer in zip(group, vector, outer, strict=True):
            layer.vector.copy_(new_vector)
            swapped = layer.weight.shape[0] < layer.weight.shape[1]
            layer.outer.copy_(new_outer.transpose(0, 1) if swapped else new_outer)


def _taps_last(weight: Tensor) -> Tensor:
    """(c_large, k, k, c_small), a view of the kernel.

    Where fewer channels come out than go in, it is the kernel of the adjoint with its taps in
    reverse order. That is the adjoint on maps whose pixels are in reverse order: it has the same
    norm, and `vector` is in that order.
    """
    c_out, c_in = weight.shape[:2]
    return weight.permute(0, 2, 3, 1) if c_out >= c_in else weight.permute(1, 2, 3, 0)
