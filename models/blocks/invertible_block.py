"""The interface of every kind of residual block x + g(x): its forward pass, inverse by fixed-point
iteration (Behrmann et al., section 3), proven bounds and rounding, and how it is scaled."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from models.floats.raised import UP
from models.inverse.fixed_point import Solution, fixed_point
from models.layers.convolution import convolved, in_channels_last
from models.layers.known import Layer
from models.layers.normalized import NormalizedConv2d
from models.layers.orthonormal import OrthonormalConv2d
from models.norms.fall import PassedBlock
from models.norms.layer_bounds import LayerBound
from models.norms.rounding import Running, after_block
from models.spec import NetworkSpec

Layers = Sequence[Callable[[Tensor], Tensor]]
"""g as a sequence of functions, applied in order to maps (B, C, H, W)."""


@dataclass(frozen=True)
class BlockBound:
    """Proven upper bounds of one residual block x + g(x), l2 to l2, in eval mode unless stated.

    Attributes:
        name: the module's path in model.named_modules().
        upper_bound: of Lip(g).
        layer_product: the product of the layers' bounds, never below upper_bound.
        train_upper_bound: of Lip(g) in training mode, for every dropout mask; infinite with a
            BatchNorm, whose output there is no function of one sample.
        map_lipschitz_upper_bound: of the Lipschitz constant of the block, at most 1 + upper_bound.
        inverse_lipschitz_upper_bound: of the Lipschitz constant of the inverse, at most
            1 / (1 - upper_bound) if g contracts; infinite without proof. If it is finite, say c,
            the block is invertible, whether g contracts or not: |dx| <= c |d(x + g(x))| makes it
            one-to-one with a closed range, which is also open (invariance of domain), so it is the
            whole space.
        proven_by: import path of the block's class if its author proves these bounds, else None.
    """

    name: str
    upper_bound: float
    layer_product: float
    train_upper_bound: float
    map_lipschitz_upper_bound: float
    inverse_lipschitz_upper_bound: float
    proven_by: str | None = None

    @property
    def expands(self) -> bool:
        """Whether the block is proven to be invertible while g is not proven to contract."""
        return self.upper_bound >= 1 and self.inverse_lipschitz_upper_bound < math.inf


@dataclass(frozen=True)
class BlockReading:
    """The numbers from which a block's bounds in eval mode are proven. A subclass for each kind.

    Attributes:
        name: the module's path in model.named_modules(remove_duplicate=False).
        layers: linear maps of g whose norms are bounded beforehand, in order.
    """

    name: str
    layers: tuple[Layer, ...]

    @classmethod
    def bounds(
        cls,
        readings: Sequence[Self],
        norms: Mapping[str, LayerBound],
        *,
        search: bool,
        search_room: float,
    ) -> list[BlockBound]:
        """The proven bounds of blocks of this kind, in order. A kind whose blocks can share a batch
        overrides this method, any other kind `bound`.

        Args:
            norms: the bounds of all layers, by name.
            search: whether to spend time on smaller bounds.
            search_room: >= 0, relative: by how much bounds that come from a search are widened.
        """
        return [reading.bound(norms) for reading in readings]

    def bound(self, norms: Mapping[str, LayerBound]) -> BlockBound:
        """The proven bounds of this block alone, without a search."""
        raise NotImplementedError(f"{type(self).__name__} must define bound or bounds")


class InvertibleBlock(nn.Module):
    """x + g(x) for x (B, C, H, W), invertible if g contracts.

    Args:
        channels: of the input and the output.
        size: (H, W) of the map.
    """

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.in_shape = (channels, *size)

    @classmethod
    @abstractmethod
    def built(
        cls, spec: NetworkSpec, channels: int, size: tuple[int, int], *, is_first: bool
    ) -> "InvertibleBlock":
        """A new block for a stage of a network with so many channels and maps of this size."""

    @abstractmethod
    def forward(self, x: Tensor, weights: Mapping[nn.Module, Tensor] | None = None) -> Tensor:
        """x + g(x) for x (B, C, H, W). `weights`: layer -> effective weight, if at hand."""

    def image(self, x: Tensor, weights: Mapping[nn.Module, Tensor]) -> Tensor:
        """`forward`, in the memory layout in which it is fast."""
        image: Tensor = self(in_channels_last(x), weights)
        return image

    @property
    @abstractmethod
    def target_lipschitz(self) -> float:
        """The largest Lipschitz constant of the block if each layer meets its target: an estimate,
        not a bound. Infinite if a layer has no target."""

    @abstractmethod
    def deployed(self) -> nn.Sequential:
        """A copy of g in plain modules: its convolutions have the effective weights."""

    @abstractmethod
    def layers(self) -> Layers:
        """g as functions, with its current effective weights. Faster to make than the modules of
        `deployed`, which take a tenth of the inverse's time."""

    @abstractmethod
    def read(self, path: str) -> BlockReading:
        """The numbers from which this block's bounds are proven. Raises ValueError, with the path,
        the rule and what was found, if no bound is known for a part of it."""

    def after(self, before: Running, lipschitz: float) -> Running:
        """The state of a forward pass after this block, whose Lipschitz bound is `lipschitz`."""
        return after_block(self.deployed(), before, lipschitz)

    def passed(self, before: Running, bound: BlockBound) -> tuple[PassedBlock, Running] | None:
        """Returns what bounds the fall of a margin through this block, and the state of the samples
        after it; None if nothing is known beyond `bound`, the proven bounds of this block.

        Args:
            before: the state of the samples before this block, in float64. Its spread and error are
                (K, B), and the first spread is zero.
        """
        return None

    def exact_g(self) -> nn.Sequential | None:
        """g in plain modules if a bound of their rounding is known, else None."""
        return self.deployed()

    def why_not_scalable(self) -> str | None:
        """If `project` cannot scale this block: what it needs, and what it got. Else None."""
        return None

    @abstractmethod
    def scale_layers(self, layers: Sequence[LayerBound], coeff: float, n_round: int) -> bool:
        """Scale, in place, each layer whose bound is above coeff.

        Args:
            layers: the proven bounds of its layers as they are.
            n_round: the number of earlier attempts: rounding can leave a bound slightly too large.

        Returns:
            Whether a layer was scaled.
        """

    @abstractmethod
    def scale_block(
        self, bound: BlockBound, layers: Sequence[LayerBound], factor: float, n_round: int
    ) -> None:
        """Lower the bound of Lip(g), in place, by a factor in (0, 1), with the least change of what
        the block computes. Raises BlockError if a block of another author does not scale properly.

        Args:
            bound: the proven bounds of this block as it is.
            layers, n_round: as in scale_layers.
        """

    def normalized_layers(self) -> list[NormalizedConv2d]:
        """The layers under spectral normalization, in order."""
        return [module for module in self.modules() if isinstance(module, NormalizedConv2d)]

    def make_plain(self) -> None:
        """Replace each normalized convolution by a plain one with its current effective weight."""
        for parent in list(self.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, NormalizedConv2d):
                    setattr(parent, name, child.deployed())

    @torch.no_grad()
    def inverse(self, z: Tensor, **settings: Any) -> Solution:
        """Solve x + g(x) = z for x (B, C, H, W) by fixed-point iteration from z, in the precision
        of the weights, under autocast too.

        Args:
            z: (B, C, H, W), of the block's in_shape.
            settings: rtol, atol, max_steps and expanding, as in `fixed_point`.

        Raises:
            RuntimeError: in training mode with dropout or BatchNorm: g is then no function of one
                sample.
            ValueError: if z is not of in_shape.
        """
        if self.training and any(
            isinstance(m, nn.Dropout | nn.BatchNorm2d) for m in self.modules()
        ):
            raise RuntimeError(
                "inverse needs eval mode: dropout and BatchNorm make the network in training "
                "mode no function of a single sample; call model.eval() first"
            )
        if z.shape[1:] != self.in_shape:
            raise ValueError(
                f"z of shape {self.in_shape} must be given, but got {tuple(z.shape[1:])}"
            )
        return self._solved(z, **settings)

    def _solved(self, z: Tensor, **settings: Any) -> Solution:
        return solve(self.layers(), z, **settings)

    def exact_inverse(self, residual: nn.Sequential, z: Tensor, **settings: Any) -> Solution:
        """The x (B, C, H, W) with x + g(x) = z in the precision of z, for `residual`, the g of
        `exact_g`; settings as in `fixed_point`."""
        return solve(list(residual), z, **settings)

    def newton_step(
        self, residual: nn.Sequential, x: Tensor, missing: Tensor, rtol: float
    ) -> Tensor:
        """The d (B, C, H, W) with d + g'(x) d = -missing, to rtol, for `residual`, a g in plain
        convolutions and ReLU: around x it is linear, given by its convolutions and by the entries
        where its ReLUs are on."""
        on: list[Tensor] = []
        for module in residual:
            x = module(x)
            on.append((x > 0).to(x.dtype) if isinstance(module, nn.ReLU) else x)

        def step(d: Tensor, rows: Tensor) -> Tensor:
            for module, of_module in zip(residual, on, strict=True):
                if isinstance(module, nn.Conv2d):
                    d = convolved(d, module.weight)
                elif isinstance(module, nn.ReLU):
                    d = d * of_module[rows]
            return -missing[rows] - d

        return fixed_point(step, -missing, rtol=rtol, expanding=True).last_iterate


