"""Networks with a smaller coefficient, made of a trained one without training.

Power iteration holds the norm of a layer to its target only nearly. Here every layer is scaled
by its proven bound, so that the certificate holds by construction. The features change, so the
BatchNorm of the classifier gets new statistics.
"""

import copy
import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from models.certification import certify
from models.iresnet import IResNet
from models.spectral_norm import SpectralNormConv2d, update_spectral_norm

_N_ROUNDS = 10


@torch.no_grad()
def project(model: IResNet, coeff: float, images: Iterable[Tensor] | None = None) -> IResNet:
    """Scale every layer, in place, so that its proven bound is at most coeff.

    Layers whose bound is at most coeff already stay as they are. The target of a layer, for
    further training, becomes at most coeff. The weight becomes the effective weight, which sigma,
    an estimate from below, no longer changes.

    Args:
        model: with norm="spectral" or "none"; its mode stays as it is.
        coeff: the largest bound of a layer's Lipschitz constant, l2 to l2, in (0, 1).
        images: batches (B, C, H, W) of training images; labels are not needed. The running
            statistics of the classifier's BatchNorm become their averages. With None they
            stay, and the accuracy usually falls far.

    Returns:
        The model.

    Raises:
        ValueError: if coeff is out of range, a weight is not finite, or the residual blocks
            hold a BatchNorm, whose factor follows the data.
    """
    if not 0 < coeff < 1:
        raise ValueError(f"0 < coeff < 1 must hold, but got coeff={coeff}")
    if any(isinstance(module, nn.BatchNorm2d) for module in model.body.modules()):
        raise ValueError("project needs residual blocks without BatchNorm, but got norm=batch")
    modules = dict(model.named_modules(remove_duplicate=False))
    # The second round corrects the rounding of the scaled weights to their own precision.
    for n_round in range(_N_ROUNDS):
        above = [layer for layer in certify(model).layers if layer.upper_bound > coeff]
        if not above:
            break
        if any(layer.upper_bound == math.inf for layer in above):
            raise ValueError("project needs finite weights, but got some that are not")
        for layer in above:
            module = modules[layer.name]
            assert isinstance(module, SpectralNormConv2d | nn.Conv2d)
            weight = module.weight
            # A little below, and more each time, lest rounding undo it.
            margin = 2**n_round * max(1e-6, 2 * torch.finfo(weight.dtype).eps)
            if isinstance(module, SpectralNormConv2d):
                weight = module.effective_weight()
                module.coeff = min(module.coeff, coeff)
            module.weight.copy_(weight * (coeff / layer.upper_bound * (1 - margin)))
        changed = (modules[layer.name] for layer in above)
        update_spectral_norm([m for m in changed if isinstance(m, SpectralNormConv2d)], 1)
    else:
        raise RuntimeError(f"no scaling brought every layer to at most {coeff}")
    if images is not None:
        recompute_batch_norm(model, images)
    return model


@torch.no_grad()
def deployed(model: IResNet) -> IResNet:
    """A copy in plain convolutions, each with the effective weight of now: the same function in
    eval mode, bit for bit, in which no sigma stands between the weights and the map.

    It has the layers of a network with norm="none", and loads into one.
    """
    plain = copy.deepcopy(model)
    for parent in list(plain.body.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SpectralNormConv2d):
                setattr(parent, name, child.deployed())
    return plain


@torch.no_grad()
def recompute_batch_norm(model: IResNet, images: Iterable[Tensor]) -> None:
    """Set the running statistics of the classifier's BatchNorm to those of images: the mean,
    over the batches, of each batch's mean and variance.

    Args:
        model: its mode stays as it is.
        images: one or more batches (B, C, H, W), B >= 2, best of one size.

    Raises:
        ValueError: if there is no batch.
    """
    (batch_norm,) = (m for m in model.classifier if isinstance(m, nn.BatchNorm2d))
    modes, momentum = [(m, m.training) for m in model.modules()], batch_norm.momentum
    model.eval()
    batch_norm.reset_running_stats()
    batch_norm.momentum = None  # the plain average over all batches
    batch_norm.train()
    try:
        n_batches = 0
        for batch in images:
            batch_norm(model.features(batch))
            n_batches += 1
    finally:
        batch_norm.momentum = momentum
        for module, mode in modes:
            module.training = mode
    if n_batches == 0:
        raise ValueError("recompute_batch_norm needs one or more batches, but got none")
