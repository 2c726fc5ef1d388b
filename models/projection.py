"""Networks with a smaller bound, made of a trained one without training.

Layers are scaled by what is proven of them, so the certificate holds by construction. The features
change, so the classifier is adapted without labels: its BatchNorm, if any, gets new statistics, and
its last layer is fitted to the former logits. The proof says nothing of the classifier.

The bound does not depend on which layer of a block is scaled, but the network does. With only the
last layer scaled and biases kept, a block is x + s g(x) + b: a step of an ODE solver with a smaller
step size (paper, equation 1). That keeps most of the accuracy that scaling every layer loses.
"""

import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from models.block import Block, BlockError
from models.certificate import Certificate
from models.certification import certify, with_classifier
from models.inputs import check_kind, check_not_empty, described, number
from models.iresnet import IResNet
from models.potential_block import PotentialBlock
from models.spectral_norm import SpectralNormConv2d, update_spectral_norm

_N_ROUNDS = 10
# By how much more a block of another author is scaled, against the rounding of its own scaling.
_OWN_MARGIN = 1e-5
# How much more than `factor` times what it was, relative, the bound of such a block may be after
# `scale(factor)`: the rounding of its own scaling.
_OWN_ROOM = 1e-3
# Ridge of the last layer's fit, relative to the mean variance of its inputs.
_RIDGE = 1e-4


