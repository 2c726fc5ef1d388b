"""How far an image can move before a row of another class has the largest score."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from models.floats.norm import scaled_norm
from models.floats.raised import LEAST, UP
from models.norms.fall import distance
from models.norms.rounding import ROOM
from models.proofs.box import distances_within
from models.proofs.surroundings import Surroundings

# For how many rivals the best of a class's rows is sought, and a mixture of how many of them.
_N_RIVALS, _N_OWN, _N_SWEEPS = 8, 8, 20
# The same where what is proven beyond Lipschitz bounds may make other rivals the nearest; and
# images, or pairs of an image and a rival, at a time, and so many pixels of them.
_N_RIVALS_BEYOND, _AT_ONCE, _ENTRIES = 16, 100, 400_000
# A bound, relative, of what rounding takes from a sum of so many float64 numbers.
_OF_SUM = 2.0**-45


class _Sought(NamedTuple):
    """Rivals (B, P) and mixtures of own rows (B, Q) against them, with shares (B, P, Q)."""

    own: Tensor
    rivals: Tensor
    shares: Tensor


@dataclass(frozen=True)
class Rivals:
    """The rows of a head that compete for B images.

    Attributes:
        scores: float64 (B, N), of the rows.
        labels: int64 (B,).
        between: float64 (N, N), bounds of Lip(s_i - s_j) by the features, for scores s.
        slopes: `Head.mixture_slopes` of the classifier.
        of_features: bound of the Lipschitz constant of the features by the pixels.
        n_rows: the number of rows of each class.
        scale: of the pixels of an image.
        x: float64 (B, D), the images.
        box: (low, high), which every image in question keeps, if that counts. Then features are
            images.
        around: what the network does around the images, if that counts.
    """

    scores: Tensor
    labels: Tensor
    between: Tensor
    slopes: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, float]]
    of_features: float
    n_rows: int
    scale: float
    x: Tensor
    box: tuple[float, float] | None
    around: Surroundings | None

    def radii(self, of_body: Tensor | None = None, of_scores: Tensor | None = None) -> Tensor:
        """(B,): the radii, given what rounding takes from features (B,) and scores (B, N), l2.

        A label is safe from a rival row as long as one of its own rows has a larger score, and so
        as long as a mixture of their scores, with shares that sum to 1, is larger. Which row or
        mixture lasts longest is sought for the rivals that come nearest to the own row of the
        largest score; against all others that row stands for its class.
        """
        nearest = self._nearest(of_body, of_scores)
        if self._n_sought == 0:
            return nearest.amin(dim=1)
        rivals = self._sought.rivals
        longest = nearest.gather(1, rivals)
        for row in self._own.split(1, dim=1):
            longest = longest.maximum(self._quotients(row, rivals, of_body, of_scores))
        longest = longest.maximum(self._mixed(self._mixed_margins(of_body, of_scores)))
        others = nearest.scatter(1, rivals, math.inf).amin(dim=1)
        return longest.amin(dim=1).minimum(others)

    @cached_property
    def _own(self) -> Tensor:
        """(B, R): the rows of the labels."""
        of_class = torch.arange(self.n_rows, device=self.labels.device)
        return self.labels.unsqueeze(1) * self.n_rows + of_class

    def _nearest(self, of_body: Tensor | None, of_scores: Tensor | None) -> Tensor:
        """(B, N): distances within which the own row of the largest score keeps a larger score than
        each row; infinite for own rows."""
        own = self._own
        best = own.gather(1, self.scores.gather(1, own).argmax(dim=1, keepdim=True))
        everyone = torch.arange(len(self.between), device=own.device).expand(len(own), -1)
        return self._quotients(best, everyone, of_body, of_scores).scatter(1, own, math.inf)

    @property
    def _n_sought(self) -> int:
        """For how many rivals more than one own row is looked at."""
        is_beyond = self.box is not None or self.around is not None
        if self.n_rows == 1 and not is_beyond:
            return 0
        most = _N_RIVALS_BEYOND if is_beyond else _N_RIVALS
        return min(most, len(self.between) - self.n_rows)

    @cached_property
    def _sought(self) -> _Sought:
        """Chosen by scores without rounding; with it, any choice is valid."""
        nearest, own = self._nearest(None, None), self._own
        rivals = nearest.topk(self._n_sought, dim=1, largest=False).indices
        own = own.gather(1, self.scores.gather(1, own).topk(min(_N_OWN, self.n_rows)).indices)
        shares = _shares(
            *self._margins(own, rivals, None, None),
            self.between[own.unsqueeze(2), own.unsqueeze(1)],
        )
        return _Sought(own, rivals, shares)

    def _mixed_margins(self, of_body: Tensor | None, of_scores: Tensor | None) -> Tensor:
        """(B, P): by how much mixtures exceed their rivals, less rounding."""
        own, rivals, shares = self._sought
        margins, _ = self._margins(own, rivals, of_body, of_scores)
        # Less what this sum rounds.
        return (shares * (margins - _OF_SUM * margins.abs())).sum(dim=2)

    def _mixed(self, margins: Tensor) -> Tensor:
        """(B, P): distances in pixels, rounded down, within which mixtures keep their margins."""
        distances = self._quotient(margins, self._norms)
        if self.around is not None:
            norm, curvature, offset = self._falls.unbind(dim=2)
            beyond = distance(norm, curvature, margins / self._units - offset) / self.scale
            return distances.maximum(torch.where(beyond > 0, beyond / UP, -math.inf))
        if self.box is None:
            return distances
        within = torch.empty_like(distances)
        for rows in torch.arange(len(margins)).split(_AT_ONCE):
            slopes, off = self._slopes(rows)
            # No image of the box is farther than its diagonal.
            rest = margins[rows] - off * (self.box[1] - self.box[0]) * self.x.shape[1] ** 0.5
            within[rows] = distances_within(self.x[rows], self.box, slopes, rest)
        within = within / self.of_features / UP
        return distances.maximum(torch.where(margins > 0, within, -math.inf))

    def _slopes(self, rows: Tensor) -> tuple[Tensor, float]:
        """`Head.mixture_slopes` of some images and all of their rivals."""
        return self.slopes(*(of[rows] for of in self._sought))

    @cached_property
    def _norms(self) -> Tensor:
        """(B, P): bounds of the norms of the gradients of mixtures' margins by the features."""
        norms = self.scores.new_empty(self._sought.rivals.shape)
        for rows in torch.arange(len(norms)).split(_AT_ONCE):
            slopes, off = self._slopes(rows)
            norms[rows] = (scaled_norm(slopes.flatten(0, 1)).view(len(rows), -1) + off) * UP
        return norms.clamp(min=LEAST)

    @cached_property
    def _units(self) -> Tensor:
        """(B, P): powers of two near to `_norms`, without which their squares may underflow."""
        return self._norms / self._norms.frexp().mantissa

    @cached_property
    def _falls(self) -> Tensor:
        """(B, P, 3): what bounds the fall of each mixture's margin, in `_units`, by the image: the
        norm, curvature and offset of a `Fall`. The offset is infinite for pairs that do not decide.
        """
        assert self.around is not None
        margins = self._mixed_margins(None, None)
        farthest = self._quotient(margins, self._norms)
        falls = margins.new_zeros(*margins.shape, 3)
        falls[:, :, 2] = math.inf
        # The nearest rival, and then all that are nearer than it turns out to be.
        counts = margins > 0
        counts[:, 1:] = False
        for _ in range(2):
            at_once = max(_AT_ONCE, _ENTRIES // self.x.shape[1])
            for pairs in filter(len, counts.nonzero().split(at_once)):
                self._set_falls(pairs[:, 0], pairs[:, 1], margins, falls, farthest)
            counts = (margins > 0) & (farthest < farthest[:, :1])
        return falls

    def _set_falls(
        self, rows: Tensor, rivals: Tensor, margins: Tensor, falls: Tensor, farthest: Tensor
    ) -> None:
        """Set the entries of `falls` and raise those of `farthest`, in place, for images (M,) and
        their rivals (M,)."""
        assert self.around is not None
        own, of_rivals, shares = self._sought
        chosen = own[rows], of_rivals[rows, rivals].unsqueeze(1), shares[rows, rivals].unsqueeze(1)
        slopes, off = self.slopes(*chosen)
        unit = self._units[rows, rivals]
        margin = margins[rows, rivals] / unit
        slopes = -slopes.squeeze(1) / unit.unsqueeze(1)
        fall = self.around.fall(rows, slopes, off / unit, margin)
        found = (fall.distance(margin) / self.scale).nan_to_num(nan=-math.inf)
        falls[rows, rivals] = torch.stack([fall.norm, fall.curvature, fall.offset], dim=1)
        farthest[rows, rivals] = farthest[rows, rivals].maximum(found)

    def _margins(
        self, own: Tensor, rivals: Tensor, of_body: Tensor | None, of_scores: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """As `_margin`, (B, P, Q) each, for own rows (B, Q)."""
        pairs = [self._margin(row, rivals, of_body, of_scores) for row in own.split(1, dim=1)]
        margins, between = zip(*pairs, strict=True)
        return torch.stack(margins, dim=2), torch.stack(between, dim=2)

    def _quotients(
        self, row: Tensor, rivals: Tensor, of_body: Tensor | None, of_scores: Tensor | None
    ) -> Tensor:
        """(B, P): distances, rounded down, within which a row (B, 1) of each image keeps a larger
        score than each of its rivals (B, P), given by their indices."""
        return self._quotient(*self._margin(row, rivals, of_body, of_scores))

    def _margin(
        self, row: Tensor, rivals: Tensor, of_body: Tensor | None, of_scores: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Returns (margins, bounds), (B, P) each: by how much the score of a row (B, 1) exceeds
        those of its rivals, less rounding, and the bounds of Lip of the differences."""
        between = self.between[row, rivals]
        margin = self.scores.gather(1, row) - self.scores.gather(1, rivals)
        if of_body is not None and of_scores is not None:
            rounding = between * of_body.unsqueeze(1) + of_scores.gather(1, row)
            margin = margin - 2 * ROOM * (rounding + of_scores.gather(1, rivals))
        return margin, between

    def _quotient(self, margin: Tensor, between: Tensor) -> Tensor:
        """The distances in pixels, rounded down, that margins take at least, for bounds of Lip by
        the features."""
        of_pixels = self.of_features * between
        # A product that underflows is no bound of zero.
        of_pixels = torch.where(between > 0, of_pixels.clamp(min=LEAST), of_pixels)
        quotient = margin / of_pixels
        # Scores that never differ: certified at any radius, or at none.
        never = torch.where(margin > 0, math.inf, -math.inf)
        quotient = torch.where(of_pixels > 0, quotient, never)
        quotient = quotient.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)
        return torch.where(quotient.isinf(), quotient, quotient - (UP - 1) * quotient.abs())


def _shares(margins: Tensor, apart: Tensor, between: Tensor) -> Tensor:
    """(B, P, Q): shares >= 0 that sum to 1, of own rows in a mixture whose margin is large beside
    the norm of its slope; from the margins (B, P, Q) and the distances of the rows from the rival,
    `apart` (B, P, Q), and from one another, `between` (B, Q, Q).

    With the Gram matrix G of the differences from the rival, shares that are a multiple of the
    x >= 0 that minimizes x.G x / 2 - m.x are the best. It is sought by coordinate descent; what
    shares are worth is proven for whatever comes out.
    """
    squares = apart.square()
    gram = 0.5 * (squares.unsqueeze(3) + squares.unsqueeze(2) - between.square().unsqueeze(1))
    x, own = torch.zeros_like(margins), gram.diagonal(dim1=2, dim2=3).clamp(min=LEAST)
    for _ in range(_N_SWEEPS):
        for i in range(x.shape[2]):
            left = margins[:, :, i] - (gram[:, :, i] * x).sum(dim=2)
            x[:, :, i] = (x[:, :, i] + left / own[:, :, i]).clamp(min=0)
    total = x.sum(dim=2, keepdim=True)
    usable = (total > 0) & total.isfinite()
    return torch.where(usable, x / torch.where(usable, total, 1.0), 1 / x.shape[2])
