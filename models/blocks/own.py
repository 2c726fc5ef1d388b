"""Blocks that others write, as subclasses of `models.Block`.

The bounds of such a block are proven by its author, not by this package; certificates say so.
"""

import copy
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from models.blocks.invertible_block import (
    BlockBound,
    BlockReading,
    InvertibleBlock,
    Layers,
    inverse_bound,
)
from models.floats.norm import scaled_norm
from models.floats.raised import UP, raised_product
from models.inverse.fixed_point import Solution, nan_where_unconverged
from models.layers.convolution import in_channels_last
from models.norms.layer_bounds import LayerBound
from models.norms.rounding import Running, after_own_block
from models.spec import NetworkSpec

# By how much more a block is scaled than needed, since scaling rounds.
_MARGIN = 1e-5
# By how much, relative, the bound may exceed `factor` times the old one after `scale(factor)`,
# since scaling rounds.
_SCALE_ROOM = 1e-3


class BlockError(ValueError):
    """A block of another author breaks a rule of `Block`; the message names the author."""


@dataclass(frozen=True)
class Bounds:
    """What the author of a block proves of it as it is now, in eval mode, l2 to l2, in real
    arithmetic. The defaults say that nothing is known.

    lipschitz implies alpha >= 1 - lipschitz and beta <= 1 + lipschitz, so alpha and beta need only
    be given where they say more. `certify` takes the tighter of the two.

    Attributes:
        lipschitz: >= 0, upper bound of Lip(g).
        alpha, beta: alpha |x - y| <= |(x + g(x)) - (y + g(y))| <= beta |x - y| for all x, y; alpha
            >= 0 and finite. A positive alpha proves the block invertible, even where g is no
            contraction.
        rounding: >= 0. The forward pass is off by at most rounding * u * (|x| + 1), l2, with u the
            unit of rounding of x. Without it no radius is certified: other images may round
            otherwise.
    """

    lipschitz: float = math.inf
    alpha: float = 0.0
    beta: float = math.inf
    rounding: float = math.inf

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if type(value) is not float or not value >= 0:  # refuses NaN too
                raise ValueError(f"{name} must be a float >= 0, but is {value!r}")
        for holds, rule in (
            (self.alpha < math.inf, "alpha < inf"),
            (self.alpha <= UP * self.beta, "alpha <= beta"),
            (self.alpha <= UP * (1 + self.lipschitz), "alpha <= 1 + lipschitz"),
            (UP * self.beta >= 1 - self.lipschitz, "beta >= 1 - lipschitz"),
        ):
            if not holds:
                raise ValueError(
                    f"{rule} must hold, but got lipschitz={self.lipschitz}, alpha={self.alpha}, "
                    f"beta={self.beta}"
                )


@dataclass(frozen=True)
class OwnReading(BlockReading):
    """The bounds that another author proves of a block."""

    proven: Bounds

    def bound(self, norms: Mapping[str, LayerBound]) -> BlockBound:
        """The bounds that follow from the author's."""
        proven = self.proven
        upper_bound = raised_product([proven.lipschitz])
        of_inverse = UP / proven.alpha if proven.alpha > 0 else math.inf
        return BlockBound(
            self.name,
            upper_bound,
            upper_bound,
            math.inf,
            map_lipschitz_upper_bound=min(proven.beta * UP, (1 + upper_bound) * UP),
            inverse_lipschitz_upper_bound=min(of_inverse, inverse_bound(upper_bound)),
        )


