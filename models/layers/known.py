"""The layers that proofs cover, and the numbers by which these multiply in eval mode.

Whatever a proof does not cover is refused: a layer of another class, tensors that its class does
not use, a convolution that is not zero-padded with stride 1, shapes that do not fit one another.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.layers.activations import ACTIVATIONS
from models.layers.normalized import NormalizedConv2d
from models.layers.orthonormal import OrthonormalConv2d
from models.layers.rows import Rows
from models.layers.spectral_norm import SpectralNormConv2d

# Far above the smallest normal number of float64.
_LEAST_PRODUCT = 2.0**-1000
# Class of a layer -> the names of its tensors.
_PARTS: dict[type, set[str]] = {
    SpectralNormConv2d: {"weight", "bias", "vector", "outer"},
    OrthonormalConv2d: {"weight", "bias"},
    nn.Conv2d: {"weight", "bias"},
    nn.BatchNorm2d: {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"},
    nn.Dropout: set(),
    nn.Linear: {"weight", "bias"},
    Rows: {"weight", "bias"},  # the second is None
    nn.Flatten: set(),
    **{activation: set() for activation in ACTIVATIONS.values()},
}


@dataclass(frozen=True)
class Layer:
    """A linear map of a block: a convolution, or a multiplication of each channel by a factor.

    Attributes:
        name: the module's path in model.named_modules(remove_duplicate=False).
        size: (H, W) of the maps.
        weight: the kernel, float64 (c_out, c_in, k_h, k_w), on the CPU; None for a map by factors.
        factors: one for each channel, float64 (C,), on the CPU; None for a convolution.
        folded: path of the BatchNorm that is folded into this convolution, or None.
        is_finite: whether all numbers of its modules are finite; if not, no bound is known.
    """

    name: str
    size: tuple[int, int]
    weight: Tensor | None
    factors: Tensor | None
    folded: str | None
    is_finite: bool


def is_convolution(module: nn.Module | None) -> bool:
    return type(module) in (SpectralNormConv2d, OrthonormalConv2d, nn.Conv2d)


def is_activation(module: nn.Module | None) -> bool:
    """Whether a module acts entrywise with slopes in [0, 1], provided `check_layer` accepts it."""
    return type(module) in ACTIVATIONS.values()


def check_layer(name: str, module: nn.Module | None) -> None:
    """Raise ValueError for a layer of an unknown class, an activation that is too steep, or parts
    that its class does not use: torch's old weight_norm, spectral_norm and pruning add tensors or
    modules from which they compute the weight."""
    parts = _PARTS.get(type(module))
    if module is None or parts is None:
        raise ValueError(unknown(name, module))
    check_parts(name, module, parts)
    if isinstance(module, nn.ELU) and not 0 <= module.alpha <= 1:
        # The slope of ELU at 0 from below is alpha.
        raise ValueError(f"ELU at {name}: 0 <= alpha <= 1 must hold, but got {module.alpha}")


def check_parts(name: str, module: nn.Module, allowed: Collection[str]) -> None:
    """Raise ValueError if a module has tensors or submodules with other names than these."""
    for part in (*module._parameters, *module._buffers, *module._modules):
        if part not in allowed:
            raise ValueError(
                f"the {type(module).__name__} at {name} must have no parts but "
                f"{', '.join(sorted(allowed)) or 'its settings'}, but has {part}"
            )


def unknown(name: str, module: object) -> str:
    """The error message for the module at the path `name`, of which no Lipschitz bound is known."""
    return f"no Lipschitz bound is known for the module {type(module).__name__} at {name}"


def kernel_of(name: str, module: nn.Module, channels: int) -> Tensor:
    """The kernel that the convolution at the path `name` applies to maps of so many channels:
    float64 (c_out, c_in, k_h, k_w), on the CPU. Raises ValueError unless the kernel is odd and
    fits, the stride is 1, and zero padding keeps the size."""
    assert isinstance(module, NormalizedConv2d | nn.Conv2d)
    weight = module.weight
    if "weight" not in module._parameters:
        raise ValueError(f"the convolution at {name} must have its weight as a parameter")
    if weight.dim() != 4:
        raise ValueError(f"the weight of {name} must have 4 axes, but has {weight.dim()}")
    k_height, k_width = weight.shape[2:]
    same = k_height % 2 == 1 and k_width % 2 == 1
    if isinstance(module, nn.Conv2d):
        same = (
            same
            and (module.stride, module.dilation, module.groups) == ((1, 1), (1, 1), 1)
            and module.padding_mode == "zeros"
            and module.padding == (k_height // 2, k_width // 2)
        )
    else:
        same = same and k_height == k_width
    if not same:
        raise ValueError(
            f"no bound is known for the convolution at {name}: it must have an odd kernel, "
            f"stride 1, dilation 1, one group and 'same' zero padding, but has a kernel of "
            f"{k_height} x {k_width} and is {module}"
        )
    if weight.shape[1] != channels or weight.numel() == 0:
        raise ValueError(
            f"the convolution at {name} must have a weight (c_out, {channels}, k_h, k_w), but has "
            f"one of shape {tuple(weight.shape)}"
        )
    if module.bias is not None and module.bias.shape != weight.shape[:1]:
        raise ValueError(
            f"the convolution at {name} must have a bias for {len(weight)} channels, but has one "
            f"of shape {tuple(module.bias.shape)}"
        )
    weight = weight if isinstance(module, nn.Conv2d) else module.effective_weight()
    return weight.to("cpu", torch.float64)


def scale_of_batch_norm(name: str, module: nn.Module | None, channels: int) -> Tensor:
    """s = gamma / sqrt(running_var + eps) of a BatchNorm in eval mode, float64 (C,), on the CPU.
    Raises ValueError without running statistics, for a wrong shape, or if a variance or eps is
    negative."""
    assert isinstance(module, nn.BatchNorm2d)
    if module.running_var is None or module.running_mean is None:
        raise ValueError(
            f"the BatchNorm2d at {name} must have running statistics, but has none: it is no "
            "function of one sample"
        )
    for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
        if tensor is not None and tensor.shape != (channels,):
            raise ValueError(
                f"the BatchNorm2d at {name} must be for {channels} channels, but has a tensor of "
                f"shape {tuple(tensor.shape)}"
            )
    variance = module.running_var
    # No bound is proven of numbers that are not finite anyway.
    if bool(((variance < 0) & variance.isfinite()).any()) or module.eps < 0:
        # With a variance near -eps their sum is mere rounding, which differs between precisions.
        raise ValueError(
            f"the BatchNorm2d at {name} must have variances and an eps >= 0, but has a running_var "
            f"of {variance.min():g} and eps={module.eps:g}"
        )
    scale = (variance.to("cpu", torch.float64) + module.eps).rsqrt()
    gamma = None if module.weight is None else module.weight.to("cpu", torch.float64)
    return scale if gamma is None else product_or_nan(scale, gamma)


def largest_mask_factor(dropout: nn.Dropout) -> float:
    """The largest entry, 1 / (1 - p), that a dropout mask can have; infinite unless 0 <= p < 1."""
    return 1 / (1 - dropout.p) if 0 <= dropout.p < 1 else math.inf


def product_or_nan(left: Tensor, right: Tensor) -> Tensor:
    """left * right in float64, with NaN, for which no bound is proven, where the product of two
    nonzero numbers is so small that underflow may cost it bits."""
    product = left * right
    is_lost = (product.abs() < _LEAST_PRODUCT) & (left != 0) & (right != 0)
    return product.masked_fill(is_lost, math.nan)


def are_finite(modules: Collection[nn.Module], result: Tensor) -> bool:
    """Whether all tensors of some modules, and the result computed from them, are finite."""
    tensors = [t for m in modules for t in (*m._parameters.values(), *m._buffers.values())]
    return all(bool(t.isfinite().all()) for t in (*tensors, result) if t is not None)
