"""Gradient steps towards another answer, within a ball."""

import torch
from torch import Tensor, nn

from models import IResNet


def attack(model: IResNet, images: Tensor, labels: Tensor, radius: Tensor) -> Tensor:
    """bool (B,): whether gradient steps on the l2 ball find another answer."""
    broken = torch.zeros(len(images), dtype=torch.bool)
    radius = radius.to(images.dtype).view(-1, 1, 1, 1)
    for start in range(4):
        offset = torch.randn_like(images) if start else torch.zeros_like(images)
        for _ in range(20):
            size = offset.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
            offset = (offset * (radius / size).clamp(max=1)).detach().requires_grad_()
            logits = model(images + offset)
            broken |= logits.argmax(1) != labels
            loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
            (slope,) = torch.autograd.grad(loss, offset)
            with torch.no_grad():
                steps = slope / slope.flatten(1).norm(dim=1).clamp(min=1e-30).view(-1, 1, 1, 1)
                offset = offset + 0.3 * radius * steps
    return broken
