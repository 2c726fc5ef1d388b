"""The loss that a trial is trained with."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.adam import adam

from models import IResNet
from models.invertible_block import InvertibleBlock
from study.config.trial import TrialConfig
from study.trial.data import Split, batches, normalized

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of the weight (K, D) of the last layer, logits (B, K) in float32 and labels (B,); the mean over
the images."""

# Of a head that is fitted alone: images in a step, steps, and the largest learning rate of Adam for
# weights in units of their initial standard deviation.
_FIT_BATCH, _N_FIT_STEPS, _FIT_LR = 1_000, 300, 0.03


def make_loss(config: TrialConfig, lipschitz: float) -> Loss:
    """The loss of a trial, for features of this Lipschitz constant by pixels of [0, 1]."""
    training = config.training
    if training.loss == "cross_entropy":
        return lambda weight, logits, labels: F.cross_entropy(logits, labels)
    margin = config.radius if training.margin is None else training.margin

    def loss(weight: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        of_pairs = radii(logits, labels, pair_distances(weight), lipschitz)
        return margin_loss(of_pairs, margin, training.temperature)

    return loss


def margin_loss(of_pairs: Tensor, margin: float, temperature: float) -> Tensor:
    """The mean over images of t log(1 + sum_j exp((margin - r_j) / t)), for the signed radii r
    (B, K) against each other class j, infinite for the label's own, and the temperature t: about by
    how much the smallest radius falls short of the margin, in pixels of [0, 1]."""
    short = (margin - of_pairs) / temperature
    # log(1 + ...): beside the shortfalls stands a 0.
    return temperature * torch.logsumexp(F.pad(short, (1, 0)), dim=1).mean()


def radii(logits: Tensor, labels: Tensor, distances: Tensor, lipschitz: float) -> Tensor:
    """(B, K): how far an image can move before class j has the label's logit, l2, in pixels of
    [0, 1], negative where it has already; infinite for the label itself. In real arithmetic, for
    features of that Lipschitz constant and `pair_distances`."""
    of_label = labels.unsqueeze(1)
    margins = (logits.gather(1, of_label) - logits) / (lipschitz * distances[labels])
    return margins.scatter(1, of_label, math.inf)


def pair_distances(weight: Tensor) -> Tensor:
    """(K, K): Lip(z_i - z_j) of logits by the features, for a head="lipschitz" with this weight."""
    squared = (weight.unsqueeze(1) - weight).square().sum(dim=2)
    # The root has no slope at 0, where a class meets itself.
    return squared.clamp(min=1e-20).sqrt()


def target_lipschitz(model: IResNet) -> float:
    """The Lipschitz constant of the features by pixels of [0, 1], if each layer meets its target:
    an estimate for training, and no bound. Infinite where there are no targets."""
    blocks = (module for module in model.body if isinstance(module, InvertibleBlock))
    return math.prod(block.target_lipschitz for block in blocks)


def fit_head(
    model: IResNet, split: Split, config: TrialConfig, lipschitz: float, seed: int
) -> None:
    """Fit a head="lipschitz" to a body that stays, in place, by the loss of the trial.

    Args:
        model: in eval mode.
        split: training images, without augmentation.
        lipschitz: of the features; what is proven of the body.
        seed: of the batches.
    """
    loss, head = make_loss(config, lipschitz), last_layer(model)
    with torch.no_grad():
        of_split = split.images.split(_FIT_BATCH)
        features = torch.cat([model.features(normalized(part)).flatten(1) for part in of_split])
    # Trained in units of its entries at the start.
    unit = head.in_features**-0.5
    parameters = [head.weight.detach() / unit, head.bias.detach().clone()]
    means, squares = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    counts = [torch.zeros(()) for _ in parameters]
    generator = torch.Generator().manual_seed(seed)
    rows: list[Tensor] = []
    for step in range(_N_FIT_STEPS):
        rows = rows or list(batches(split, _FIT_BATCH, generator))
        batch = rows.pop()
        weight, bias = (parameter.requires_grad_() for parameter in parameters)
        logits = F.linear(features[batch], weight * unit, bias)
        mean = loss(weight * unit, logits, split.labels[batch])
        gradients = torch.autograd.grad(mean, parameters)
        parameters = [parameter.detach() for parameter in parameters]
        adam(
            parameters,
            list(gradients),
            means,
            squares,
            [],
            counts,
            foreach=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.99,
            lr=_FIT_LR * 0.5 * (1 + math.cos(math.pi * step / _N_FIT_STEPS)),
            weight_decay=0.0,
            eps=1e-10,
            maximize=False,
        )
    with torch.no_grad():
        head.weight.copy_(parameters[0] * unit)
        head.bias.copy_(parameters[1])


def last_layer(model: IResNet) -> nn.Linear:
    head = model.classifier[-1]
    assert isinstance(head, nn.Linear)
    return head
