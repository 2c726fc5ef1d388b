"""The linear classifier of head="lipschitz": its loss, and its fit to features that stay."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.adam import adam

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of the weight (K, D) of the last layer, logits (B, K) in float32 and labels (B,); the mean over
the images."""

TEMPERATURE = 0.1
"""How far from the margin radii still count, l2, in pixels of [0, 1]."""
# Images in a step, steps, and the largest learning rate of Adam for weights in units of their
# initial standard deviation.
_BATCH_SIZE, _N_STEPS, _LR = 1_000, 300, 0.03


def head_loss(margin: float | None, temperature: float, lipschitz: float) -> Loss:
    """The `margin_loss` of the signed proven radii, without rounding, for features of this
    Lipschitz constant by pixels of [0, 1]; without a margin the cross entropy. Raises ValueError
    unless margin and temperature are above 0."""
    for name, value in (("margin", margin), ("temperature", temperature)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} > 0 must hold, but got {value}")
    if margin is None:
        return lambda weight, logits, labels: F.cross_entropy(logits, labels)

    def loss(weight: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        of_pairs = radii(logits, labels, pair_distances(weight), lipschitz)
        return margin_loss(of_pairs, margin, temperature)

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


def fit_head(head: nn.Linear, features: Tensor, labels: Tensor, loss: Loss, seed: int) -> None:
    """Fit a linear classifier, in place, to labels int64 (N,) of features (N, D): 300 steps of Adam
    on batches of up to 1,000, in an order that the seed decides."""
    # Trained in units of its entries at the start.
    unit = head.in_features**-0.5
    parameters = [head.weight.detach() / unit, head.bias.detach().clone()]
    means, squares = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    counts = [torch.zeros(()) for _ in parameters]
    generator = torch.Generator().manual_seed(seed)
    n_batches = -(-len(labels) // _BATCH_SIZE)
    rows: list[Tensor] = []
    for step in range(_N_STEPS):
        if not rows:
            order = torch.randperm(len(labels), generator=generator).to(labels.device)
            rows = list(order.tensor_split(n_batches))
        batch = rows.pop()
        weight, bias = (parameter.requires_grad_() for parameter in parameters)
        with torch.enable_grad():
            logits = F.linear(features[batch], weight * unit, bias)
            mean = loss(weight * unit, logits, labels[batch])
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
            lr=_LR * 0.5 * (1 + math.cos(math.pi * step / _N_STEPS)),
            weight_decay=0.0,
            eps=1e-10,
            maximize=False,
        )
    with torch.no_grad():
        head.weight.copy_(parameters[0] * unit)
        head.bias.copy_(parameters[1])
