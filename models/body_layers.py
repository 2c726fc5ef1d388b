"""The linear maps that each residual block of a network applies in eval mode, in order.

Whatever the argument of `certify` does not cover is refused: a module of another class, a map that
runs something other than its class, a convolution that is not zero-padded with stride 1, shapes
that do not fit one another.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.activations import ACTIVATIONS
from models.block import Block, BlockError, Bounds, path_of_class
from models.forward_pass import refuse_other_network
from models.invertible_block import InvertibleBlock
from models.iresnet import IResNet
from models.isometries import (
    ISOMETRIES,
    checked_shape,
    rearranged,
)
from models.potential_block import PotentialBlock
from models.residual_block import ResidualBlock
from models.spectral_norm import SpectralNormConv2d

# Far above the smallest number that float64 has with all of its bits.
_LEAST_PRODUCT = 2.0**-1000
# Class of a module -> the names of its tensors and modules.
_PARTS: dict[type, set[str]] = {
    ResidualBlock: {"residual"},
    PotentialBlock: {"conv", "activation", "dropout"},
    **{isometry: set() for isometry in ISOMETRIES},
    SpectralNormConv2d: {"weight", "bias", "vector", "outer"},
    nn.Conv2d: {"weight", "bias"},
    nn.BatchNorm2d: {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"},
    nn.Dropout: set(),
    nn.Linear: {"weight", "bias"},
    nn.Flatten: set(),
    **{activation: set() for activation in ACTIVATIONS.values()},
}


@dataclass(frozen=True)
class Layer:
    """A linear map of a block: a convolution, or a factor for each channel.

    Attributes:
        name: the module's path in model.named_modules(remove_duplicate=False).
        size: (H, W) of the maps.
        weight: of a convolution, float64 (c_out, c_in, k_h, k_w), on the CPU; None for factors.
        factors: one for each channel, float64 (C,), on the CPU; None for a convolution.
        folded: path of the BatchNorm that is in this convolution, or None.
        is_finite: whether every number of its modules is; if not, it has no bound.
    """

    name: str
    size: tuple[int, int]
    weight: Tensor | None
    factors: Tensor | None
    folded: str | None
    is_finite: bool


@dataclass(frozen=True)
class BlockLayers:
    """A residual block x + g(x).

    Attributes:
        name: the module's path in model.named_modules(remove_duplicate=False).
        layers: the linear maps of g, in order; of a potential block W alone.
        activated: the indices i, in order: an activation of slope in [0, 1] stands ahead of
            layers[i], or behind them all.
        train_factor: how much larger Lip(g) can be in training mode; infinite where g is no
            function of one sample there.
        is_potential: whether g is -W^T k(W x + b), with slopes of k in [0, 1].
        own: what a block by another author proves of itself; None for those of this package.
        author: its import path.
    """

    name: str
    layers: tuple[Layer, ...]
    activated: tuple[int, ...]
    train_factor: float
    is_potential: bool = False
    own: Bounds | None = None
    author: str | None = None


@torch.no_grad()
def body_layers(model: IResNet) -> list[BlockLayers]:
    """The residual blocks of a network, in the order of the forward pass. Raises ValueError, with
    the path, the rule and what was found, where no bound is known."""
    refuse_other_network(model, IResNet)
    shape = checked_shape("the root", model.in_shape)
    blocks = []
    # By position: a module that stands in two places counts twice.
    for name, module in model.body._modules.items():
        path = f"body.{name}"
        if isinstance(module, Block):
            _check_shape(path, module, shape)
            blocks.append(_own(module, path))
            continue
        check_parts(path, module)
        if type(module) in (ResidualBlock, PotentialBlock):
            assert isinstance(module, ResidualBlock | PotentialBlock)
            _check_shape(path, module, shape)
            try:
                blocks.append(
                    _block_layers(module, path)
                    if isinstance(module, ResidualBlock)
                    else _potential_layers(module, path)
                )
            except (torch.OutOfMemoryError, torch.AcceleratorError):
                raise  # of the device, and no fault of the network
            except (ArithmeticError, AttributeError, RuntimeError, TypeError) as error:
                # Settings and tensors with which the forward pass fails too.
                raise ValueError(
                    f"the {type(module).__name__} at {path} must be one that runs, but its layers "
                    f"give {type(error).__name__}: {' '.join(str(error).split())[:200]}"
                ) from error
        elif type(module) in ISOMETRIES:
            shape = rearranged(path, module, shape)
        else:
            raise ValueError(_unknown(path, module))
    return blocks


def features_shape(model: IResNet) -> tuple[int, int, int]:
    """(C, H, W) of the features of a network that `body_layers` accepts."""
    shape = model.in_shape
    for name, module in model.body._modules.items():
        if type(module) in ISOMETRIES:
            shape = rearranged(f"body.{name}", module, shape)
    return shape


def _check_shape(path: str, block: InvertibleBlock, shape: tuple[int, int, int]) -> None:
    if checked_shape(path, block.in_shape) != shape:
        raise ValueError(
            f"the {type(block).__name__} at {path} must be for maps of shape {shape}, which come "
            f"to it, but has in_shape={block.in_shape}"
        )


def _own(block: Block, path: str) -> BlockLayers:
    """A block by another author, with what it proves of itself."""
    author = path_of_class(type(block))
    try:
        bounds = block.bounds()
    # Whatever the author's code raises.
    except Exception as error:
        raise BlockError(
            f"bounds of {author} at {path} must give Bounds, but raises {type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    if type(bounds) is not Bounds:
        raise BlockError(f"bounds of {author} must give Bounds, but gives {bounds!r:.80}")
    return BlockLayers(path, (), (), math.inf, own=bounds, author=author)


def _block_layers(block: ResidualBlock, path: str) -> BlockLayers:
    residual, path = block.residual, f"{path}.residual"
    if type(residual) is not nn.Sequential:
        raise ValueError(_unknown(path, residual))
    layers: list[Layer] = []
    activated: list[int] = []
    channels, factor = block.in_shape[0], 1.0
    children = [(f"{path}.{name}", child) for name, child in residual._modules.items()]
    while children:
        name, module = children.pop(0)
        check_parts(name, module)
        if type(module) in (SpectralNormConv2d, nn.Conv2d):
            assert isinstance(module, SpectralNormConv2d | nn.Conv2d)
            weight = _kernel(name, module, channels)
            channels, folded = len(weight), None
            of: list[nn.Module] = [module]
            if children and type(children[0][1]) is nn.BatchNorm2d:
                # conv, then BatchNorm: one convolution with the kernel s_o * W[o].
                folded, batch_norm = children.pop(0)
                check_parts(folded, batch_norm)
                scale = scale_of_batch_norm(folded, batch_norm, channels)
                weight = product_or_nan(weight, scale.view(-1, 1, 1, 1))
                of.append(batch_norm)
                factor = math.inf
            layer = Layer(name, block.in_shape[1:], weight, None, folded, _is_finite(of, weight))
            layers.append(layer)
        elif type(module) is nn.BatchNorm2d:
            scale = scale_of_batch_norm(name, module, channels)
            is_finite = _is_finite([module], scale)
            layers.append(Layer(name, block.in_shape[1:], None, scale, None, is_finite))
            factor = math.inf
        elif type(module) is nn.Dropout:
            # With its mask, a diagonal matrix with entries 0 and 1 / (1 - p).
            factor *= 1 / (1 - module.p) if 0 <= module.p < 1 else math.inf
        elif type(module) in ACTIVATIONS.values():
            check_activation(name, module)
            activated.append(len(layers))
        else:
            raise ValueError(_unknown(name, module))
    if channels != block.in_shape[0]:
        raise ValueError(
            f"the Sequential at {path} must give {block.in_shape[0]} channels, as come to it, but "
            f"gives {channels}"
        )
    return BlockLayers(path.rpartition(".")[0], tuple(layers), tuple(activated), factor)


def _potential_layers(block: PotentialBlock, path: str) -> BlockLayers:
    modules = {f"{path}.{name}": module for name, module in block._modules.items()}
    for name, module in modules.items():
        check_parts(name, module)
    conv, name = block.conv, f"{path}.conv"
    if type(conv) not in (SpectralNormConv2d, nn.Conv2d):
        raise ValueError(_unknown(name, conv))
    if type(block.activation) not in ACTIVATIONS.values():
        raise ValueError(_unknown(f"{path}.activation", block.activation))
    check_activation(f"{path}.activation", block.activation)
    weight, factor = _kernel(name, conv, block.in_shape[0]), 1.0
    if block.dropout is not None:
        if type(block.dropout) is not nn.Dropout:
            raise ValueError(_unknown(f"{path}.dropout", block.dropout))
        factor = 1 / (1 - block.dropout.p) if 0 <= block.dropout.p < 1 else math.inf
    layer = Layer(name, block.in_shape[1:], weight, None, None, _is_finite([conv], weight))
    return BlockLayers(path, (layer,), (), factor, is_potential=True)


def _kernel(name: str, module: SpectralNormConv2d | nn.Conv2d, channels: int) -> Tensor:
    """The kernel that a convolution applies, float64 (c_out, c_in, k_h, k_w), on the CPU."""
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
    """s = gamma / sqrt(running_var + eps) of an eval-mode BatchNorm, (C,), float64, on the CPU."""
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
    # Numbers that are not finite bound nothing anyway.
    if bool(((variance < 0) & variance.isfinite()).any()) or module.eps < 0:
        # Near -eps their sum is nothing but rounding, of which each precision has its own.
        raise ValueError(
            f"the BatchNorm2d at {name} must have variances and an eps >= 0, but has a running_var "
            f"of {variance.min():g} and eps={module.eps:g}"
        )
    scale = (variance.to("cpu", torch.float64) + module.eps).rsqrt()
    gamma = None if module.weight is None else module.weight.to("cpu", torch.float64)
    return scale if gamma is None else product_or_nan(scale, gamma)


def product_or_nan(left: Tensor, right: Tensor) -> Tensor:
    """left * right in float64, with NaN, of which no bound is known, for a product of two numbers
    that are not zero which underflow takes bits from."""
    product = left * right
    is_lost = (product.abs() < _LEAST_PRODUCT) & (left != 0) & (right != 0)
    return product.masked_fill(is_lost, math.nan)


def check_parts(name: str, module: nn.Module | None) -> None:
    """Refuse, with a ValueError, a module of an unknown class, and parts that its class does not
    use: old weight_norm, spectral_norm and pruning keep tensors or modules from which they compute
    the weight."""
    allowed = _PARTS.get(type(module))
    if module is None or allowed is None:
        raise ValueError(_unknown(name, module))
    for part in (*module._parameters, *module._buffers, *module._modules):
        if part not in allowed:
            raise ValueError(
                f"the {type(module).__name__} at {name} must have no parts but "
                f"{', '.join(sorted(allowed)) or 'its settings'}, but has {part}"
            )


def check_activation(name: str, module: nn.Module) -> None:
    if isinstance(module, nn.ELU) and not 0 <= module.alpha <= 1:
        # The slope of ELU at 0 from below is alpha.
        raise ValueError(f"ELU at {name}: 0 <= alpha <= 1 must hold, but got {module.alpha}")


def _is_finite(modules: list[nn.Module], result: Tensor) -> bool:
    """Whether all tensors of some modules, and the result computed from them, are finite."""
    tensors = [t for m in modules for t in (*m._parameters.values(), *m._buffers.values())]
    return all(bool(t.isfinite().all()) for t in (*tensors, result) if t is not None)


def _unknown(name: str, module: object) -> str:
    return f"no Lipschitz bound is known for the module {type(module).__name__} at {name}"
