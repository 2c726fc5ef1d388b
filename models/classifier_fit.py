"""The classifier of a network, adapted to features that have changed: without labels to its former
logits, or a linear one to labels."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from models.inputs import check_kind, check_not_empty, checked_labels, described
from models.iresnet import IResNet
from models.linear_head import Loss, fit_head

# Ridge of the last layer's fit, relative to the mean variance of its inputs.
_RIDGE = 1e-4


def has_batch_norm(model: IResNet) -> bool:
    """Whether the classifier must have a BatchNorm: it is not that of head="lipschitz"."""
    return not isinstance(model.classifier[0], nn.Flatten)


def batch_norm_of(model: IResNet) -> nn.BatchNorm2d:
    """The only BatchNorm of the classifier. Raises ValueError unless it has exactly one."""
    found = [m for m in model.classifier if isinstance(m, nn.BatchNorm2d)]
    if len(found) != 1 or not found[0].track_running_stats:
        raise ValueError(
            "the classifier must have one BatchNorm2d, with running statistics, but has "
            f"{', '.join(map(str, found)) or 'none'}"
        )
    return found[0]


def last_layer(model: IResNet) -> nn.Linear:
    """The last layer of the classifier. Raises ValueError if it is no Linear with a bias."""
    last = model.classifier[-1]
    if not isinstance(last, nn.Linear) or last.bias is None:
        raise ValueError(f"the classifier must end in a Linear with a bias, but ends in {last}")
    return last


def labels_for(model: IResNet, batches: Sequence[Tensor] | None, labels: Tensor) -> Tensor:
    """Labels int64 (N,) of all images of some batches. Raises TypeError or ValueError unless a
    classifier can be fitted to them."""
    if has_batch_norm(model):
        raise ValueError('labels must be left out without head="lipschitz", but were given')
    if not batches:
        raise ValueError("labels must be left out without images, but were given")
    return checked_labels(labels, sum(map(len, batches)), model.n_classes)


def fit_to_logits(projected: IResNet, model: IResNet, batches: Sequence[Tensor]) -> None:
    """Fit the classifier of a projected network to images and to a model's logits of them."""
    with in_eval_mode(model):
        logits = [model(batch) for batch in batches]
    if has_batch_norm(projected):
        recompute_batch_norm(projected, batches)
    _fit_last_layer(projected, batches, logits)


def check_fitted(model: IResNet) -> None:
    """Raise ValueError unless all numbers of a classifier are finite."""
    if not all(tensor.isfinite().all() for tensor in model.classifier.state_dict().values()):
        raise ValueError(
            "images must give the classifier finite weights and statistics, but some are not: no "
            "batch may be empty, and all pixels, features and logits must be finite"
        )


@torch.no_grad()
def fit_to_labels(
    model: IResNet, batches: Sequence[Tensor], labels: Tensor, loss: Loss, seed: int
) -> None:
    """Fit the linear classifier of a network, in place, to labels int64 (N,) of batches of images,
    by a loss of the last layer's weight, logits and labels."""
    with in_eval_mode(model):
        features = [model.features(batch).flatten(1) for batch in batches]
    fit_head(last_layer(model), torch.cat(features), labels, loss, seed)


@torch.no_grad()
def _fit_last_layer(model: IResNet, images: Iterable[Tensor], logits: Iterable[Tensor]) -> None:
    """Fit the classifier's last layer to logits (B, n_classes) of images (B, C, H, W): ridge
    regression of the differences in float64. Weights that the images do not determine stay."""
    before_last, last = model.classifier[:-1], last_layer(model)
    with in_eval_mode(model):
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
    batch_norm = batch_norm_of(model)
    assert batch_norm.running_mean is not None
    assert batch_norm.running_var is not None
    means, variances = [], []
    with in_eval_mode(model):
        for batch in as_batches(images):
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


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Each module gets its mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def as_batches(images: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """Images (B, C, H, W), or one or more batches of such, as a list of batches."""
    check_kind("images", images, Iterable)
    batches = [images] if isinstance(images, Tensor) else list(images)
    if not batches or not all(isinstance(batch, Tensor) for batch in batches):
        kinds = ", ".join(type(batch).__name__ for batch in batches[:3])
        raise ValueError(f"images must be one or more batches, each a Tensor, but got [{kinds}]")
    for batch in batches:
        check_not_empty("images", batch)
    return batches