class Block(InvertibleBlock):
    """A block x + g(x) of another author.

    A subclass is built as `Subclass(channels, size, coeff=..., dropout=...)`, from the number of
    channels, the (H, W) of the map, and the study's settings. It defines `g`; or, if it is given as
    a whole map, `forward` and `preimage`. It may define `bounds` and `scale`.
    """

    @abstractmethod
    def __init__(
        self, channels: int, size: tuple[int, int], *, coeff: float, dropout: float
    ) -> None:
        super().__init__(channels, size)

    @classmethod
    def built(
        cls, spec: NetworkSpec, channels: int, size: tuple[int, int], *, is_first: bool
    ) -> "Block":
        return cls(channels, size, coeff=spec.coeff, dropout=spec.dropout)

    def g(self, x: Tensor) -> Tensor:
        """g(x) for x (B, C, H, W)."""
        image: Tensor = self(x)
        return image - x

    def forward(self, x: Tensor, weights: Mapping[nn.Module, Tensor] | None = None) -> Tensor:
        return x + self.g(x)

    def image(self, x: Tensor, weights: Mapping[nn.Module, Tensor]) -> Tensor:
        # Without `weights`: an author's forward may take x alone.
        return in_channels_last(self(in_channels_last(x)))

    def preimage(self, z: Tensor) -> Tensor | None:
        """The x (B, C, H, W) with x + g(x) = z; None to find it by fixed-point iteration."""
        return None

    def bounds(self) -> Bounds:
        """The bounds that the author proves of this block as it is now; unknown by default."""
        return Bounds()

    def scale(self, factor: float) -> None:
        """Multiply g, in place, by `factor`, 0 <= factor < 1. The lipschitz of `bounds` must then
        be at most `factor` times what it was, up to rounding. Networks of blocks without this
        method cannot be projected to smaller bounds."""
        raise NotImplementedError

    @property
    def target_lipschitz(self) -> float:
        """An estimate of the block's Lipschitz constant while it is trained: for loss="margin"."""
        return math.inf

    def deployed(self) -> nn.Sequential:
        return nn.Sequential(_Residual(copy.deepcopy(self)))

    def layers(self) -> Layers:
        return [self.g]

    def read(self, path: str) -> OwnReading:
        author = path_of_class(type(self))
        try:
            bounds = self.bounds()
        # Whatever the author's code raises.
        except Exception as error:
            raise BlockError(
                f"bounds of {author} at {path} must give Bounds, but raises "
                f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            ) from error
        if type(bounds) is not Bounds:
            raise BlockError(f"bounds of {author} must give Bounds, but gives {bounds!r:.80}")
        return OwnReading(path, (), bounds)

    def after(self, before: Running, lipschitz: float) -> Running:
        return after_own_block(self, before, lipschitz, self.bounds().rounding)

    def exact_g(self) -> None:
        """None: nothing is known about the rounding of its g in float64."""

    def why_not_scalable(self) -> str | None:
        if type(self).scale is Block.scale:
            return "blocks that define `scale`, but got one that does not"
        return None

    def scale_layers(self, layers: Sequence[LayerBound], coeff: float, n_round: int) -> bool:
        """False: its layers are not known, so none is scaled."""
        return False

    def scale_block(
        self, bound: BlockBound, layers: Sequence[LayerBound], factor: float, n_round: int
    ) -> None:
        self.scale(factor * (1 - 2**n_round * _MARGIN))
        now = self.read(bound.name).proven.lipschitz
        if raised_product([now]) > factor * bound.upper_bound * (1 + _SCALE_ROOM):
            raise BlockError(
                f"bounds().lipschitz of {path_of_class(type(self))} at {bound.name} must be at "
                f"most {factor:.4g} times {bound.upper_bound:.4g} after scale({factor:.4g}), but "
                f"got {now:.4g}"
            )

    def make_plain(self) -> None:
        """Does nothing: the block stays as its author made it."""

    @torch.no_grad()
    def inverse(self, z: Tensor, **settings: Any) -> Solution:
        x = self.preimage(z) if z.shape[1:] == self.in_shape else None
        if x is None:
            return super().inverse(z, **settings)
        residual, scale = scaled_norm(self(x) - z), scaled_norm(z)
        # A residual as small as rounding permits is enough, whatever rtol is.
        converged = residual <= max(settings.get("rtol", 1e-6), _FEW * _unit(z)) * scale
        return Solution(
            value=nan_where_unconverged(x, converged),
            last_iterate=x,
            n_steps=torch.ones(len(z), dtype=torch.int64, device=z.device),
            residual_norm=residual,
            converged=converged,
        )


class _Residual(nn.Module):
    """The branch g of a block: its output minus its input."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        image: Tensor = self.block(x)
        return image - x


# Units of rounding that the residual of an exact preimage may have, relative to |z|.
_FEW = 100


def _unit(x: Tensor) -> float:
    return torch.finfo(x.dtype).eps / 2


def block_class(path: str) -> type[Block]:
    """The subclass of Block at an import path. Raises ValueError if there is none."""
    module, _, name = path.partition(":")
    try:
        found = getattr(import_module(module), name)
    # Whatever importing a module raises.
    except Exception as error:
        raise ValueError(
            f"the block {path} must be importable, but: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(found, type) or not issubclass(found, Block):
        raise ValueError(f"{path} must be a subclass of models.Block, but is a {found!r:.80}")
    return found


def path_of_class(block: type[nn.Module]) -> str:
    """The import path of a block's class. Raises ValueError if that is in this package."""
    package, _, _ = __name__.partition(".")
    if block.__module__.partition(".")[0] == package:
        raise ValueError(
            f"the __module__ of a block of another author must not be in the package {package}, "
            f"but is {block.__module__!r}"
        )
    return f"{block.__module__}:{block.__qualname__}"
