"""How far a margin, a difference of two scores, can fall when the sample moves: a quadratic bound,
which is carried back through the blocks of a network, around what they computed for the sample.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from models.floats.raised import UP


@dataclass(frozen=True)
class Fall:
    """A bound for B samples: if the input of some later part of a network moves by d, (...), the
    margin falls by at most -slope . d + curvature |d|^2 + offset + error |d|, l2. The norm of the
    gradient of the margin by the features must be near 1, so that no square underflows.

    Attributes:
        slope: float32 or float64 (B, ...); the other attributes have its dtype and (B,).
        curvature: > 0.
        offset: >= 0.
        error: >= 0, the bound of what was rounded on the way to `slope`.
    """

    slope: Tensor
    curvature: Tensor
    offset: Tensor
    error: Tensor

    @classmethod
    def of_margin(cls, slope: Tensor, share: Tensor, radius: Tensor, error: Tensor) -> "Fall":
        """The fall of a linear margin with the gradient `slope` (B, ...), off by `error` (B,).

        A `share` (B,) of the gradient, in (0, 1), is carried back. Of the rest only the norm n is
        kept: (1 - share) n |d| <= curvature |d|^2 + offset, an equality at |d| = `radius` (B,).
        """
        norm = torch.linalg.vector_norm(slope.flatten(1), dim=1)
        rest = (1 - share) * (norm * UP + error)
        curvature = rest / (2 * radius)
        return cls(
            slope * share.view(-1, *[1] * (slope.dim() - 1)),
            curvature,
            rest.square() / (4 * curvature) * UP,
            error + norm * torch.finfo(slope.dtype).eps,
        )

    @property
    def norm(self) -> Tensor:
        """(B,): the factor of |d| in the bound."""
        norm: Tensor = torch.linalg.vector_norm(self.slope.flatten(1), dim=1)
        return norm * UP + self.error

    def distance(self, margin: Tensor) -> Tensor:
        """(B,): the |d| within which a margin (B,) stays positive, up to rounding; -inf if none."""
        return distance(self.norm, self.curvature, margin - self.offset)


def distance(norm: Tensor, curvature: Tensor, rest: Tensor) -> Tensor:
    """The largest t with norm t + curvature t^2 <= rest, up to rounding; -inf if there is none."""
    root = (norm.square() + 4 * curvature * rest.clamp(min=0)).sqrt()
    # Without the difference of two nearly equal numbers.
    found = 2 * rest / (norm + root)
    return torch.where(rest > 0, found, -torch.inf)


class PassedBlock(ABC):
    """What a block computed for B samples, and what bounds the fall through it."""

    @abstractmethod
    def select(self, rows: Tensor, dtype: torch.dtype) -> Self:
        """The same of some of the samples, given by their indices (N,), in a precision."""

    @abstractmethod
    def moved(self, d: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (inside, out): if the block's input moves by d (B, C, H, W), how far what is
        inside moves, and how far its output (B, C, H, W) does."""

    @abstractmethod
    def before(self, fall: Fall, inside: Tensor) -> Fall:
        """The bound for this block's input, given the one for its output. It is valid for any
        `inside`, and tightest for a sample that moves as `moved` describes."""
