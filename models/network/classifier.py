"""The classifier of a network, adapted to features that have changed."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from models.arguments import check_kind
from models.heads.head import Loss
from models.heads.kinds import HEADS
from models.heads.pooled import batch_norm_of, set_statistics
from models.maps import check_not_empty, checked_labels
from models.network.iresnet import IResNet


def labels_for(model: IResNet, batches: Sequence[Tensor] | None, labels: Tensor) -> Tensor:
    """Labels int64 (N,) of all images of some batches. Raises TypeError or ValueError unless the
    classifier can be fitted to them."""
    if not model.head.fits_labels:
        able = " or ".join(f'head="{name}"' for name, head in HEADS.items() if head.fits_labels)
        raise ValueError(f"labels must be left out without {able}, but were given")
    if not batches:
        raise ValueError("labels must be left out without images, but were given")
    return checked_labels(labels, sum(map(len, batches)), model.n_classes)


@torch.no_grad()
def fit_to_logits(projected: IResNet, model: IResNet, batches: Sequence[Tensor]) -> None:
    """Fit the classifier of a projected network, in place, to a model's logits of images."""
    with in_eval_mode(model):
        logits = [model(batch) for batch in batches]
    with in_eval_mode(projected):
        features = [projected.features(batch) for batch in batches]
        projected.head.fit_to_logits(projected.classifier, features, logits)


@torch.no_grad()
def fit_to_labels(
    model: IResNet, batches: Sequence[Tensor], labels: Tensor, loss: Loss, seed: int
) -> None:
    """Fit the classifier of a network, in place, to labels int64 (N,) of batches of images."""
    with in_eval_mode(model):
        features = torch.cat([model.features(batch) for batch in batches])
    model.head.fit_to_labels(model.classifier, features, labels, loss, seed)


def check_fitted(model: IResNet) -> None:
    """Raise ValueError unless all numbers of a classifier are finite."""
    if not all(tensor.isfinite().all() for tensor in model.classifier.state_dict().values()):
        raise ValueError(
            "images must give the classifier finite weights and statistics, but some are not: no "
            "batch may be empty, and all pixels, features and logits must be finite"
        )


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
    batch_norm_of(model.classifier)
    with in_eval_mode(model):
        features = [model.features(batch) for batch in as_batches(images)]
    set_statistics(model.classifier, features)


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
