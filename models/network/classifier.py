"""Adapting the classifier of a network to features that have changed."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from models.arguments import check_kind
from models.heads.head import Loss
from models.heads.pooled import batch_norm_of, set_statistics
from models.maps import check_not_empty
from models.network.iresnet import IResNet


@torch.no_grad()
def fit_to_labels(
    model: IResNet, batches: Iterable[Tensor], labels: Tensor, loss: Loss, seed: int
) -> None:
    """Fit the classifier of a network, in place, to labels int64 (N,) of all images in batches.

    >>> control = models.IResNet((1, 8, 8), 2, blocks=(), head="lipschitz")
    >>> loss = models.head_loss(margin=0.1, temperature=0.1, lipschitz=1.0)
    >>> models.fit_to_labels(control, [images], labels, loss, seed=0)
    """
    with in_eval_mode(model):
        features = torch.cat([model.features(batch) for batch in batches])
    model.head.fit_to_labels(model.classifier, features, labels, loss, seed)


@torch.no_grad()
def recompute_batch_norm(model: IResNet, images: Tensor | Iterable[Tensor]) -> None:
    """Set the running statistics of the classifier's BatchNorm to those of images: the mean, over
    the batches, of each batch's mean and variance.

    Args:
        model: its mode stays as it is.
        images: (B, C, H, W), or one or more batches of such, best of one size; each must give two
            or more entries in each channel of the features.

    Raises:
        TypeError: if the model is no IResNet, or images are neither a Tensor nor an iterable.
        ValueError: if there is no batch or one is too small, the classifier has not exactly one
            BatchNorm2d, or `features` refuses the images.
    """
    check_kind("model", model, IResNet)
    batch_norm_of(model.classifier)
    with in_eval_mode(model):
        features = [model.features(batch) for batch in as_batches(images)]
    set_statistics(model.classifier, features)


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode in this context; afterwards each module gets its own mode back."""
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
