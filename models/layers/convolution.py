"""The zero-padded convolution with stride 1, and the layout of its maps."""

import torch.nn.functional as F
from torch import Tensor, nn


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(B, c_out, H, W): the zero-padded convolution of x (B, c_in, H, W) with a kernel of odd size,
    square or not."""
    if weight.shape[2:] == (1, 1):
        # As a product of matrices it takes a third of the time.
        pixels = x.permute(0, 2, 3, 1)
        flat = F.linear(pixels.flatten(0, 2), weight.flatten(1), bias)
        return flat.view(*pixels.shape[:3], len(weight)).permute(0, 3, 1, 2)
    padding = weight.shape[2] // 2, weight.shape[3] // 2
    return F.conv2d(x, weight, bias, padding=padding)


def plain_convolution(weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """The convolution of `convolved` as a module, which shares the kernel and the bias."""
    c_out, c_in, k_h, k_w = weight.shape
    padding = k_h // 2, k_w // 2
    # On "meta", the initial weights take no memory and draw no random numbers.
    plain = nn.Conv2d(c_in, c_out, (k_h, k_w), padding=padding, bias=False, device="meta")
    plain.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        plain.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return plain


def in_channels_last(x: Tensor) -> Tensor:
    """x (B, C, H, W) in channels_last, the layout of kernels: adding or comparing maps of two
    layouts takes several times as long. Avoids memory_format, which vmap does not support."""
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
