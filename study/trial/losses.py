"""The loss that a trial is trained with."""

import math

from models import IResNet, Loss, head_loss
from study.config.trial import TrialConfig


def make_loss(config: TrialConfig, lipschitz: float) -> Loss:
    """The loss of a trial, for features of this Lipschitz constant by pixels of [0, 1]."""
    training = config.training
    margin = None if training.loss == "cross_entropy" else training.margin or config.radius
    return head_loss(margin, training.temperature, lipschitz)


def target_lipschitz(model: IResNet) -> float:
    """The Lipschitz constant of the features by pixels of [0, 1], if each layer meets its target:
    an estimate for training, and no bound. Infinite where there are no targets."""
    return math.prod(block.target_lipschitz for block in model.blocks)
