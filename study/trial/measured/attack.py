"""An attack to set beside the proof: it searches near each image for one that is classified wrong.

Projected gradient descent (Madry et al. 2018) in the l2 ball around each image. The accuracy under
attack is an upper bound on the robust accuracy, as certified radii give a lower bound.
"""

import torch
from torch import Tensor

from models import Certificate, IResNet, certified_radius
from study.config.trial import TrialConfig
from study.metrics.definitions import ATTACKED_ACCURACY
from study.trial.data.tensors import Split, normalized
from study.trial.measured.evaluation import in_precision

# Number of test images that are attacked: the first ones.
N_ATTACKED = 200
# Steps of an attack, and the largest number of starts.
_N_STEPS, _N_STARTS = 50, 5
# The length of a step, in units of radius / _N_STEPS: above 2, so that any point of the ball can be
# reached from any other.
_STEP = 2.5


class BrokenProofError(RuntimeError):
    """An attack changed an answer that is proven not to change: the proof or its code is wrong."""


def attacked_accuracy(
    model: IResNet, test: Split, trial: TrialConfig, certificate: Certificate
) -> float:
    """The fraction in [0, 1] of the first N_ATTACKED test images that are classified right and stay
    so under attacks within the trial's radius, l2: one attack keeps pixels in [0, 1], one does not.
    Points are sought in the precision of the model, and answered in that of the trial's evaluation.
    Raises BrokenProofError if an attack succeeds at an image with a larger proven radius."""
    radius, dtype = trial.radius, getattr(torch, trial.precision)
    images, labels = normalized(test.images[:N_ATTACKED]), test.labels[:N_ATTACKED]
    radii = certified_radius(model, images.to(dtype), labels, certificate)
    in_box = torch.tensor([not trial.data.is_table, False], device=labels.device).repeat_interleave(
        len(labels)
    )
    # Both attacks at once: small networks take as long for twice as many images.
    twice, labels_twice = images.repeat(2, 1, 1, 1), labels.repeat(2)
    found = attacked(model, twice, labels_twice, radius, in_box=in_box).to(dtype)
    with torch.no_grad():
        is_right = _stays(in_precision(model, trial.precision)(found), labels_twice)
    is_right = is_right.view(2, -1).all(dim=0)
    # Points of the attack are in the ball up to their rounding.
    broken = ((radii > radius * (1 + 1e-5)) & ~is_right).nonzero().flatten().tolist()
    if broken:
        raise BrokenProofError(
            f"{ATTACKED_ACCURACY}: test image {broken[0]} is proven to keep its answer within "
            f"{radii[broken[0]]:.4g}, but does not within {radius:g}"
        )
    return int(is_right.sum()) / len(labels)


def withstands(
    model: IResNet, images: Tensor, labels: Tensor, radius: float, *, in_box: bool | Tensor
) -> Tensor:
    """Which images (B, C, H, W) are classified right and stay so under the attack: bool (B,)."""
    found = attacked(model, images, labels, radius, in_box=in_box)
    with torch.no_grad():
        return _stays(model(found), labels)


def attacked(
    model: IResNet, images: Tensor, labels: Tensor, radius: float, *, in_box: bool | Tensor
) -> Tensor:
    """A point within the radius of each image (B, C, H, W) that the model classifies wrong, as far
    as the attack finds one, and the image itself otherwise: (B, C, H, W).

    Each start ascends the gradient of the margin of the best wrong class, in steps of fixed length.
    The first starts at the image, the others at random in the ball. `in_box`, also bool (B,),
    clamps all points to valid pixels. Images whose answer changes drop out. From the second on, a
    start that changes no answer is the last.
    """
    generator, found = torch.Generator().manual_seed(0), images.clone()
    is_right = torch.ones(len(labels), dtype=torch.bool, device=labels.device)
    clamped = torch.as_tensor(in_box, device=labels.device).expand(len(labels)).view(-1, 1, 1, 1)
    n_before = -1
    for start in range(_N_STARTS):
        rows = is_right.nonzero().squeeze(1)
        if len(rows) == 0 or (start > 1 and len(rows) == n_before):
            break
        n_before = len(rows)
        moved = torch.randn(images[rows].shape, generator=generator).to(images)
        length = radius * torch.rand(len(rows), generator=generator).to(images)
        moved = moved * (length / _norm(moved)).view(-1, 1, 1, 1) if start > 0 else moved * 0
        for step in range(_N_STEPS + 1):
            at = (images[rows] + moved).detach()
            # Valid as `normalized` gives them; no point moves away from an image in the box.
            at = torch.where(clamped[rows], at.clamp(-0.5, 0.5), at)
            at.requires_grad_()
            logits = model(at)
            of_label = logits.gather(1, labels[rows].unsqueeze(1)).squeeze(1)
            others = logits.scatter(1, labels[rows].unsqueeze(1), -torch.inf).amax(dim=1)
            loss = others - of_label
            stays = _stays(logits, labels[rows])
            is_right[rows] = stays
            found[rows[~stays]] = at.detach()[~stays]
            if step == _N_STEPS or not bool(stays.any()):
                break
            (slope,) = torch.autograd.grad(loss[stays].sum(), at)
            rows, slope = rows[stays], slope[stays]
            size = _norm(slope).clamp(min=torch.finfo(slope.dtype).tiny).view(-1, 1, 1, 1)
            moved = at.detach()[stays] - images[rows] + slope / size * (_STEP * radius / _N_STEPS)
            moved = moved * (radius / _norm(moved).clamp(min=radius)).view(-1, 1, 1, 1)
    return found


def _stays(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether the classifier decides for the label: bool (B,). Logits that are not finite count as
    wrong."""
    return (logits.argmax(dim=1) == labels) & logits.isfinite().all(dim=1)


def _norm(x: Tensor) -> Tensor:
    """The l2 norm of each sample: (B,)."""
    norm: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return norm
