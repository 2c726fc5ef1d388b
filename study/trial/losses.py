"""The loss that a trial is trained with, and the fit of its classifier to labels."""

import math

import torch

from models import IResNet, Loss, head_loss
from study.config.trial import TrialConfig
from study.trial.data import Split, normalized

# Images whose features are computed in one batch.
_BATCH_SIZE = 1_000


def make_loss(config: TrialConfig, lipschitz: float) -> Loss:
    """The loss of a trial, for features of this Lipschitz constant by pixels of [0, 1]."""
    return head_loss(margin_of(config), config.training.temperature, lipschitz)


def margin_of(config: TrialConfig) -> float | None:
    """The margin of a trial's loss, l2, in pixels of [0, 1]; None of cross entropy."""
    if config.training.loss == "cross_entropy":
        return None
    return config.radius if config.training.margin is None else config.training.margin


def target_lipschitz(model: IResNet) -> float:
    """The Lipschitz constant of the features by pixels of [0, 1], if each layer meets its target:
    an estimate for training, and no bound. Infinite where there are no targets."""
    return math.prod(block.target_lipschitz for block in model.blocks)


def fit_head(
    model: IResNet, split: Split, config: TrialConfig, lipschitz: float, seed: int
) -> None:
    """Fit a head that fits labels to a body that stays, in place, by the loss of the trial.

    Args:
        model: in eval mode.
        split: training images, without augmentation.
        lipschitz: of the features; what is proven of the body.
        seed: of the batches.
    """
    with torch.no_grad():
        of_split = split.images.split(_BATCH_SIZE)
        features = torch.cat([model.features(normalized(part)) for part in of_split])
    loss = make_loss(config, lipschitz)
    model.head.fit_to_labels(model.classifier, features, split.labels, loss, seed)
