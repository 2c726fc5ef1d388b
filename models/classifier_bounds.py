"""Proven Lipschitz bounds of the differences of a classifier's logits by its features."""

import math

import torch
from torch import Tensor, nn

from models.activations import ACTIVATIONS
from models.body_layers import (
    check_activation,
    check_parts,
    product_or_nan,
    scale_of_batch_norm,
)
from models.forward_pass import refuse_more
from models.iresnet import GlobalAveragePool
from models.raised import LEAST, UP

# Rows of the last layer whose differences to all others are held at a time.
_ROWS = 64


@torch.no_grad()
def logit_difference_bounds(
    classifier: nn.Module, shape: tuple[int, int, int], training: bool
) -> Tensor:
    """Bounds (K, K), float64, l2, of the Lipschitz constants of z_i - z_j by features of `shape`
    (C, H, W), for the K logits z of a classifier in eval mode; zero for i = j.

    The classifier is a Sequential of BatchNorms and activations, then the mean over pixels or all
    of them as channels, then a linear layer. An activation with slopes in [0, 1] acts between two
    points as a diagonal matrix Q with entries in [0, 1]. With the factors s of the BatchNorms,
    z_i - z_j therefore changes by at most the l2 norm of the gradient where all entries of all Q
    are 1:

        sqrt(sum_c ((w_ic - w_jc) s_c)^2 / (H W))     with the mean over pixels,
        sqrt(sum_c ((w_ic - w_jc) s_c)^2)             with a channel for each of them.

    Raises:
        ValueError: for another classifier, or numbers that are not finite, with the reason.
    """
    if type(classifier) is not nn.Sequential:
        raise ValueError(f"the classifier must be a Sequential, but is a {_kind(classifier)}")
    refuse_more(classifier, "classifier", training)
    channels, height, width = shape
    factors = torch.ones(channels, dtype=torch.float64)
    layers = [(f"classifier.{name}", module) for name, module in classifier._modules.items()]
    for name, module in layers[:-2]:
        if type(module) is nn.BatchNorm2d:
            check_parts(name, module)
            factors = product_or_nan(factors, scale_of_batch_norm(name, module, channels))
        elif type(module) in ACTIVATIONS.values():
            check_activation(name, module)
        else:
            raise ValueError(f"no Lipschitz bound is known for the {_kind(module)} at {name}")
    pool, last = (module for _, module in (layers[-2:] if len(layers) > 1 else [("", None)] * 2))
    if type(pool) not in (GlobalAveragePool, nn.Flatten) or type(last) is not nn.Linear:
        raise ValueError(
            "the classifier must end with a GlobalAveragePool or a Flatten, and a Linear, but ends "
            f"with {_kind(pool)}, {_kind(last)}"
        )
    check_parts(layers[-1][0], last)
    size = (height * width) ** 0.5
    if isinstance(pool, nn.Flatten):
        if (pool.start_dim, pool.end_dim) != (1, -1):
            raise ValueError(f"the Flatten at {layers[-2][0]} must keep samples, but is {pool}")
        factors, size = factors.repeat_interleave(height * width), 1.0
        channels = len(factors)
    weight = last.weight.to("cpu", torch.float64)
    if weight.dim() != 2 or weight.shape[1] != channels:
        raise ValueError(
            f"the Linear at {layers[-1][0]} must take {channels} channels, but has a weight of "
            f"shape {tuple(weight.shape)}"
        )
    if not bool((weight * factors).isfinite().all()):
        raise ValueError(
            "the numbers of the classifier must be finite, and their products neither too large "
            "nor too small for float64, but some are not"
        )
    factors = factors / size
    return torch.cat([_norms(part.unsqueeze(1) - weight, factors) for part in weight.split(_ROWS)])


def _norms(difference: Tensor, factors: Tensor) -> Tensor:
    """Upper bounds (R, K) of the l2 norms of rows (R, K, C), overwritten here, times factors (C,);
    zero for rows of zeros alone, though the squares of small numbers are zero too."""
    is_zero = ~difference.any(dim=2)
    difference *= factors
    largest = torch.linalg.vector_norm(difference, ord=math.inf, dim=2, keepdim=True)
    unit = torch.where((largest > 0) & largest.isfinite(), largest, 1.0)
    difference /= unit
    norms: Tensor = torch.linalg.vector_norm(difference, dim=2) * unit.squeeze(2) * UP
    return norms.clamp(min=LEAST).masked_fill(is_zero, 0.0)


def _kind(module: object) -> str:
    return type(module).__name__
