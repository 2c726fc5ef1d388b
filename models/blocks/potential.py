"""The step of a gradient flow as a residual block: it moves no two points apart.

Meunier et al. 2022, "A dynamical system perspective for Lipschitz neural networks", there with
|W|^2 <= 2 and without an inverse.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
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
from models.blocks.passed_potential import PassedPotential
from models.floats.raised import raised_product
from models.inverse.decoupled import decoupled, scalar_solution, solve_decoupled
from models.inverse.fixed_point import Solution
from models.layers.activations import ACTIVATIONS
from models.layers.convolution import convolved, plain_convolution
from models.layers.known import (
    Layer,
    are_finite,
    check_layer,
    check_parts,
    is_activation,
    is_convolution,
    kernel_of,
    largest_mask_factor,
    unknown,
)
from models.layers.normalized import NormalizedConv2d
from models.layers.orthonormal import OrthonormalConv2d
from models.layers.power_iteration import adjoint_kernel
from models.layers.spectral_norm import SpectralNormConv2d
from models.norms.fall import PassedBlock
from models.norms.layer_bounds import LayerBound
from models.norms.rounding import Running, absolute_norm, after_sum, inside_block
from models.spec import NetworkSpec


@dataclass(frozen=True)
class PotentialReading(BlockReading):
    """W, the only layer of g = -W^T k(W x + b), for a k with slopes in [0, 1].

    Attributes:
        train_factor: the factor by which Lip(g) can be larger in training mode.
    """

    train_factor: float

    def bound(self, norms: Mapping[str, LayerBound]) -> BlockBound:
        """The bounds that follow from that of |W|: there is nothing to search for."""
        (layer,) = self.layers
        # W is applied twice: once as it is, once transposed.
        upper_bound = raised_product([norms[layer.name].upper_bound] * 2)
        return BlockBound(
            self.name,
            upper_bound,
            upper_bound,
            bound_in_training(upper_bound, self.train_factor),
            # The eigenvalues of its Jacobians are in [1 - upper_bound, 1].
            map_lipschitz_upper_bound=max(1.0, upper_bound - 1),
            inverse_lipschitz_upper_bound=inverse_bound(upper_bound),
        )


class PotentialBlock(InvertibleBlock):
    """x + g(x) with g = -W^T k(W x + b), W a zero-padded convolution.

    k has slopes in [0, 1], so between two points the block acts as I - W^T Q W, with a diagonal Q
    with entries in [0, 1]: a symmetric matrix with eigenvalues in [1 - |W|^2, 1], |W| the spectral
    norm. So Lip(g) is at most |W|^2, the Lipschitz constant of the block at most max(1, |W|^2 - 1),
    and the Lipschitz constant of its inverse at most 1 / (1 - |W|^2), where |W| < 1.

    Under spectral normalization coeff is the target of |W|^2. Dropout follows k.

    Args:
        spec: the settings of its network.
        channels: of the input and the output.
        size: (H, W) of the map.
        dense: whether it is one of the dense blocks, on maps of one pixel.
    """

    def __init__(
        self, spec: NetworkSpec, channels: int, size: tuple[int, int], *, dense: bool = False
    ) -> None:
        super().__init__(channels, size)
        inner_channels = spec.inner_channels(channels, dense=dense)
        kernel_size = 1 if dense else spec.kernel_size
        conv: NormalizedConv2d | nn.Conv2d
        coeff = math.sqrt(spec.coeff)
        if spec.norm == "spectral" and kernel_size == 1:
            conv = OrthonormalConv2d(channels, inner_channels, coeff=coeff)
        elif spec.norm == "spectral":
            conv = SpectralNormConv2d(channels, inner_channels, kernel_size, size=size, coeff=coeff)
        else:
            conv = nn.Conv2d(channels, inner_channels, kernel_size, padding=kernel_size // 2)
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
        self.conv = conv
        self.activation = ACTIVATIONS[spec.activation]()
        self.dropout = nn.Dropout(spec.dropout) if spec.dropout > 0 else None

    @classmethod
    def built(
        cls, spec: NetworkSpec, channels: int, size: tuple[int, int], *, is_first: bool
    ) -> "PotentialBlock":
        return cls(spec, channels, size)

    def forward(self, x: Tensor, weights: Mapping[nn.Module, Tensor] | None = None) -> Tensor:
        known = None if weights is None else weights.get(self.conv)
        weight = self._weight() if known is None else known
        inner = self.activation(convolved(x, weight, self.conv.bias))
        if self.dropout is not None:
            inner = self.dropout(inner)
        return x - convolved(inner, adjoint_kernel(weight))

    @property
    def target_lipschitz(self) -> float:
        conv = self.conv
        return max(1.0, conv.coeff**2 - 1) if isinstance(conv, NormalizedConv2d) else math.inf

    def deployed(self) -> nn.Sequential:
        weight = self._weight()
        first = plain_convolution(weight, self.conv.bias)
        last = plain_convolution(-adjoint_kernel(weight), None)
        return nn.Sequential(first, self.activation, last).train(self.training)

    def layers(self) -> Layers:
        weight, bias = self._weight().detach(), self.conv.bias
        bias = None if bias is None else bias.detach()
        return [
            partial(convolved, weight=weight, bias=bias),
            self.activation,
            partial(convolved, weight=-adjoint_kernel(weight)),
        ]

    def _solved(self, z: Tensor, **settings: Any) -> Solution:
        bias = None if self.conv.bias is None else self.conv.bias.detach()
        solved = _decoupled(self._weight().detach(), bias, self.activation, z, **settings)
        return super()._solved(z, **settings) if solved is None else solved

    def exact_inverse(self, residual: nn.Sequential, z: Tensor, **settings: Any) -> Solution:
        conv, activation = cast(nn.Conv2d, residual[0]), residual[1]
        solved = _decoupled(conv.weight, conv.bias, activation, z, **settings)
        return super().exact_inverse(residual, z, **settings) if solved is None else solved

    def newton_step(
        self, residual: nn.Sequential, x: Tensor, missing: Tensor, rtol: float
    ) -> Tensor:
        conv, activation = cast(nn.Conv2d, residual[0]), residual[1]
        near = decoupled(conv.weight.flatten(1)) if conv.kernel_size == (1, 1) else None
        if near is None:
            return super().newton_step(residual, x, missing, rtol)
        # Around x, k is a product with zeros and ones.
        on = activation(conv(x)).sign().permute(0, 2, 3, 1)
        z, weight = -missing.permute(0, 2, 3, 1), conv.weight.flatten(1)
        step = solve_decoupled(
            weight,
            near,
            lambda w, rows: w * on[rows] / (1 - near.scale),
            F.linear(z, weight),
            z,
            rtol=rtol**2,  # which costs next to nothing, and saves the caller a step
        )
        return step.last_iterate.permute(0, 3, 1, 2)

    def passed(self, before: Running, bound: BlockBound) -> tuple[PassedBlock, Running] | None:
        if type(self.activation) is not nn.ReLU or not bound.upper_bound < 2:
            return None
        residual = self.deployed()
        convolution = cast(nn.Conv2d, residual[0])
        u, _, inside = inside_block(residual, before)
        absolute = absolute_norm(convolution)
        passed = PassedPotential(convolution.weight, absolute, bound, u.value, u.off[0])
        return passed, after_sum(before, inside, bound.map_lipschitz_upper_bound)

    def read(self, path: str) -> PotentialReading:
        check_parts(path, self, {"conv", "activation", "dropout"})
        for name, module in self._modules.items():
            check_layer(f"{path}.{name}", module)
        conv, name = self.conv, f"{path}.conv"
        if not is_convolution(conv):
            raise ValueError(unknown(name, conv))
        if not is_activation(self.activation):
            raise ValueError(unknown(f"{path}.activation", self.activation))
        weight, factor = kernel_of(name, conv, self.in_shape[0]), 1.0
        if self.dropout is not None:
            if type(self.dropout) is not nn.Dropout:
                raise ValueError(unknown(f"{path}.dropout", self.dropout))
            factor = largest_mask_factor(self.dropout)
        is_finite = are_finite([conv], weight)
        layer = Layer(name, self.in_shape[1:], weight, None, None, is_finite)
        return PotentialReading(path, (layer,), factor)

    def scale_layers(self, layers: Sequence[LayerBound], coeff: float, n_round: int) -> bool:
        """Scale W down to a bound of sqrt(coeff), so that Lip(g) is at most coeff."""
        (layer,) = layers
        if layer.upper_bound <= math.sqrt(coeff):
            return False
        self._scale(layer, math.sqrt(coeff) / layer.upper_bound, n_round)
        return True

    def scale_block(
        self, bound: BlockBound, layers: Sequence[LayerBound], factor: float, n_round: int
    ) -> None:
        (layer,) = layers
        self._scale(layer, math.sqrt(factor), n_round)

    def _scale(self, layer: LayerBound, factor: float, n_round: int) -> None:
        """Scale W and its bias: with ReLU, g is then scaled by the square of the factor."""
        by = scale_convolution(self.conv, layer.upper_bound, factor, n_round)
        if self.conv.bias is not None:
            self.conv.bias.mul_(by)

    def _weight(self) -> Tensor:
        """The kernel of W that the forward pass uses."""
        conv = self.conv
        return conv.effective_weight() if isinstance(conv, NormalizedConv2d) else conv.weight


def _decoupled(
    weight: Tensor, bias: Tensor | None, activation: nn.Module, z: Tensor, **settings: Any
) -> Solution | None:
    """The inverse of a block with this kernel by scalar equations; None where it is not nearly a
    matrix with orthogonal rows of equal length below 1, or k is not known."""
    if weight.shape[2:] != (1, 1):
        return None
    matrix = weight.flatten(1)
    near = decoupled(matrix)
    solve = None if near is None else scalar_solution(activation, near.scale)
    if near is None or solve is None:
        return None
    with torch.autocast(z.device.type, enabled=False):
        pixels = z.permute(0, 2, 3, 1)
        solution = solve_decoupled(
            matrix,
            near,
            lambda w, _: solve(w),
            F.linear(pixels, matrix, bias),
            pixels,
            **settings,
        )
    return replace(
        solution,
        value=solution.value.permute(0, 3, 1, 2),
        last_iterate=solution.last_iterate.permute(0, 3, 1, 2),
    )
