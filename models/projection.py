"""Networks with a smaller bound, made of a trained one without training.

Layers are scaled by what is proven of them, so the certificate holds by construction. The features
change, so the classifier is adapted (`classifier_fit`). The proof of the body says nothing of it.

The bound does not depend on which layer of a block is scaled, but the network does. With only the
last layer scaled and biases kept, a block is x + s g(x) + b: a step of an ODE solver with a smaller
step size (paper, equation 1). That keeps most of the accuracy that scaling every layer loses.
"""

import copy
import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from models.block import Block, BlockError
from models.certificate import Certificate
from models.certification import certify, with_classifier
from models.classifier_fit import (
    as_batches,
    batch_norm_of,
    check_fitted,
    fit_to_labels,
    fit_to_logits,
    has_batch_norm,
    labels_for,
    last_layer,
)
from models.inputs import check_kind, count, number
from models.iresnet import IResNet
from models.linear_head import TEMPERATURE, head_loss
from models.potential_block import PotentialBlock
from models.spectral_norm import SpectralNormConv2d

_N_ROUNDS = 10
# By how much more a block of another author is scaled, against the rounding of its own scaling.
_OWN_MARGIN = 1e-5
# How much more than `factor` times what it was, relative, the bound of such a block may be after
# `scale(factor)`: the rounding of its own scaling.
_OWN_ROOM = 1e-3


