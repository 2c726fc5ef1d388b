"""The bottleneck block of an i-ResNet (Behrmann et al., section 3)."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn

from models.blocks.invertible_block import (
    BlockBound,
    BlockReading,
    InvertibleBlock,
    Layers,
    bound_in_training,
    inverse_bound,
    scale_convolution,
)
from models.floats.raised import UP, raised_product
from models.layers.activations import ACTIVATIONS
from models.layers.known import (
    Layer,
    are_finite,
    check_layer,
    check_parts,
    is_activation,
    is_convolution,
    kernel_of,
    largest_mask_factor,
    product_or_nan,
    scale_of_batch_norm,
    unknown,
)
from models.layers.spectral_norm import SpectralNormConv2d
from models.norms.bottleneck_bounds import bottleneck_bounds
from models.norms.layer_bounds import LayerBound
from models.spec import NetworkSpec

# Least target of the first two layers with budget="last": a small coeff shrinks the last one only.
_FIRST_TARGET = 0.97


def layer_targets(coeff: float, budget: str, dropout: float) -> tuple[float, float, float]:
    """The targets of the three layers' spectral norms, from settings of `NetworkSpec`."""
    kept = 1 - dropout
    if budget == "even":
        return coeff, coeff, coeff * kept
    first = max(coeff, _FIRST_TARGET)
    return first, first, coeff**3 / first**2 * kept


@dataclass(frozen=True)
class BottleneckReading(BlockReading):
    """The numbers of a block whose g is a sequence of linear maps and activations.

    Attributes:
        activated: the indices i, in order, of activations with slopes in [0, 1] that stand ahead of
            layers[i], or behind them all.
        train_factor: the factor by which Lip(g) can be larger in training mode; infinite with a
            BatchNorm, with which g is then no function of one sample.
    """

    activated: tuple[int, ...]
    train_factor: float

    @classmethod
    def bounds(
        cls,
        readings: Sequence[Self],
        norms: Mapping[str, LayerBound],
        *,
        search: bool,
        search_room: float,
    ) -> list[BlockBound]:
        """Bound Lip(g) by the product of its layers' bounds and by `bottleneck_bounds`; bound the
        block and its inverse by `bottleneck_bounds` and by what follows from Lip(g). The smaller
        bound counts."""
        interplay = bottleneck_bounds(
            {reading.name: (reading.layers, reading.activated) for reading in readings}, search
        )
        found = []
        for reading in readings:
            product = raised_product(norms[layer.name].upper_bound for layer in reading.layers)
            of_g, forward, lower = interplay.get(reading.name, (math.inf, math.inf, 0.0))
            upper_bound = min(product, of_g * (1 + search_room))
            forward = 1 + (forward - 1) * (1 + search_room)
            lower = 1 - (1 - lower) * (1 + search_room)
            found.append(
                BlockBound(
                    reading.name,
                    upper_bound,
                    product,
                    bound_in_training(upper_bound, reading.train_factor),
                    map_lipschitz_upper_bound=min(forward, 1 + upper_bound) * UP,
                    inverse_lipschitz_upper_bound=min(
                        UP / lower if lower > 0 else math.inf, inverse_bound(upper_bound)
                    ),
                )
            )
        return found


