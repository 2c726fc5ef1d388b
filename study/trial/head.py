"""The head of a trial's network: the classifier that it starts with, and the loss."""

import math
from typing import TypeVar

import torch
from torch import Tensor

from models import IResNet, Loss, head_loss
from study.config.trial import TrainingConfig, TrialConfig
from study.trial.data.tensors import Split, normalized

# The images from which a classifier starts, the most, and those that are passed at once.
_N_AT_START, _FEATURES_AT_ONCE = 20_000, 1_000


def start(model: IResNet, train: Split, seed: int) -> None:
    """Start the classifier of a new network from the features of the first training images."""
    images, labels = normalized(train.images[:_N_AT_START]), train.labels[:_N_AT_START]
    # In eval mode: without the random masks of dropout.
    model.eval()
    with torch.no_grad():
        features = torch.cat([model.features(part) for part in images.split(_FEATURES_AT_ONCE)])
    model.head.start(model.classifier, features, labels, seed)
    model.train()


def make_loss(config: TrialConfig, lipschitz: float) -> Loss:
    """A trial's loss, from a Lipschitz bound or estimate of the features by pixels of [0, 1]."""
    training, margin = config.training, config.training.margin or config.radius
    if training.loss == "cross_entropy":
        return head_loss(None, training.temperature, lipschitz)
    return head_loss(margin, temperature_at(margin, training), lipschitz)


_Margin = TypeVar("_Margin", float, Tensor)


def temperature_at(margin: _Margin, training: TrainingConfig) -> float | _Margin:
    """The temperature of the margin loss, in the unit of the margin, which may be of each image."""
    return training.temperature * (margin if training.relative_temperature else 1.0)


def target_lipschitz(model: IResNet) -> float:
    """The Lipschitz constant of the features with respect to pixels of [0, 1], if each layer meets
    its target: an estimate for training, and no bound. Infinite where there are no targets."""
    return math.prod(block.target_lipschitz for block in model.blocks)
