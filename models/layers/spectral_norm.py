"""Spectral normalization of zero-padded convolutions, for all layers of one shape at once.

The estimate of the spectral norm, sigma, lives outside the forward pass. A layer keeps one unit
vector on its side with fewer channels, and the outer product G of the two singular vectors, folded
to the shape of the kernel. sigma = <G, W> is then both the estimate and, since d sigma / dW = G,
its gradient: forward is a pure function of weight and buffers. (Behrmann et al., section 3, with
the norm of the zero-padded convolution itself.)
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.layers.kernel_batches import alone, as_batch, map_kernels, stacked
from models.layers.normalized import NormalizedConv2d
from models.layers.power_iteration import iterate

# Enough for the first forward pass to see a sensible sigma; training refines it.
_N_INITIAL_ITERATIONS = 10


class SpectralNormConv2d(NormalizedConv2d):
    """Zero-padded convolution with the weight W * min(1, coeff / sigma), and a bias.

    sigma is a lower estimate of the spectral norm of W, so the norm of the effective weight may
    exceed coeff: `certify` says by how much it can.

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
        # Conv2d's own initialization, so that the three kinds of network start alike.
        plain = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        assert plain.bias is not None
        super().__init__(plain.weight.detach(), plain.bias.detach(), coeff)
        self.size = size
        # A 1x1 convolution is a matrix on every pixel: one pixel has its norm.
        start = torch.randn(min(in_channels, out_channels), *(size if kernel_size > 1 else (1, 1)))
        self.register_buffer("vector", start / start.norm())
        self.register_buffer("outer", torch.zeros_like(self.weight))
        if not self.weight.is_meta:  # there are no values to iterate on
            update_spectral_norm([self], _N_INITIAL_ITERATIONS)

    @property
    def sigma(self) -> Tensor:
        """Power-iteration estimate of the spectral norm of `weight`, from below; float64, ()."""
        (weight,), (outer,) = stacked([self.weight]), stacked([self.outer])
        return _rows_sum(outer * weight)

    def effective_weight(self) -> Tensor:
        return effective_weights([self])[0]

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Convolve x (B, c_in, H, W) with the effective weight: `weight`, if already computed."""
        weight = self.effective_weight() if weight is None else weight
        return F.conv2d(x, weight, self.bias, padding=weight.shape[-1] // 2)

    def convolution(self) -> Callable[[Tensor], Tensor]:
        """This layer as a plain function, with its current effective weight."""
        weight, bias = self.effective_weight().detach(), self.bias.detach()
        return partial(F.conv2d, weight=weight, bias=bias, padding=weight.shape[-1] // 2)

    def extra_repr(self) -> str:
        c_out, c_in, k, _ = self.weight.shape
        return f"{c_in}, {c_out}, kernel_size={k}, size={self.size}, coeff={self.coeff}"


def effective_weights(layers: Sequence[SpectralNormConv2d]) -> list[Tensor]:
    """The effective weight of each layer, (c_out, c_in, k, k), channels_last, in order.

    Layers of one shape and one target form one batch, forward and backward. On a CPU each weight is
    bit for bit what its layer alone would give. On a GPU the order of a sum may depend on the size
    of the batch; `models.deployed` fixes the weights.
    """
    return map_kernels(
        _normalized,
        [layer.weight for layer in layers],
        [layer.outer for layer in layers],
        settings=[layer.coeff for layer in layers],
    )


def _normalized(weight: Tensor, outer: Tensor, coeff: float) -> Tensor:
    # torch's annotations leave `apply` out.
    normalized: Tensor
    normalized, _ = _Normalized.apply(weight, outer, coeff)  # type: ignore[no-untyped-call]
    return normalized


def _rows_sum(products: Tensor) -> Tensor:
    """The sums over kernels, (..., c_out, k, k, c_in) -> (...), float64.

    A single sum over all entries would depend, in its last bits, on the numbers of threads and of
    layers, and so would the effective weight: the certified network would differ from the one that
    other machines run. So on a CPU each row is summed by one thread, and the rows' sums in float64.
    """
    rows = products.flatten(-3)
    if rows.shape[:-1].numel() == 1:  # a row alone would be split among the threads
        sums = rows.expand(2, *rows.shape).sum(dim=-1)[0]
    else:
        sums = rows.sum(dim=-1)
    return sums.sum(dim=-1, dtype=torch.float64)


class _Normalized(torch.autograd.Function):
    """W / r for each kernel W of a batch, with r = max(sigma / coeff, 1) and sigma = <G, W>; W and
    G are (L, c_out, k, k, c_in). From the gradient g of y = W / r, the gradient of W is
    (g - [r > 1] <g, y> / coeff G) / r."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor, outer: Tensor, coeff: float) -> tuple[Tensor, Tensor]:
        # Dividing by this ratio never means dividing by a sigma of zero.
        ratio = (_rows_sum(outer * weight) / coeff).clamp(min=1).to(weight.dtype)
        ratio = ratio.view(-1, 1, 1, 1, 1)
        return weight / ratio, ratio

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        _, outer, ctx.coeff = inputs
        normalized, ratio = output
        ctx.mark_non_differentiable(ratio)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(normalized, outer, ratio)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        normalized, outer, ratio = ctx.saved_tensors
        along = (grad * normalized).sum(dim=(1, 2, 3, 4), keepdim=True) * (ratio > 1)
        return torch.addcmul(grad, outer, along, value=-1 / ctx.coeff) / ratio, None, None