@torch.no_grad()
def project(
    model: IResNet,
    coeff: float | None = None,
    images: Tensor | Iterable[Tensor] | None = None,
    *,
    lipschitz: float | None = None,
    certificate: Certificate | None = None,
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

    Returns:
        What is proven of the model then: `certify(model)`.

    Raises:
        TypeError: if an argument is of another kind.
        ValueError: if not one of coeff and lipschitz is given, or it is out of range or too small
            for the weights' precision, a weight is not finite, the certificate is of other weights
            or of less effort, or the residual blocks hold a BatchNorm, whose factor follows the
            data; if a block of another author defines no `scale`, or its bound does not follow it
            (BlockError); if images is empty, the classifier is that of no `head`, or what is
            fitted to the images is not finite.
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
    batches = None if images is None else _batches(images)
    if certificate is not None:
        check_kind("certificate", certificate, Certificate)
    if batches is not None:
        # Fail before the certificate, which takes long.
        if _has_batch_norm(model):
            _batch_norm(model)
        _last_layer(model)
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
            _fit_classifier(projected, model, batches)
            certificate = with_classifier(certificate, projected)
        _assign(model, projected)
    return certificate


def _batches(images: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """Images (B, C, H, W), or one or more batches of such, as a list of batches."""
    check_kind("images", images, Iterable)
    batches = [images] if isinstance(images, Tensor) else list(images)
    if not batches or not all(isinstance(batch, Tensor) for batch in batches):
        kinds = ", ".join(type(batch).__name__ for batch in batches[:3])
        raise ValueError(f"images must be one or more batches, each a Tensor, but got [{kinds}]")
    for batch in batches:
        check_not_empty("images", batch)
    return batches


def _has_batch_norm(model: IResNet) -> bool:
    """Whether the classifier must have a BatchNorm: it is not that of head="lipschitz"."""
    return not isinstance(model.classifier[0], nn.Flatten)


def _batch_norm(model: IResNet) -> nn.BatchNorm2d:
    """The only BatchNorm of the classifier. Raises ValueError unless it has exactly one."""
    found = [m for m in model.classifier if isinstance(m, nn.BatchNorm2d)]
    if len(found) != 1 or not found[0].track_running_stats:
        raise ValueError(
            "the classifier must have one BatchNorm2d, with running statistics, but has "
            f"{', '.join(map(str, found)) or 'none'}"
        )
    return found[0]


def _last_layer(model: IResNet) -> nn.Linear:
    """The last layer of the classifier. Raises ValueError if it is no Linear with a bias."""
    last = model.classifier[-1]
    if not isinstance(last, nn.Linear) or last.bias is None:
        raise ValueError(f"the classifier must end in a Linear with a bias, but ends in {last}")
    return last


def _fit_classifier(projected: IResNet, model: IResNet, batches: Sequence[Tensor]) -> None:
    """Fit the classifier of a projected network to images and to a model's logits of them."""
    with _in_eval_mode(model):
        logits = [model(batch) for batch in batches]
    if _has_batch_norm(projected):
        recompute_batch_norm(projected, batches)
    _fit_last_layer(projected, batches, logits)
    if not all(tensor.isfinite().all() for tensor in projected.classifier.state_dict().values()):
        raise ValueError(
            "images must give the classifier finite weights and statistics, but some are not: no "
            "batch may be empty, and all pixels, features and logits must be finite"
        )


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
    changed = []
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
            # What its norm is scaled to in any case has to have the margin.
            least = 1 - margin if module.orthonormal else 1.0
            module.coeff = min(module.coeff, layer.upper_bound * factor * least)
            changed.append(module)
        module.weight.copy_(weight * (factor * (1 - margin)))
        if isinstance(modules[layer.name.rpartition(".")[0]], PotentialBlock):
            assert module.bias is not None
            module.bias.mul_(factor * (1 - margin))
    update_spectral_norm(changed, 1)


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
def _fit_last_layer(model: IResNet, images: Iterable[Tensor], logits: Iterable[Tensor]) -> None:
    """Fit the classifier's last layer to logits (B, n_classes) of images (B, C, H, W): ridge
    regression of the differences in float64. Weights that the images do not determine stay."""
    before_last, last = model.classifier[:-1], _last_layer(model)
    with _in_eval_mode(model):
        inputs = torch.cat([before_last(model.features(batch)) for batch in images]).double()
    missing = torch.cat(list(logits)).double() - last(inputs.to(last.weight.dtype)).double()
    centered = inputs - inputs.mean(dim=0)
    covariance = centered.T @ centered / len(inputs)
    ridge = _RIDGE * covariance.diagonal().mean().clamp(min=torch.finfo(torch.float64).tiny)
    covariance.diagonal().add_(ridge)
    right = centered.T @ (missing - missing.mean(dim=0)) / len(inputs)
    change = torch.linalg.solve(covariance, right).T
    last.weight.add_(change)
    last.bias.add_(missing.mean(dim=0) - change @ inputs.mean(dim=0))


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Each module gets its mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


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


@torch.no_grad()
def recompute_batch_norm(model: IResNet, images: Tensor | Iterable[Tensor]) -> None:
    """Set the running statistics of the classifier's BatchNorm to those of images: the mean, over
    the batches, of each batch's mean and variance.

    Args:
        model: its mode stays as it is.
        images: (B, C, H, W), or one or more batches of such, best of one size; each of two or more
            entries in a channel of the features.

    Raises:
        TypeError: if the model is no IResNet, or images are neither a Tensor nor an iterable.
        ValueError: if there is no batch or one is too small, not one BatchNorm2d in the classifier,
            or `features` refuses the images.
    """
    check_kind("model", model, IResNet)
    batch_norm = _batch_norm(model)
    assert batch_norm.running_mean is not None
    assert batch_norm.running_var is not None
    means, variances = [], []
    with _in_eval_mode(model):
        for batch in _batches(images):
            # torch's BatchNorm sums in float32, whose rounding may be as large as a channel that a
            # small bound leaves.
            by_channel = model.features(batch).transpose(0, 1).flatten(1).double()
            if by_channel.shape[1] < 2:
                raise ValueError(
                    "images must be two or more where the features have one pixel, but got "
                    f"{described(batch)}"
                )
            means.append(by_channel.mean(dim=1))
            variances.append(by_channel.var(dim=1))
    batch_norm.running_mean.copy_(torch.stack(means).mean(dim=0))
    batch_norm.running_var.copy_(torch.stack(variances).mean(dim=0))
