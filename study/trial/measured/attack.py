"""An attack to set beside the proof: whether answers that are proven to stay do so."""

import math

import torch

from models import Certificate, IResNet, attacked, certified_radius
from study.config.trial import TrialConfig
from study.metrics.definitions import ATTACKED_ACCURACY
from study.trial.data.tensors import OFFSET, Split, normalized
from study.trial.measured.evaluation import in_precision

# Number of test images that are attacked: the first ones.
N_ATTACKED = 200


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
    # Both attacks at once: small networks take as long for twice as many images.
    most = torch.tensor([math.inf if trial.data.is_table else -OFFSET, math.inf])
    most = most.repeat_interleave(len(labels))
    twice, labels_twice = images.repeat(2, 1, 1, 1), labels.repeat(2)
    # Without targets, as in earlier versions, whose figures are measured again to verify them.
    sought = attacked(model, twice, labels_twice, radius, box=(-most, most), n_targets=0)
    found = sought.images.to(dtype)
    with torch.no_grad():
        logits = in_precision(model, trial.precision)(found)
    is_right = (logits.argmax(dim=1) == labels_twice) & logits.isfinite().all(dim=1)
    is_right = is_right.view(2, -1).all(dim=0)
    broken = ((radii > radius) & ~is_right).nonzero().flatten().tolist()
    if broken:
        raise BrokenProofError(
            f"{ATTACKED_ACCURACY}: test image {broken[0]} is proven to keep its answer within "
            f"{radii[broken[0]]:.4g}, but does not within {radius:g}"
        )
    return int(is_right.sum()) / len(labels)
