"""A search near images for some that a network classifies wrong, to set beside a proof.

Projected gradient descent with restarts (Madry et al. 2018), in the l2 ball around each image. The
accuracy that it leaves is an upper bound on the robust accuracy; certified radii give a lower one.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from models.arguments import check_kind, count, number
from models.maps import check_maps, check_not_empty, check_precision, checked_labels
from models.network.iresnet import IResNet, deployed

# Images that are attacked at a time; by how much, relative, points stay inside the ball, more than
# norms in float32 are off; the length of a step, in units of radius / n_steps: above 2, so that any
# point of the ball can be reached from any other.
_AT_ONCE, _INSIDE, _STEP = 500, 1e-6, 2.5


class Attacked(NamedTuple):
    """`found`, bool (B,): whether the network gives `images` (B, C, H, W), which are within the
    radius, another answer than the label. Elsewhere these are the images that were given."""

    found: Tensor
    images: Tensor


@torch.enable_grad()
def attacked(
    model: IResNet,
    images: Tensor,
    labels: Tensor,
    radius: float,
    *,
    scale: float = 1.0,
    box: tuple[float | Tensor, float | Tensor] | None = None,
    n_restarts: int = 4,
    n_targets: int = 4,
    n_steps: int = 50,
    seed: int = 0,
) -> Attacked:
    """Search within a radius of each image for one that is classified wrong. What is found is at
    most the radius away, computed in float64. That nothing is found proves nothing.

    Each start takes n_steps steps of fixed length along the gradient of the margin of the best
    wrong class. The first starts at the image, and n_restarts others at random in the ball, until
    one of these changes no answer of a batch. Then n_targets start at the image, each for one of
    the wrong classes that are the most likely there.

    Args:
        model: in eval mode.
        images: float32 or float64 (B, C, H, W), B >= 1, as for `certified_radius`. With float64
            images the network in float64 is attacked, `deployed(model).double()`.
        labels: whole numbers (B,), from 0 to n_classes - 1. An image that is classified wrong
            itself is found.
        radius: > 0, l2, in pixels of [0, 1], or whatever else `images` are `scale` times.
        scale: > 0, finite, the factor of all channels.
        box: (low, high), the values of pixels 0 and 1, between which all points stay; numbers, or
            Tensors (B,) with infinities for images without a box.

    Raises:
        TypeError: if an argument is of the wrong type.
        ValueError: if one breaks a rule above.
        RuntimeError: if the model is in training mode.
    """
    check_kind("model", model, IResNet)
    if model.training:
        raise RuntimeError("attacked needs eval mode; call model.eval() first")
    check_maps("images", images, model.in_shape, next(model.parameters(), None))
    check_not_empty("images", images)
    if images.dtype == torch.float64:
        model = deployed(model).double()
    check_precision("images", images, next(model.parameters(), None))
    labels = checked_labels(labels, len(images), model.n_classes).to(images.device)
    reach = number("radius", radius) * number("scale", scale)
    if not (0 < reach < math.inf and scale > 0):
        rule = "radius and scale must be positive and finite"
        raise ValueError(f"{rule}, but got radius={radius} and scale={scale}")
    targets = range(min(count("n_targets", n_targets, 0), model.n_classes - 1))
    starts = [None] * (1 + count("n_restarts", n_restarts, 0)) + [*targets]
    n_steps = count("n_steps", n_steps, 1)
    sides = (torch.as_tensor(side).to(images) for side in box or (-math.inf, math.inf))
    low, high = (side.expand(len(images)).view(-1, 1, 1, 1) for side in sides)
    if not bool(((low <= images) & (images <= high)).all()):
        raise ValueError("images must lie in the box, but one does not")
    batches = zip(*(of.split(_AT_ONCE) for of in (images, labels, low, high)), strict=True)
    parts = [_points(model, batch, reach, starts, n_steps, seed) for batch in batches]
    is_wrong, points = map(torch.cat, zip(*parts, strict=True))
    found = is_wrong & (_norm(points.double() - images.double()) <= reach).flatten()
    return Attacked(found, torch.where(found.view(-1, 1, 1, 1), points, images))


def _points(
    model: IResNet,
    batch: tuple[Tensor, ...],
    radius: float,
    starts: Sequence[int | None],
    n_steps: int,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Returns (is_wrong, points) for a batch of (images, labels, low, high): bool (B,), whether the
    network is wrong at the points, (B, C, H, W). The radius is in the units of the images; a start
    is for the wrong class of that rank, None for any."""
    images, labels, low, high = batch
    generator, points = torch.Generator().manual_seed(seed), images.clone()
    tiny, eps = torch.finfo(images.dtype).tiny, torch.finfo(images.dtype).eps
    # Points are rounded, by less than eps times their norm.
    limit = (radius * (1 - _INSIDE) - eps * (_norm(images) + radius)).clamp(min=0)
    is_wrong, n_before = torch.zeros_like(labels, dtype=torch.bool), -1
    for start, rank in enumerate(starts):
        rows = (~is_wrong).nonzero().squeeze(1)
        if len(rows) == 0 or (rank is None and start > 1 and len(rows) == n_before):
            continue
        n_before, is_random = len(rows), rank is None and start > 0
        moved = torch.randn(images[rows].shape, generator=generator).to(images)
        length = torch.rand(len(rows), 1, 1, 1, generator=generator).to(images)
        moved = moved * (limit[rows] * length / _norm(moved)) if is_random else moved * 0
        for step in range(n_steps + 1):
            # No point moves away from an image in the box.
            at = (images[rows] + moved).detach().clamp(low[rows], high[rows]).requires_grad_()
            logits, label = model(at), labels[rows].unsqueeze(1)
            others = logits.scatter(1, label, -math.inf)
            if step == 0 or rank is None:
                rivals = others.topk(1 + (rank or 0)).indices[:, -1:]
            loss = (logits.gather(1, rivals) - logits.gather(1, label)).squeeze(1)
            # Logits that are not finite count as wrong.
            stays = (logits.argmax(dim=1) == labels[rows]) & logits.isfinite().all(dim=1)
            is_wrong[rows] = ~stays
            points[rows[~stays]] = at.detach()[~stays]
            if step == n_steps or not bool(stays.any()):
                break
            (slope,) = torch.autograd.grad(loss[stays].sum(), at)
            rows, rivals, slope = rows[stays], rivals[stays], slope[stays]
            along = slope / _norm(slope).clamp(min=tiny) * (_STEP * radius / n_steps)
            moved = at.detach()[stays] - images[rows] + along
            moved = moved * (limit[rows] / _norm(moved).maximum(limit[rows]).clamp(min=tiny))
    return is_wrong, points


def _norm(x: Tensor) -> Tensor:
    """The l2 norm of each sample: (B, 1, 1, 1)."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True)
    return norm
