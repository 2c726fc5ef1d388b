"""How far an image can move before the answer of the network changes: a proven radius.

The network runs in float32 or float64, and its rounding differs from image to image. So a radius
accounts for the rounding of the pass on every image within it (`norms.rounding`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from models.arguments import check_kind, described, number
from models.blocks.invertible_block import InvertibleBlock
from models.floats.norm import scaled_norm
from models.floats.raised import LEAST, UP
from models.floats.torch_modes import refuse_flushed_denormals, refuse_reduced_products
from models.heads.flat import FlatHead
from models.maps import check_maps, check_not_empty, checked_labels
from models.network.certificate import Certificate
from models.network.iresnet import IResNet, deployed
from models.norms.rounding import ROOM, Running
from models.proofs.box import distances_within

# The precisions whose rounding is known.
_DTYPES = (torch.float32, torch.float64)
# For how many rivals the best of a class's rows is sought, and a mixture of how many of them.
_N_RIVALS, _N_OWN, _N_SWEEPS = 8, 8, 20
# The same with a box, in which other rivals may be the nearest, and images at a time.
_N_IN_BOX, _AT_ONCE = 16, 100
# A bound, relative, of what rounding takes from a sum of so many float64 numbers.
_OF_SUM = 2.0**-45
# By how much, relative, rounding may spread pixels beyond their scale.
_OF_ROUNDING = 1e-3


def certified_radius(
    model: IResNet,
    images: Tensor,
    labels: Tensor,
    certificate: Certificate,
    *,
    scale: float = 1.0,
    box: tuple[float, float] | None = None,
) -> Tensor:
    """Proven radii (B,), float64, l2, in pixels of [0, 1]: for every image within the radius, the
    label's logit alone is the largest. Where it is negative or zero nothing is proven: the answer
    is wrong, or right by less than rounding. None exceeds the diagonal of the box of all images.

    With the logits z and the label y, a radius is the smallest over the other classes j of the
    margin z_y - z_j, less the rounding at this image and at the moved one, divided by the bound of
    Lip(z_y - z_j) as a function of the pixels. Where a class has several rows, whose largest score
    is its logit, it is the smallest over the rows of other classes of the largest such quotient
    over mixtures of rows of the label.

    Args:
        model: in eval mode.
        images: float32 or float64 (B, C, H, W), B >= 1, as the network takes them: pixels times a
            factor, plus an offset, of each channel, for pixels in [0, 1]. With float64 images and
            float32 weights, the proof is of the network in float64, `deployed(model).double()`.
        labels: whole numbers (B,), from 0 to n_classes - 1.
        certificate: of this network, by `certify`.
        scale: > 0, finite, the largest of these factors.
        box: (low, high), the values of pixels 0 and 1, for a network without blocks whose head is
            linear: the radii are then larger, and hold for images in the box alone, whose every
            pixel is from 0 to 1.

    The proof covers answers that are computed as they are here: without autocast, and in float32
    with products in full, which torch calls "ieee". TF32, torch's default for convolutions on GPUs,
    and bfloat16 round by far more (`floats.torch_modes`). In float64 no setting matters.

    Raises:
        TypeError: if an argument is of the wrong type.
        ValueError: if the certificate is of another network, or `certify` would refuse this one; if
            images, labels, scale or box break a rule above, or a channel of an image spreads over
            more than `scale`, so that its pixels cannot lie in [0, 1]; under autocast, with float32
            images where products may be in TF32 or bfloat16, or if denormal numbers are flushed.
        RuntimeError: if the model is in training mode.
    """
    return certified_answers(model, images, labels, certificate, scale=scale, box=box).radii


class CertifiedAnswers(NamedTuple):
    """Logits (B, K), in the dtype of the images; None for a classifier without known bounds, which
    does not run. Their `radii` (B,), as of `certified_radius`; and those that exact arithmetic
    would give, which are no proof of a network that rounds."""

    radii: Tensor
    unrounded: Tensor
    logits: Tensor | None


@torch.no_grad()
def certified_answers(
    model: IResNet,
    images: Tensor,
    labels: Tensor,
    certificate: Certificate,
    *,
    scale: float = 1.0,
    box: tuple[float, float] | None = None,
) -> CertifiedAnswers:
    """`certified_radius`, with the logits that it speaks of."""
    check_kind("certificate", certificate, Certificate)
    certificate.check(model, IResNet)
    certificate.check_classifier(model)
    if model.training:
        raise RuntimeError("certified_radius needs eval mode; call model.eval() first")
    scale = _checked_scale(scale)
    _check_images(images, model, scale)
    if box is not None:
        box = _checked_box(box, images, model)
    refuse_flushed_denormals()
    refuse_reduced_products(images)
    of_logits = torch.tensor(certificate.logit_difference_bounds, dtype=torch.float64)
    n_classes = len(of_logits) or model.n_classes
    labels = checked_labels(labels, len(images), n_classes).to(images.device)
    if not of_logits.numel():
        nothing = torch.full((len(images),), -math.inf, dtype=torch.float64)
        return CertifiedAnswers(nothing, nothing, None)
    if any(parameter.dtype != images.dtype for parameter in model.parameters()):
        model = deployed(model).to(images.dtype)
    head, classifier = model.head, model.classifier
    between = head.score_bounds(classifier, of_logits).to(images.device)
    scores = head.scores(classifier, model.features(images))
    of_features = scale * certificate.features_lipschitz_upper_bound
    slopes = partial(head.mixture_slopes, classifier)
    n_rows, x = len(between) // n_classes, images.double().flatten(1)
    rivals = _Rivals(scores.double(), labels, between, slopes, of_features, n_rows, x, box)
    # No farther than without rounding, or than from one corner of the box of images to another.
    farthest = math.prod(model.in_shape) ** 0.5
    unrounded = rivals.radii().clamp(max=farthest)
    spread = scale * unrounded.clamp(min=0)
    running = Running(images, spread, torch.zeros_like(spread))
    blocks = iter(certificate.blocks)
    for module in model.body:
        if isinstance(module, InvertibleBlock):
            running = module.after(running, next(blocks).map_lipschitz_upper_bound)
        else:
            running = replace(running, value=module(running.value))
    # The classifier's own rounding, at features with the rounding of the body.
    of_scores = head.rounding(classifier, running.as_input())
    radii = rivals.radii(running.error, of_scores).minimum(unrounded)
    return CertifiedAnswers(radii, unrounded, head.logits(classifier, scores))


@dataclass(frozen=True)
class _Rivals:
    """The rows of a head that compete for B images.

    Attributes:
        scores: float64 (B, N), of the rows.
        labels: int64 (B,).
        between: float64 (N, N), bounds of Lip(s_i - s_j) by the features, for scores s.
        slopes: `Head.mixture_slopes` of the classifier.
        of_features: bound of the Lipschitz constant of the features by the pixels.
        n_rows: the number of rows of each class.
        x: float64 (B, D), the images.
        box: (low, high), which every image in question keeps, if that counts. Then features are
            images.
    """

    scores: Tensor
    labels: Tensor
    between: Tensor
    slopes: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, float]]
    of_features: float
    n_rows: int
    x: Tensor
    box: tuple[float, float] | None

    def radii(self, of_body: Tensor | None = None, of_scores: Tensor | None = None) -> Tensor:
        """(B,): the radii, given what rounding takes from features (B,) and scores (B, N), l2.

        A label is safe from a rival row as long as one of its own rows has a larger score, and so
        as long as a mixture of their scores, with shares that sum to 1, is larger. Which row or
        mixture lasts longest is sought for the rivals that come nearest to the own row of the
        largest score; against all others that row stands for its class.
        """
        device = self.labels.device
        own = self.labels.unsqueeze(1) * self.n_rows + torch.arange(self.n_rows, device=device)
        best = own.gather(1, self.scores.gather(1, own).argmax(dim=1, keepdim=True))
        everyone = torch.arange(len(self.between), device=device).expand(len(own), -1)
        nearest = self._quotients(best, everyone, of_body, of_scores).scatter(1, own, math.inf)
        most = _N_RIVALS if self.box is None else _N_IN_BOX
        n_sought = min(most, len(self.between) - self.n_rows)
        if (self.n_rows == 1 and self.box is None) or n_sought == 0:
            return nearest.amin(dim=1)
        distances, rivals = nearest.topk(n_sought + 1, dim=1, largest=False)
        longest, rivals = distances[:, :-1], rivals[:, :-1]
        for row in own.split(1, dim=1):
            longest = longest.maximum(self._quotients(row, rivals, of_body, of_scores))
        largest = own.gather(1, self.scores.gather(1, own).topk(min(_N_OWN, self.n_rows)).indices)
        longest = longest.maximum(self._mixed(largest, rivals, of_body, of_scores))
        return longest.amin(dim=1).minimum(distances[:, -1])

    def _mixed(
        self, own: Tensor, rivals: Tensor, of_body: Tensor | None, of_scores: Tensor | None
    ) -> Tensor:
        """(B, P): distances, rounded down, within which a mixture of own rows (B, Q) of each image
        keeps a larger score than each of its rivals (B, P)."""
        pairs = [self._margin(row, rivals, of_body, of_scores) for row in own.split(1, dim=1)]
        margins = torch.stack([margin for margin, _ in pairs], dim=2)
        apart = torch.stack([between for _, between in pairs], dim=2)
        shares = _shares(margins, apart, self.between[own.unsqueeze(2), own.unsqueeze(1)])
        # Less what this sum rounds.
        margin = (shares * (margins - _OF_SUM * margins.abs())).sum(dim=2)
        parts = (t.split(_AT_ONCE) for t in (self.x, margin, own, rivals, shares))
        return torch.cat(
            [
                self._beyond(x, of_images, *self.slopes(*mixture))
                for x, of_images, *mixture in zip(*parts, strict=True)
            ]
        )

    def _beyond(self, x: Tensor, margin: Tensor, slopes: Tensor, off: float) -> Tensor:
        """(B, P): distances in pixels, rounded down, within which mixtures keep their margins
        (B, P), for slopes (B, P, D) that are off by `off`."""
        norms = (scaled_norm(slopes.flatten(0, 1)).view_as(margin) + off) * UP
        distances = self._quotient(margin, norms.clamp(min=LEAST))
        if self.box is None:
            return distances
        # No image of the box is farther than its diagonal.
        margin = margin - off * (self.box[1] - self.box[0]) * x.shape[1] ** 0.5
        within = distances_within(x, self.box, slopes, margin) / self.of_features / UP
        return distances.maximum(torch.where(margin > 0, within, -math.inf))

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


def _checked_scale(scale: object) -> float:
    found = number("scale", scale)
    if not 0 < found < math.inf:
        raise ValueError(f"scale must be positive and finite, but got scale={found}")
    return found


def _checked_box(box: object, images: Tensor, model: IResNet) -> tuple[float, float]:
    check_kind("box", box, tuple)
    low, high = (number("box", side) for side in cast(tuple[Any, Any], box))
    if len(model.body) > 0 or not isinstance(model.head, FlatHead):
        raise ValueError("box must be None unless the network has no blocks and a linear head")
    if not (low < high and low <= images.min() and images.max() <= high):
        raise ValueError(
            f"images must lie in the box, but got box={low:g} to {high:g} and images "
            f"from {images.min():g} to {images.max():g}"
        )
    return low, high


def _check_images(images: Tensor, model: IResNet, scale: float) -> None:
    check_maps("images", images, model.in_shape, next(model.parameters(), None))
    check_not_empty("images", images)
    if images.dtype not in _DTYPES:
        raise ValueError(f"images must be float32 or float64, but got {described(images)}")
    if any(parameter.dtype == torch.float64 != images.dtype for parameter in model.parameters()):
        # Rounded to float32, the weights would not be the certified ones.
        raise ValueError(f"images must be float64, as weights are, but got {described(images)}")
    low, high = images.amin(dim=(2, 3)), images.amax(dim=(2, 3))
    spread = (high - low).nan_to_num(nan=0.0)  # of pixels that are not finite no radius is proven
    if bool((spread > scale * (1 + _OF_ROUNDING)).any()):
        worst = spread.flatten().argmax()
        raise ValueError(
            "images must be pixels of [0, 1] times at most scale, plus an offset of each channel, "
            f"but got scale={scale:g} and a channel with values from {low.flatten()[worst]:g} to "
            f"{high.flatten()[worst]:g}"
        )
