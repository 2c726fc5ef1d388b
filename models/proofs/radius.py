"""How far an image can move before the answer of the network changes: a proven radius.

The network runs in float32 or float64, and its rounding differs from image to image. So a radius
accounts for the rounding of the pass on every image within it (`norms.rounding`).
"""

import math
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from models.arguments import check_kind, described, number
from models.blocks.invertible_block import InvertibleBlock
from models.floats.torch_modes import refuse_flushed_denormals, refuse_reduced_products
from models.heads.flat import FlatHead
from models.maps import check_maps, check_not_empty, checked_labels
from models.network.certificate import Certificate
from models.network.iresnet import IResNet, deployed
from models.norms.rounding import Running
from models.proofs.rivals import Rivals
from models.proofs.surroundings import Surroundings

# The precisions whose rounding is known.
_DTYPES = (torch.float32, torch.float64)
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
    over mixtures of rows of the label. Where all blocks are potential blocks with ReLU and the head
    is linear, a quotient gives way to what is proven of the network around this image alone, if
    that is farther (`surroundings`).

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
    """`certified_radius`, with the logits that it speaks of.

    >>> answers = models.certified_answers(model, images, labels, certificate)
    >>> answers.logits.shape, bool((answers.radii < answers.unrounded).all())
    (torch.Size([4, 2]), True)
    """
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
    around = None
    if box is None and model.blocks and isinstance(head, FlatHead):
        around = Surroundings.of(model, images, certificate.blocks)
    rivals = Rivals(
        scores.double(), labels, between, slopes, of_features, n_rows, scale, x, box, around
    )
    # No farther than without rounding, or than from one corner of the box of images to another.
    farthest = math.prod(model.in_shape) ** 0.5
    unrounded = rivals.radii().clamp(max=farthest)
    spread = scale * unrounded.clamp(min=0)
    if around is not None and images.dtype == torch.float64:
        running = around.after(spread)
    else:
        running = _after_body(model, images, spread, certificate)
    # The classifier's own rounding, at features with the rounding of the body.
    of_scores = head.rounding(classifier, running.as_input())
    radii = rivals.radii(running.error, of_scores).minimum(unrounded)
    return CertifiedAnswers(radii, unrounded, head.logits(classifier, scores))


def _after_body(
    model: IResNet, images: Tensor, spread: Tensor, certificate: Certificate
) -> Running:
    """The state of a forward pass after the body, for all inputs within `spread` of the images."""
    running, blocks = Running(images, spread, torch.zeros_like(spread)), iter(certificate.blocks)
    for module in model.body:
        if isinstance(module, InvertibleBlock):
            running = module.after(running, next(blocks).map_lipschitz_upper_bound)
        else:
            running = replace(running, value=module(running.value))
    return running


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