def bound_in_training(upper_bound: float, train_factor: float) -> float:
    """The bound of Lip(g) in training mode, where Lip(g) can be `train_factor` times as large."""
    bound = upper_bound * train_factor
    return math.inf if math.isnan(bound) else bound  # NaN bounds nothing


def inverse_bound(upper_bound: float) -> float:
    """Upper bound of the Lipschitz constant of the inverse of x + g(x), from an upper bound of
    Lip(g); infinite unless that is below 1."""
    return UP / (1 - upper_bound) if upper_bound < 1 else math.inf


def solve(layers: Layers, z: Tensor, **settings: Any) -> Solution:
    """The x (B, C, H, W) with x + g(x) = z, for g as functions; settings as in `fixed_point`."""
    # The iteration sees (B, H, W, C), in which channels_last maps are contiguous, so that it
    # neither copies nor reorders samples.
    pixels = z.permute(0, 2, 3, 1).contiguous()
    solved, targets = torch.empty(0), pixels

    def step(x: Tensor, rows: Tensor) -> Tensor:
        nonlocal solved, targets
        if rows is not solved:  # the same as in the step before, as a rule
            solved, targets = rows, pixels[rows]
        g = x.permute(0, 3, 1, 2)
        for layer in layers:
            g = layer(g)
        g = g.permute(0, 2, 3, 1)
        return torch.sub(targets, g, out=g)

    with torch.autocast(z.device.type, enabled=False):
        solution = fixed_point(step, pixels, **settings)
    return replace(
        solution,
        value=solution.value.permute(0, 3, 1, 2),
        last_iterate=solution.last_iterate.permute(0, 3, 1, 2),
    )


def scale_convolution(module: nn.Module, upper_bound: float, factor: float, n_round: int) -> float:
    """Multiply the effective weight of a convolution by a factor in (0, 1), or by slightly less, to
    allow for rounding: that margin doubles with each round. The bias stays, and the target of a
    normalized convolution becomes at most its new bound.

    Args:
        upper_bound: a proven bound of the norm of the convolution before it is scaled, l2 to l2.

    Returns:
        The number by which the effective weight was multiplied.
    """
    assert isinstance(module, NormalizedConv2d | nn.Conv2d)
    weight = module.weight
    by: float = factor * (1 - 2**n_round * max(1e-6, 2 * torch.finfo(weight.dtype).eps))
    if isinstance(module, OrthonormalConv2d):
        module.coeff *= by  # the rows stay as they are
        return by
    if isinstance(module, NormalizedConv2d):
        weight = module.effective_weight()
        module.coeff = min(module.coeff, upper_bound * factor)
    module.weight.copy_(weight * by)
    return by
