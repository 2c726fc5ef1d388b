"""Proven bounds on the Lipschitz constants of residual blocks, and of the network.

A layer's bound is that of the zero-padded convolution which it applies
(`convolution_norm`), a block's the smaller of the layers' product and of what their
interplay allows (`block_norm`), the network's follow from the blocks'.

All bounds are l2 to l2, computed in float64 from the very weights that the forward pass
uses, on the device where the model is: sigma is computed again elsewhere, and may differ in
its last bits. They are statements in real arithmetic; the rounding of the forward pass itself
is not part of them.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.block_norm import bottleneck_upper_bounds
from models.convolution_norm import ROUNDING_SLACK, convolution_norm_bounds
from models.gram_symbols import SHIFTS
from models.iresnet import ACTIVATIONS, InjectivePad, IResNet, ResidualBlock, Squeeze
from models.spectral_norm import SpectralNormConv2d, adjoint_kernel

# What a number is multiplied with, so that it holds as printed.
_UP = 1 + ROUNDING_SLACK
# Layers that are bounded at a time on the CPU.
_MOST_LAYERS = 8


@dataclass(frozen=True)
class LayerBound:
    """Proven bounds of one layer's Lipschitz constant, in eval mode, l2 to l2.

    Attributes:
        name: the module's path in model.named_modules().
        kind: "convolution", or "batch_norm" for one with no convolution ahead of it.
        lower_bound: attained by a vector, so the norm lies between the two.
        upper_bound: infinite if the weights are not finite.
        folded: path of the BatchNorm that was folded into this convolution, or None.
    """

    name: str
    kind: str
    lower_bound: float
    upper_bound: float
    folded: str | None = None


@dataclass(frozen=True)
class BlockBound:
    """Proven upper bounds of Lip(g) of one residual block x + g(x), l2 to l2.

    Attributes:
        name: the module's path in model.named_modules().
        upper_bound: in eval mode.
        layer_product: the product of the layers' bounds, never below upper_bound.
        train_upper_bound: in training mode, for every dropout mask; infinite with a
            BatchNorm, whose output there is no function of one sample.
    """

    name: str
    upper_bound: float
    layer_product: float
    train_upper_bound: float


@dataclass(frozen=True)
class Certificate:
    """What is proven of a network; in eval mode, where nothing else is said.

    Attributes:
        lipschitz_upper_bound: the largest bound of Lip(g) over the residual blocks. Below
            1 the network is invertible (paper, Theorem 1); otherwise nothing is proven.
        train_lipschitz_upper_bound: the same in training mode, for every dropout mask.
        in_shape: (C, H, W) of the images for which it holds.
        blocks: a bound for each residual block, in order.
        layers: bounds for each layer that is no 1-Lipschitz activation, in order.
    """

    lipschitz_upper_bound: float
    train_lipschitz_upper_bound: float
    in_shape: tuple[int, int, int]
    blocks: tuple[BlockBound, ...]
    layers: tuple[LayerBound, ...]

    @property
    def contraction(self) -> bool:
        """Every residual block is proven to contract: the network is invertible."""
        return self.lipschitz_upper_bound < 1

    @property
    def block_bounds(self) -> tuple[float, ...]:
        """The bound of Lip(g) of each block, in order; what `IResNet.inverse` takes."""
        return tuple(block.upper_bound for block in self.blocks)

    @property
    def features_lipschitz_upper_bound(self) -> float:
        """Of `features`: the product over the blocks of 1 + L_t."""
        return math.prod(1 + block.upper_bound for block in self.blocks) * _UP

    @property
    def inverse_lipschitz_upper_bound(self) -> float:
        """Of the inverse of `features`: the product of 1 / (1 - L_t); infinite without proof."""
        product = math.prod(1 - block.upper_bound for block in self.blocks)
        return _UP / product if self.contraction and product > 0 else math.inf

    def to_dict(self) -> dict[str, object]:
        """Plain dict of str, float, bool, lists and dicts, for JSON."""
        return {
            "lipschitz_upper_bound": self.lipschitz_upper_bound,
            "train_lipschitz_upper_bound": self.train_lipschitz_upper_bound,
            "features_lipschitz_upper_bound": self.features_lipschitz_upper_bound,
            "inverse_lipschitz_upper_bound": self.inverse_lipschitz_upper_bound,
            "contraction": self.contraction,
            "mode": "eval",
            "norm": "l2",
            "rounding_slack": ROUNDING_SLACK,
            "in_shape": list(self.in_shape),
            "blocks": [asdict(block) for block in self.blocks],
            "layers": [asdict(layer) for layer in self.layers],
        }


@dataclass(frozen=True)
class _Layer:
    """A layer before its bound is known: a convolution, or a factor by channel."""

    name: str
    kind: str
    size: tuple[int, int]
    weight: Tensor | None = None
    factor: float = 1.0
    folded: str | None = None


@torch.no_grad()
def certify(model: IResNet, *, shifts: Sequence[tuple[float, float]] = SHIFTS) -> Certificate:
    """Bound the Lipschitz constant of every residual block of the model.

    Args:
        model: in any mode; the bounds are of eval mode unless stated otherwise.
        shifts: see `convolution_norm_bounds`; fewer are faster and prove as much or less.

    Raises:
        ValueError: if shifts is empty or has one that is not in SHIFTS, or the invertible
            part contains a module whose Lipschitz constant is not known here, or a
            convolution outside the argument above. A layer without a proof has no bound.
    """
    if not shifts or any(shift not in SHIFTS for shift in shifts):
        raise ValueError(f"shifts must be one or more of {SHIFTS}, but got {tuple(shifts)}")
    blocks: dict[str, ResidualBlock] = {}
    # By position: a module that stands in two places counts twice.
    for index, module in enumerate(model.body):
        if type(module) is ResidualBlock:
            blocks[f"body.{index}"] = module
        elif type(module) not in (Squeeze, InjectivePad):
            raise ValueError(_unknown(f"body.{index}", module))
    layers = {name: list(_layers(block, f"{name}.residual")) for name, block in blocks.items()}
    bounds = _layer_bounds([layer for parts in layers.values() for layer in parts], shifts)
    interplay = _interplay_bounds(layers)
    block_bounds = []
    for name, block in blocks.items():
        product = math.prod(bounds[layer.name].upper_bound for layer in layers[name])
        product = _number(product * _UP)  # infinity times zero proves nothing
        upper_bound = min(product, interplay.get(name, math.inf))
        train_upper_bound = upper_bound * _train_factor(block)
        block_bounds.append(BlockBound(name, upper_bound, product, train_upper_bound))
    return Certificate(
        max((block.upper_bound for block in block_bounds), default=0.0),
        max((block.train_upper_bound for block in block_bounds), default=0.0),
        model.in_shape,
        tuple(block_bounds),
        tuple(bounds.values()),
    )


def _layers(block: ResidualBlock, path: str) -> Iterator[_Layer]:
    children = [(str(index), module) for index, module in enumerate(block.residual)]
    size = block.in_shape[1:]
    index = 0
    while index < len(children):
        child, module = children[index]
        name = f"{path}.{child}"
        index += 1
        if isinstance(module, SpectralNormConv2d | nn.Conv2d):
            weight = _effective_weight(name, module)
            folded = None
            if index < len(children) and type(children[index][1]) is nn.BatchNorm2d:
                # conv, then BatchNorm: one convolution with the kernel s_o * W[o].
                following, batch_norm = children[index]
                weight = weight.double() * _batch_norm_scale(batch_norm).view(-1, 1, 1, 1)
                folded = f"{path}.{following}"
                index += 1
            yield _Layer(name, "convolution", size, weight=weight, folded=folded)
        elif type(module) is nn.BatchNorm2d:
            scale = _batch_norm_scale(module).abs().max().item()
            yield _Layer(name, "batch_norm", size, factor=scale)
        elif type(module) not in (*ACTIVATIONS.values(), nn.Dropout):
            raise ValueError(_unknown(name, module))
        elif isinstance(module, nn.ELU) and not 0 <= module.alpha <= 1:
            # The slope of ELU at 0 from below is alpha.
            raise ValueError(f"ELU at {name}: 0 <= alpha <= 1 must hold, but got {module.alpha}")
        elif isinstance(module, nn.Softplus) and module.threshold < 20:
            # Where torch goes over to the identity it jumps by e^-threshold.
            raise ValueError(
                f"Softplus at {name}: threshold >= 20 must hold, but got {module.threshold}"
            )


def _layer_bounds(
    layers: Sequence[_Layer], shifts: Sequence[tuple[float, float]]
) -> dict[str, LayerBound]:
    """The bounds of all layers, by name, in order; convolutions of one shape in one batch."""
    groups: dict[Any, list[tuple[str, Tensor]]] = defaultdict(list)
    bounds: dict[str, tuple[float, float]] = {}
    for layer in layers:
        if layer.weight is None:
            bounds[layer.name] = (_number(layer.factor / _UP, 0.0), _number(layer.factor * _UP))
        else:
            c_out, c_in = layer.weight.shape[:2]
            # A layer and the transpose of another may have one shape, and have one norm.
            weight = adjoint_kernel(layer.weight) if c_out > c_in else layer.weight
            groups[(weight.shape, layer.size)].append((layer.name, weight))
    for (_, size), group in groups.items():

        def norm_bounds(weight: Tensor, size: tuple[int, int] = size) -> Tensor:
            return torch.stack(convolution_norm_bounds(weight, size, shifts), dim=1)

        pairs = in_threads(norm_bounds, torch.stack([weight for _, weight in group]))
        for (name, _), (lower, upper) in zip(group, pairs.tolist(), strict=True):
            bounds[name] = (lower, upper)
    return {
        layer.name: LayerBound(layer.name, layer.kind, *bounds[layer.name], layer.folded)
        for layer in layers
    }


def _interplay_bounds(layers: dict[str, list[_Layer]]) -> dict[str, float]:
    """Bounds of `block_norm` for the blocks that have its shape, by name."""
    groups: dict[Any, list[tuple[str, list[Tensor], float]]] = defaultdict(list)
    for name, parts in layers.items():
        weights = [layer.weight for layer in parts if layer.weight is not None]
        # Factors may stand ahead of the first convolution only.
        n_ahead = len(parts) - len(weights)
        ahead = math.prod(layer.factor for layer in parts[:n_ahead])
        if all(layer.weight is None for layer in parts[:n_ahead]) and _is_bottleneck(weights):
            key = (*(weight.shape for weight in weights), parts[0].size)
            groups[key].append((name, weights, ahead))
    bounds: dict[str, float] = {}
    for (*_, size), group in groups.items():

        def upper_bounds(
            first: Tensor, second: Tensor, third: Tensor, size: tuple[int, int] = size
        ) -> Tensor:
            first, second, third = first.double(), second.double(), third.double()
            return bottleneck_upper_bounds(first, second[..., 0, 0], third, size)

        stacked = (torch.stack([weights[i] for _, weights, _ in group]) for i in range(3))
        uppers = in_threads(upper_bounds, *stacked)
        for (name, _, ahead), upper in zip(group, uppers.tolist(), strict=True):
            bounds[name] = _number(ahead * upper * _UP)
    return bounds


def _is_bottleneck(weights: Sequence[Tensor]) -> bool:
    """Whether they are k x k, 1 x 1, k x k, finite, with the fewest channels in between."""
    if len(weights) != 3 or not all(bool(weight.isfinite().all()) for weight in weights):
        return False
    first, second, third = weights
    inner = first.shape[0]
    return (
        second.shape == (inner, inner, 1, 1)
        and third.shape[1] == inner
        and first.shape[2:] == third.shape[2:]
        and inner <= min(first.shape[1], third.shape[0])
    )


def _train_factor(block: ResidualBlock) -> float:
    """What training mode can multiply Lip(g) by."""
    factor = 1.0
    for module in block.residual:
        if isinstance(module, nn.BatchNorm2d):
            return math.inf
        if isinstance(module, nn.Dropout):
            # With its mask, a diagonal matrix with entries 0 and 1 / (1 - p).
            factor /= 1 - module.p
    return factor


def in_threads(function: Callable[..., Tensor], *batches: Tensor) -> Tensor:
    """function(*batches), with the batches (L, ...) in parts, on as many threads as torch has.

    LAPACK takes the matrices of a batch one after another; torch uses one thread for that. And
    the symbols of a few layers, unlike those of all, fit into the caches.
    """
    if batches[0].device.type != "cpu":
        return function(*batches)
    n_layers, n_threads = len(batches[0]), torch.get_num_threads()
    n_chunks = min(n_layers, max(n_threads, -(-n_layers // _MOST_LAYERS)))
    with ThreadPoolExecutor(n_threads) as pool:
        return torch.cat(list(pool.map(function, *(batch.chunk(n_chunks) for batch in batches))))


def _effective_weight(name: str, module: nn.Module) -> Tensor:
    if type(module) is SpectralNormConv2d:
        return module.effective_weight()
    if type(module) is not nn.Conv2d:
        raise ValueError(_unknown(name, module))
    k_height, k_width = module.kernel_size
    if (
        module.stride != (1, 1)
        or module.dilation != (1, 1)
        or module.groups != 1
        or module.padding_mode != "zeros"
        or k_height % 2 == 0
        or k_width % 2 == 0
        or module.padding != (k_height // 2, k_width // 2)
    ):
        raise ValueError(
            f"no bound is known for the convolution at {name}: it must have an odd kernel, "
            f"stride 1, dilation 1, one group and 'same' zero padding, but got {module}"
        )
    return module.weight


def _batch_norm_scale(module: nn.Module) -> Tensor:
    """s = gamma / sqrt(running_var + eps) of an eval-mode BatchNorm, (C,), float64."""
    assert isinstance(module, nn.BatchNorm2d)
    if module.running_var is None:
        raise ValueError("a BatchNorm without running statistics is no function of one sample")
    scale = (module.running_var.double() + module.eps).rsqrt()
    return scale if module.weight is None else scale * module.weight.double()


def _number(value: float, otherwise: float = math.inf) -> float:
    """The value, or `otherwise` for one that is no number: it bounds nothing."""
    return otherwise if math.isnan(value) else value


def _unknown(name: str, module: nn.Module) -> str:
    return f"no Lipschitz bound is known for the module {type(module).__name__} at {name}"
