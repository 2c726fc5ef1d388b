"""Make networks with smaller bounds from a trained one, without training.

Blocks are scaled according to their proven bounds, so the certificate holds by construction. This
changes the features, so the classifier is fitted to them; the proof of the body does not cover it.
"""

import copy
import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from models.arguments import check_kind, count, number
from models.heads.head import Loss
from models.heads.kinds import HEADS
from models.heads.radius_loss import TEMPERATURE, head_loss
from models.layers.normalized import NormalizedConv2d
from models.maps import checked_labels
from models.network.certificate import Certificate
from models.network.classifier import as_batches, fit_to_labels, in_eval_mode
from models.network.iresnet import IResNet
from models.proofs.certification import certify, with_classifier

_N_ROUNDS = 10


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
    layer's weight becomes its effective weight, and its target for further training becomes at most
    its new bound. If an error is raised, the model is unchanged.

    Args:
        model: with norm="spectral" or "none"; its mode stays as it is.
        coeff: the largest bound of each layer, l2 to l2, in (0, 1): the paper's c; in a potential
            block the largest bound of Lip(g). Every layer above it is scaled.
        images: training images, (B, C, H, W) or batches of such, without labels. They are read once
            and kept. If a layer is scaled, the running statistics of the classifier's BatchNorm, if
            it has one, become those of the new features, and its last layer is fitted to the logits
            that the images had. With None both stay, and the accuracy usually falls far.
        lipschitz: in place of coeff, the largest bound of Lip(g) of each residual block, l2 to l2,
            in (0, 1). In a block above it the last convolution alone is scaled.
        certificate: of the model as given, if at hand: by `certify` with effort="full".
        labels: int64 (B,), of all images in order. With them, a head="lipschitz" is fitted to the
            labels, as a study's ladder does. Fitted to its former logits, its slope would grow by
            as much as the features shrink.
        margin: > 0, l2, in pixels of [0, 1], for images that are pixels plus an offset: the fit to
            labels minimizes by how much the proven radii fall short of it. With None it minimizes
            the cross entropy.
        temperature: > 0, in pixels of [0, 1]: how far from the margin radii still count.
        seed: decides the random batches of that fit.

    Returns:
        The certificate of the model as it is then, equal to `certify(model)`.

    Raises:
        TypeError: if an argument is of the wrong type.
        ValueError: unless exactly one of coeff and lipschitz is given; if it is out of range or too
            small for the weights' precision; if a weight is not finite, the certificate is of other
            weights or of less effort, or blocks hold a BatchNorm, whose factor follows the data; if
            a block of another author defines no `scale`, or its bound does not follow it
            (BlockError); if images is empty, the head is unknown, labels are not one for each image
            or the head takes none, or what is fitted is not finite.
        RuntimeError: if a tensor of the model, such as an expanded one, cannot be written in place.

    >>> models.project(model, lipschitz=0.01, images=images).lipschitz_upper_bound <= 0.01
    True
    """
    check_kind("model", model, IResNet)
    if (coeff is None) == (lipschitz is None):
        raise ValueError(
            f"one of coeff and lipschitz must be given, but got coeff={coeff}, "
            f"lipschitz={lipschitz}"
        )
    name, given = ("coeff", coeff) if lipschitz is None else ("lipschitz", lipschitz)
    assert given is not None
    target = number(name, given)
    if not 0 < target < 1:
        raise ValueError(f"0 < {name} < 1 must hold, but got {name}={target}")
    for block in model.blocks:
        missing = block.why_not_scalable()
        if missing is not None:
            raise ValueError(f"project needs {missing}")
    batches = None if images is None else as_batches(images)
    if certificate is not None:
        check_kind("certificate", certificate, Certificate)
    if batches is not None and labels is None:
        # Fail before the certificate, which takes long.
        model.head.check_fittable(model.classifier)
    if labels is not None:
        labels = _labels_for(model, batches, labels)
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
        if not _scale(projected, certificate, target, n_round, by_layer=lipschitz is None):
            break
        certificate = certify(projected)
    else:
        raise ValueError(
            f"{name} must be large enough for the weights' precision, but no scaling brought "
            f"every bound to at most {name}={target}"
        )
    if n_round > 0:
        if batches is not None:
            of_body = certificate.features_lipschitz_upper_bound
            loss = None if labels is None else head_loss(margin, temperature, of_body)
            _fit(projected, model, batches, labels, loss, seed)
            certificate = with_classifier(certificate, projected)
        _assign(model, projected)
    return certificate


def _labels_for(model: IResNet, batches: Sequence[Tensor] | None, labels: Tensor) -> Tensor:
    """The labels of all images of the batches, checked, as int64 (N,)."""
    if not model.head.fits_labels:
        able = " or ".join(f'head="{name}"' for name, head in HEADS.items() if head.fits_labels)
        raise ValueError(f"labels must be left out without {able}, but were given")
    if not batches:
        raise ValueError("labels must be left out without images, but were given")
    return checked_labels(labels, sum(map(len, batches)), model.n_classes)


def _fit(
    projected: IResNet,
    model: IResNet,
    batches: Sequence[Tensor],
    labels: Tensor | None,
    loss: Loss | None,
    seed: int,
) -> None:
    """Fit the classifier of a projected network, in place, to labels int64 (N,) of images; or,
    without labels and a loss, to the logits of the model that it was made from."""
    classifier = projected.classifier
    if labels is None or loss is None:
        with in_eval_mode(model), in_eval_mode(projected):
            features = [projected.features(batch) for batch in batches]
            logits = [model(batch) for batch in batches]
            projected.head.fit_to_logits(classifier, features, logits)
    else:
        fit_to_labels(projected, batches, labels, loss, seed)
    if not all(tensor.isfinite().all() for tensor in classifier.state_dict().values()):
        raise ValueError(
            "images must give the classifier finite weights and statistics, but some are not: no "
            "batch may be empty, and all pixels, features and logits must be finite"
        )


def _assign(model: IResNet, projected: IResNet) -> None:
    """Copy the tensors and targets of a projected network into the model that it was made from."""
    tensors = list(model.state_dict().values())
    for tensor in tensors:
        tensor.copy_(tensor.clone())  # torch refuses some, before any has another value
    # In one call, so that a signal leaves no mix of both. An old target changes no map.
    torch._foreach_copy_(tensors, list(projected.state_dict().values()))
    for module, other in zip(model.modules(), projected.modules(), strict=True):
        if isinstance(module, NormalizedConv2d):
            assert isinstance(other, NormalizedConv2d)
            module.coeff = other.coeff


def _scale(
    model: IResNet, certificate: Certificate, target: float, n_round: int, *, by_layer: bool
) -> bool:
    """Scale, in place, all layers (by_layer) or all blocks with bounds above a target. Returns
    whether there were any."""
    is_scaled = False
    for block, bound in zip(model.blocks, certificate.blocks, strict=True):
        layers = [x for x in certificate.layers if x.name.startswith(f"{bound.name}.")]
        if by_layer:
            is_scaled |= block.scale_layers(layers, target, n_round)
        elif bound.upper_bound > target:
            block.scale_block(bound, layers, target / bound.upper_bound, n_round)
            is_scaled = True
    return is_scaled