class ResidualBlock(InvertibleBlock):
    """x + g(x) with g = W3 k(W2 k(W1 k(x))): 3x3, 1x1, 3x3 (paper, section 3).

    With norm="batch", a BatchNorm stands before every activation. Dropout stands before the last
    convolution; kept entries are scaled by 1 / (1 - dropout), so the target of that convolution is
    smaller by 1 - dropout, and the product of the targets is coeff**3 in training with any mask.

    With budget="last" a small coeff shrinks the step size (paper, equation 1), not the features.

    Args:
        spec: the settings of its network.
        channels: of the input and the output.
        size: (H, W) of the map.
        is_first: whether it is the first block of a network, which has no activation ahead of W1.
    """

    def __init__(
        self, spec: NetworkSpec, channels: int, size: tuple[int, int], *, is_first: bool = False
    ) -> None:
        super().__init__(channels, size)
        inner = spec.inner_channels(channels)

        def activate(n_channels: int) -> list[nn.Module]:
            layers: list[nn.Module] = [nn.BatchNorm2d(n_channels)] if spec.norm == "batch" else []
            return [*layers, ACTIVATIONS[spec.activation]()]

        targets = iter(layer_targets(spec.coeff, spec.budget, spec.dropout))

        def convolve(c_in: int, c_out: int, k: int) -> nn.Module:
            layer: SpectralNormConv2d | nn.Conv2d
            if spec.norm == "spectral":
                layer = SpectralNormConv2d(c_in, c_out, k, size=size, coeff=next(targets))
            else:
                layer = nn.Conv2d(c_in, c_out, k, padding=k // 2)
            # torch's random biases outweigh what small coefficients let through.
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
            return layer

        self.residual = nn.Sequential(
            *([] if is_first else activate(channels)),
            convolve(channels, inner, 3),
            *activate(inner),
            convolve(inner, inner, 1),
            *activate(inner),
            *([nn.Dropout(spec.dropout)] if spec.dropout > 0 else []),
            convolve(inner, channels, 3),
        )

    @classmethod
    def built(
        cls, spec: NetworkSpec, channels: int, size: tuple[int, int], *, is_first: bool
    ) -> "ResidualBlock":
        return cls(spec, channels, size, is_first=is_first)

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

    def read(self, path: str) -> BottleneckReading:
        check_parts(path, self, {"residual"})
        residual, size = self.residual, self.in_shape[1:]
        if type(residual) is not nn.Sequential:
            raise ValueError(unknown(f"{path}.residual", residual))
        layers: list[Layer] = []
        activated: list[int] = []
        channels, factor = self.in_shape[0], 1.0
        children = [(f"{path}.residual.{name}", m) for name, m in residual._modules.items()]
        while children:
            name, module = children.pop(0)
            check_layer(name, module)
            assert module is not None
            if is_convolution(module):
                weight = kernel_of(name, module, channels)
                channels, folded = len(weight), None
                of = [module]
                if children and type(children[0][1]) is nn.BatchNorm2d:
                    # conv, then BatchNorm: one convolution with the kernel s_o * W[o].
                    folded, batch_norm = children.pop(0)
                    check_layer(folded, batch_norm)
                    scale = scale_of_batch_norm(folded, batch_norm, channels)
                    weight = product_or_nan(weight, scale.view(-1, 1, 1, 1))
                    of.append(batch_norm)
                    factor = math.inf
                layers.append(Layer(name, size, weight, None, folded, are_finite(of, weight)))
            elif type(module) is nn.BatchNorm2d:
                scale = scale_of_batch_norm(name, module, channels)
                layers.append(Layer(name, size, None, scale, None, are_finite([module], scale)))
                factor = math.inf
            elif type(module) is nn.Dropout:
                # With its mask, a diagonal matrix with entries 0 and 1 / (1 - p).
                factor *= largest_mask_factor(module)
            elif is_activation(module):
                activated.append(len(layers))
            else:
                raise ValueError(unknown(name, module))
        if channels != self.in_shape[0]:
            raise ValueError(
                f"the Sequential at {path}.residual must give {self.in_shape[0]} channels, as come "
                f"to it, but gives {channels}"
            )
        return BottleneckReading(path, tuple(layers), tuple(activated), factor)

    def why_not_scalable(self) -> str | None:
        if any(isinstance(module, nn.BatchNorm2d) for module in self.modules()):
            return "residual blocks without BatchNorm, but got norm=batch"
        return None

    def scale_layers(self, layers: Sequence[LayerBound], coeff: float, n_round: int) -> bool:
        above = [layer for layer in layers if layer.upper_bound > coeff]
        for layer in above:
            self._scale(layer, coeff / layer.upper_bound, n_round)
        return bool(above)

    def scale_block(
        self, bound: BlockBound, layers: Sequence[LayerBound], factor: float, n_round: int
    ) -> None:
        """Scale the last convolution alone, to which the bound is proportional. Since biases stay,
        the block becomes x + s g(x) + b: a step of an ODE solver with a smaller step size (paper,
        equation 1). That keeps most of the accuracy that scaling every layer would lose."""
        self._scale(layers[-1], factor, n_round)

    def _scale(self, layer: LayerBound, factor: float, n_round: int) -> None:
        module = self.residual.get_submodule(layer.name.rpartition(".")[2])
        scale_convolution(module, layer.upper_bound, factor, n_round)