@torch.no_grad()
def update_spectral_norm(layers: Sequence[SpectralNormConv2d], n_iterations: int) -> None:
    """Refine every layer's sigma, in place, by n_iterations of power iteration from its last vector
    (warm start), in full precision under autocast too. Small layers of one shape, or of its
    transpose, form one batch. Raises ValueError if n_iterations < 1."""
    if n_iterations < 1:
        raise ValueError(
            f"n_power_iterations >= 1 must hold, but got n_power_iterations={n_iterations}"
        )
    groups: dict[Hashable, list[SpectralNormConv2d]] = defaultdict(list)
    for index, layer in enumerate(layers):
        apart = alone(layer.weight, index)
        groups[(_large_first(layer.weight).shape, layer.vector.shape, apart)].append(layer)
    buffers: list[Tensor] = []
    refined: list[Tensor] = []
    for members in groups.values():
        group = sorted(members, key=_is_turned)
        weight = as_batch([_large_first(layer.weight) for layer in group])
        vector = as_batch([layer.vector for layer in group])
        with torch.autocast(weight.device.type, enabled=False):
            vector, outer = iterate(weight, vector, n_iterations)
        # CUDA copies all in one operation only if each source has the layout of its buffer.
        n_straight = len(group) - sum(map(_is_turned, group))
        turned = outer[n_straight:].transpose(1, 4).contiguous().transpose(1, 4)
        buffers += [layer.vector for layer in group]
        buffers += [_large_first(layer.outer) for layer in group]
        refined += [*vector.unbind(), *outer[:n_straight].unbind(), *turned.unbind()]
    if layers:
        torch._foreach_copy_(buffers, refined)


def _large_first(kernel: Tensor) -> Tensor:
    """A view (c_large, k, k, c_small) of the kernel. If c_out < c_in, it is the kernel of the
    adjoint with its taps in reverse order, that is, the adjoint on maps whose pixels are in reverse
    order. The norm is the same, and `vector` has its pixels in that order."""
    c_out, c_in = kernel.shape[:2]
    return kernel.permute(0, 2, 3, 1) if c_out >= c_in else kernel.permute(1, 2, 3, 0)


def _is_turned(layer: SpectralNormConv2d) -> bool:
    return layer.weight.shape[0] < layer.weight.shape[1]