@torch.no_grad()
def project(
    model: IResNet,
    coeff: float | None = None,
    images: Tensor | Iterable[Tensor] | None = None,
    *,
    lipschitz: float | None = None,
    certificate: Certificate | None = None,
    labels: Tensor | None = None,
    margin: float | None = None,
    temperature: float = TEMPERATURE,
    seed: int = 0,
) -> Certificate:
    """Scale layers, in place, until the proven bounds are small enough.

    Layers that need no scaling stay as they are, and so do the biases of bottlenecks. A scaled
    layer's weight becomes
    its effective weight, and its target, for further training, at most its new bound. If an error
    is raised, the model is unchanged.

    Args:
        model: with norm="spectral" or "none"; its mode stays as it is.
        coeff: the largest bound of each layer's Lipschitz constant, l2 to l2, in (0, 1); the
            paper's sense of c; for a potential block that of Lip(g). Every layer above it is
            scaled.
        images: training images, (B, C, H, W) or batches of such, without labels. They are read once
            and kept. If a layer is scaled, the running statistics of the classifier's BatchNorm, if
            it has one, become their averages, and its last layer is fitted to the logits that they
            had. With None both stay, and the accuracy usually falls far.
        lipschitz: in place of coeff the largest bound of each residual block's Lip(g), l2 to l2, in
            (0, 1), by `certify`. Of a block above it the last convolution alone is scaled.
        certificate: of the model as given, if at hand: by `certify` with effort="full".
        labels: int64 (B,), of all images in order. With them a linear classifier, of
            head="lipschitz", is not fitted to its former logits, which makes its slope as much
            larger as features get smaller, but to the labels: what the ladder of a study does.
        margin: > 0, of the loss of that fit, l2, in pixels of [0, 1]: by how much the proven radii
            fall short of it, softly, for images that are pixels plus an offset. None takes the
            cross entropy.
        temperature: > 0, in pixels of [0, 1]: how far from the margin radii still count.
        seed: of the batches of that fit.

    Returns:
        What is proven of the model then: `certify(model)`.

    Raises:
        TypeError: if an argument is of another kind.
        ValueError: if not one of coeff and lipschitz is given, or it is out of range or too small
            for the weights' precision, a weight is not finite, the certificate is of other weights
            or of less effort, or the residual blocks hold a BatchNorm, whose factor follows the
            data; if a block of another author defines no `scale`, or its bound does not follow it
            (BlockError); if images is empty, the classifier is that of no `head`, labels are not
            one for each image or of another head, or what is fitted is not finite.
        RuntimeError: if a tensor of the model, such as an expanded one, cannot be written in place.
    """
    check_kind("model", model, IResNet)
    if (coeff is None) == (lipschitz is None):
        raise ValueError(
            f"one of coeff and lipschitz must be given, but got coeff={coeff}, "
            f"lipschitz={lipschitz}"
        )
    name, given, factors = (
        ("coeff", coeff, _factors_of_layers)
        if lipschitz is None
        else ("lipschitz", lipschitz, _factors_of_blocks)
    )
    assert given is not None
    target = number(name, given)
    if not 0 < target < 1:
        raise ValueError(f"0 < {name} < 1 must hold, but got {name}={target}")
    if not all(module.is_scalable for module in model.body if isinstance(module, Block)):
        raise ValueError("project needs blocks that define `scale`, but got one that does not")
    if any(isinstance(module, nn.BatchNorm2d) for module in model.body.modules()):
        raise ValueError("project needs residual blocks without BatchNorm, but got norm=batch")
    batches = None if images is None else as_batches(images)
    if certificate is not None:
        check_kind("certificate", certificate, Certificate)
    if batches is not None:
        # Fail before the certificate, which takes long.
        if has_batch_norm(model):
            batch_norm_of(model)
        last_layer(model)
    if labels is not None:
        labels = labels_for(model, batches, labels)
        seed = count("seed", seed, 0)
        margin = None if margin is None else number("margin", margin)
        temperature = number("temperature", temperature)
        head_loss(margin, temperature, 1.0)  # refuses what it cannot be of
    if certificate is None:
        certificate = certify(model)
    elif certificate.effort != "full":
        raise ValueError(f"the certificate must be of effort=full, but is of {certificate.effort}")
    else:
        certificate.check(model, IResNet)
    # Nothing of the model is changed before all is done.
    projected = copy.deepcopy(model)
    for n_round in range(_N_ROUNDS):
        if any(block.layer_product == math.inf for block in certificate.blocks):
            raise ValueError("project needs finite weights, but got some that are not")
        by_layer = factors(projected, certificate, target)
        if not by_layer:
            break
        _scale(projected, certificate, by_layer, n_round)
        before, certificate = certificate, certify(projected)
        _check_own_scale(before, certificate, by_layer)
    else:
        raise ValueError(
            f"{name} must be large enough for the weights' precision, but no scaling brought "
            f"every bound to at most {name}={target}"
        )
    if n_round > 0:
        if batches is not None:
            if labels is None:
                fit_to_logits(projected, model, batches)
            else:
                loss = head_loss(margin, temperature, certificate.features_lipschitz_upper_bound)
                fit_to_labels(projected, batches, labels, loss, seed)
            check_fitted(projected)
            certificate = with_classifier(certificate, projected)
        _assign(model, projected)
    return certificate


def _assign(model: IResNet, projected: IResNet) -> None:
    """Give a model the tensors and targets of another one with the same modules."""
    tensors = list(model.state_dict().values())
    for tensor in tensors:
        tensor.copy_(tensor.clone())  # torch refuses some, before any has another value
    # In one call, so that a signal leaves no mix of both. An old target changes no map.
    torch._foreach_copy_(tensors, list(projected.state_dict().values()))
    for module, other in zip(model.modules(), projected.modules(), strict=True):
        if isinstance(module, SpectralNormConv2d):
            assert isinstance(other, SpectralNormConv2d)
            module.coeff = other.coeff


def _factors_of_layers(model: IResNet, certificate: Certificate, coeff: float) -> dict[str, float]:
    """Layer -> its scale factor, for the layers that need scaling. A potential block's g has the
    bound |W|^2."""
    modules, factors = _modules(model), {}
    for layer in certificate.layers:
        is_potential = isinstance(modules[layer.name.rpartition(".")[0]], PotentialBlock)
        largest = math.sqrt(coeff) if is_potential else coeff
        if layer.upper_bound > largest:
            factors[layer.name] = largest / layer.upper_bound
    return factors


