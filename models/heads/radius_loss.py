"""The loss on proven radii, for a head whose Lipschitz constant is known during training."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from models.heads.head import Loss

TEMPERATURE = 0.1
"""The default for how far from the margin radii still count, l2, in pixels of [0, 1]."""


def head_loss(margin: float | None, temperature: float, lipschitz: float) -> Loss:
    """The `margin_loss` of the signed proven radii, without rounding, for features with the
    Lipschitz constant `lipschitz` as functions of pixels of [0, 1]; without a margin, the cross
    entropy. Raises ValueError unless margin and temperature are above 0."""
    for name, value in (("margin", margin), ("temperature", temperature)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} > 0 must hold, but got {value}")
    if margin is None:
        return lambda radii, logits, labels: F.cross_entropy(logits, labels)

    def loss(radii: Callable[[float], Tensor], logits: Tensor, labels: Tensor) -> Tensor:
        return margin_loss(radii(lipschitz), margin, temperature)

    return loss


def margin_loss(of_pairs: Tensor, margin: float | Tensor, temperature: float | Tensor) -> Tensor:
    """The mean over images of t log(1 + sum_j exp((margin - r_j) / t)), with t the temperature, it
    and the margin a number or each image's own (B, 1), and of_pairs (B, P) the signed radii r_j
    against each rival j, infinite for one that is none: about by how much the smallest radius falls
    short of the margin, in pixels of [0, 1].

    >>> models.margin_loss(torch.tensor([[0.2, 1.0]]), margin=0.5, temperature=0.01)
    tensor(0.3000)
    """
    short = (margin - of_pairs) / temperature
    # log(1 + ...): beside the shortfalls stands a 0.
    return (temperature * torch.logsumexp(F.pad(short, (1, 0)), dim=1, keepdim=True)).mean()


def radii_of_classes(logits: Tensor, labels: Tensor, slopes: Tensor, lipschitz: float) -> Tensor:
    """(B, K): the radii of `Head.radii` against each class, infinite for the label itself, of a
    head whose Lip(z_i - z_j) by the features are `slopes` (K, K)."""
    of_label = labels.unsqueeze(1)
    margins = (logits.gather(1, of_label) - logits) / (lipschitz * slopes[labels])
    return margins.scatter(1, of_label, math.inf)


def pair_distances(weight: Tensor) -> Tensor:
    """(K, K): estimates of Lip(z_i - z_j) by the features f, for logits z = W f + b with `weight`
    W (K, D): exact but for rounding, which is as large as distances far below the largest."""
    # Distances stay the same, and products round less.
    centred = weight - weight.mean(dim=0)
    products = centred @ centred.T
    squares = products.diagonal()
    # The root has no slope at 0, where a class meets itself.
    return (squares.unsqueeze(1) + squares - 2 * products).clamp(min=1e-20).sqrt()
