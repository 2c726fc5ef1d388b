"""How far an image can move before the answer of the network changes: a proven radius.

The network runs in float32 or float64, and its rounding differs from image to image. So a radius
accounts for the rounding of the pass on every image within it (`norms.rounding`).
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from models.arguments import check_kind, described, number
from models.blocks.invertible_block import InvertibleBlock
from models.floats.raised import LEAST, UP
from models.floats.torch_modes import refuse_flushed_denormals, refuse_reduced_products
from models.maps import check_maps, check_not_empty, checked_labels
from models.network.certificate import Certificate
from models.network.iresnet import IResNet, deployed
from models.norms.rounding import ROOM, Running

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
) -> Tensor:
    """Proven radii (B,), float64, l2, in pixels of [0, 1]: for every image within the radius, the
    label's logit alone is the largest. Where it is negative or zero nothing is proven: the answer
    is wrong, or right by less than rounding. None exceeds the diagonal of the box of all images.

    With the logits z and the label y, a radius is the smallest over the other classes j of the
    margin z_y - z_j, less the rounding at this image and at the moved one, divided by the bound of
    Lip(z_y - z_j) as a function of the pixels.

    Args:
        model: in eval mode.
        images: float32 or float64 (B, C, H, W), B >= 1, as the network takes them: pixels times a
            factor, plus an offset, of each channel, for pixels in [0, 1]. With float64 images and
            float32 weights, the proof is of the network in float64, `deployed(model).double()`.
        labels: whole numbers (B,), from 0 to n_classes - 1.
        certificate: of this network, by `certify`.
        scale: > 0, finite, the largest of these factors.

    The proof covers answers that are computed as they are here: without autocast, and in float32
    with products in full, which torch calls "ieee". TF32, torch's default for convolutions on GPUs,
    and bfloat16 round by far more (`floats.torch_modes`). In float64 no setting matters.

    Raises:
        TypeError: if an argument is of the wrong type.
        ValueError: if the certificate is of another network, or `certify` would refuse this one; if
            images, labels or scale break a rule above, or a channel of an image spreads over more
            than `scale`, so that its pixels cannot lie in [0, 1]; under autocast, with float32
            images where products may be in TF32 or bfloat16, or if denormal numbers are flushed.
        RuntimeError: if the model is in training mode.
    """
    radii, _ = certified_answers(model, images, labels, certificate, scale=scale)
    return radii


@torch.no_grad()
def certified_answers(
    model: IResNet,
    images: Tensor,
    labels: Tensor,
    certificate: Certificate,
    *,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor | None]:
    """`certified_radius`, and the logits (B, K) that it speaks of, in the dtype of the images; None
    for a classifier without known bounds, which does not run."""
    check_kind("certificate", certificate, Certificate)
    certificate.check(model, IResNet)
    certificate.check_classifier(model)
    if model.training:
        raise RuntimeError("certified_radius needs eval mode; call model.eval() first")
    scale = _checked_scale(scale)
    _check_images(images, model, scale)
    refuse_flushed_denormals()
    refuse_reduced_products(images)
    n_classes = len(certificate.logit_difference_bounds) or model.n_classes
    labels = checked_labels(labels, len(images), n_classes).to(images.device)
    between = _between(labels, certificate)
    if between is None:
        return torch.full((len(images),), -math.inf, dtype=torch.float64), None
    of_pixels = _of_pixels(between, certificate, scale)
    if any(parameter.dtype != images.dtype for parameter in model.parameters()):
        model = deployed(model).to(images.dtype)
    logits: Tensor = model(images)
    margin, others = _margin(logits.double(), labels)
    # No farther than without rounding, or than from one corner of the box of images to another.
    farthest = math.prod(model.in_shape) ** 0.5
    spread = scale * _smallest(margin, of_pixels, others).clamp(0, farthest)
    running = Running(images, spread, torch.zeros_like(spread))
    blocks = iter(certificate.blocks)
    for module in model.body:
        if isinstance(module, InvertibleBlock):
            running = module.after(running, next(blocks).map_lipschitz_upper_bound)
        else:
            running = replace(running, value=module(running.value))
    # The classifier's own rounding, at features with the rounding of the body.
    of_logits = model.head.rounding(model.classifier, running.as_input())
    of_label = of_logits.gather(1, labels.unsqueeze(1))
    rounding = between * running.error.unsqueeze(1) + of_label + of_logits
    radii = _smallest(margin - 2 * ROOM * rounding, of_pixels, others).clamp(max=farthest)
    return radii, logits


@torch.no_grad()
def radius_without_rounding(
    logits: Tensor, labels: Tensor, certificate: Certificate, *, scale: float = 1.0
) -> Tensor:
    """The radii (B,), float64, that `certified_radius` would give for logits (B, K) computed in
    exact arithmetic. No proof of a network that rounds; the difference is what rounding costs.

    Args:
        logits: float32 or float64, of the network of the certificate.
        labels: whole numbers (B,), from 0 to K - 1.
        scale: as in `certified_radius`.

    Raises:
        TypeError: if an argument is of the wrong type.
        ValueError: if one breaks a rule above, or K is not the certificate's number of classes.
    """
    check_kind("certificate", certificate, Certificate)
    scale = _checked_scale(scale)
    check_kind("logits", logits, Tensor)
    n_classes = len(certificate.logit_difference_bounds) or logits.shape[-1]
    if logits.dtype not in _DTYPES or logits.dim() != 2 or logits.shape[1] != n_classes:
        raise ValueError(
            f"logits must be float32 or float64 of shape (B, {n_classes}), but got "
            f"{described(logits)}"
        )
    labels = checked_labels(labels, len(logits), n_classes).to(logits.device)
    between = _between(labels, certificate)
    if between is None:
        return torch.full((len(logits),), -math.inf, dtype=torch.float64)
    of_pixels = _of_pixels(between, certificate, scale)
    farthest = math.prod(certificate.in_shape) ** 0.5
    margin, others = _margin(logits.double(), labels)
    return _smallest(margin, of_pixels, others).clamp(max=farthest)


def _between(labels: Tensor, certificate: Certificate) -> Tensor | None:
    """Bounds (B, K) of Lip(z_y - z_j) by the features, for each label y; None if unknown."""
    between = torch.tensor(certificate.logit_difference_bounds, dtype=torch.float64)
    return between.to(labels.device)[labels] if between.numel() else None


def _of_pixels(between: Tensor, certificate: Certificate, scale: float) -> Tensor:
    """(B, K): the bounds of `_between` as functions of the image's pixels."""
    of_pixels = scale * certificate.features_lipschitz_upper_bound * between
    # A product that underflows is no bound of zero.
    return torch.where(between > 0, of_pixels.clamp(min=LEAST), of_pixels)


def _margin(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Returns (margins, others), (B, K) each: z_y - z_j with y the label, and whether j != y."""
    own = labels.unsqueeze(1)
    others = torch.ones_like(logits, dtype=torch.bool).scatter(1, own, False)
    return logits.gather(1, own) - logits, others


def _checked_scale(scale: object) -> float:
    found = number("scale", scale)
    if not 0 < found < math.inf:
        raise ValueError(f"scale must be positive and finite, but got scale={found}")
    return found


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


def _smallest(margin: Tensor, lipschitz: Tensor, others: Tensor) -> Tensor:
    """(B,): the smallest margin / lipschitz where `others` is true, rounded down."""
    quotient = margin / lipschitz
    # Logits that never differ: certified at any radius, or at none.
    quotient = torch.where(lipschitz > 0, quotient, torch.where(margin > 0, math.inf, -math.inf))
    quotient = quotient.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)
    quotient = torch.where(others, quotient, math.inf).amin(dim=1)
    return torch.where(quotient.isinf(), quotient, quotient - (UP - 1) * quotient.abs())