def _factors_of_blocks(
    model: IResNet, certificate: Certificate, lipschitz: float
) -> dict[str, float]:
    """The same for the last convolution of each block, to which its bound is proportional, or to
    the square of which, in a potential block."""
    modules, factors = _modules(model), {}
    for block in certificate.blocks:
        if block.proven_by is not None and block.upper_bound > lipschitz:
            factors[block.name] = lipschitz / block.upper_bound
        elif block.upper_bound > lipschitz:
            of_block = (x.name for x in certificate.layers if x.name.startswith(f"{block.name}."))
            *_, last = of_block
            ratio = lipschitz / block.upper_bound
            is_potential = isinstance(modules[block.name], PotentialBlock)
            factors[last] = math.sqrt(ratio) if is_potential else ratio
    return factors


def _modules(model: IResNet) -> dict[str, nn.Module]:
    return dict(model.named_modules(remove_duplicate=False))


def _scale(
    model: IResNet, certificate: Certificate, factors: Mapping[str, float], n_round: int
) -> None:
    """Multiply the weights of layers by factors, and set their targets to their new bounds. A
    potential block's bias too: with ReLU, g is then g times the factor's square."""
    modules = _modules(model)
    for block in certificate.blocks:
        if block.name in factors:
            own = modules[block.name]
            assert isinstance(own, Block)
            own.scale(factors[block.name] * (1 - 2**n_round * _OWN_MARGIN))
    for layer in certificate.layers:
        if layer.name not in factors:
            continue
        module, factor = modules[layer.name], factors[layer.name]
        assert isinstance(module, SpectralNormConv2d | nn.Conv2d)
        weight = module.weight
        # A little more, and more in each round, against rounding.
        margin = 2**n_round * max(1e-6, 2 * torch.finfo(weight.dtype).eps)
        if isinstance(module, SpectralNormConv2d):
            weight = module.effective_weight()
            # Rows that stay orthonormal are scaled to their target in any case. How far the norm is
            # above it, where they are not quite orthonormal, stays as it is.
            module.coeff = (
                module.coeff * (factor * (1 - margin))
                if module.orthonormal
                else min(module.coeff, layer.upper_bound * factor)
            )
        module.weight.copy_(weight * (factor * (1 - margin)))
        is_potential = isinstance(modules[layer.name.rpartition(".")[0]], PotentialBlock)
        if is_potential and module.bias is not None:
            module.bias.mul_(factor * (1 - margin))


def _check_own_scale(before: Certificate, after: Certificate, factors: Mapping[str, float]) -> None:
    """Raise BlockError if the bound of another author's block did not follow its `scale`."""
    for old, new in zip(before.blocks, after.blocks, strict=True):
        factor = factors.get(old.name)
        if factor is not None and new.upper_bound > factor * old.upper_bound * (1 + _OWN_ROOM):
            raise BlockError(
                f"bounds().lipschitz of {old.proven_by} at {old.name} must be at most "
                f"{factor:.4g} times {old.upper_bound:.4g} after scale({factor:.4g}), but got "
                f"{new.upper_bound:.4g}"
            )


@torch.no_grad()
def deployed(model: IResNet) -> IResNet:
    """A copy in plain convolutions, each with the effective weight of now: the same function in
    eval mode, bit for bit, in which no sigma stands between the weights and the map. It has the
    layers of a network with norm="none", and loads into one. Blocks of other authors stay. Raises
    TypeError if the model is no IResNet."""
    check_kind("model", model, IResNet)
    plain = copy.deepcopy(model)
    own = {m for block in plain.body if isinstance(block, Block) for m in block.modules()}
    for parent in [module for module in plain.body.modules() if module not in own]:
        for name, child in list(parent.named_children()):
            if isinstance(child, SpectralNormConv2d):
                setattr(parent, name, child.deployed())
    return plain
