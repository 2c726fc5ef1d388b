"""Networks for tests that train none."""

import torch

from models import IResNet


@torch.no_grad()
def with_biases(model: IResNet) -> IResNet:
    """The network, in place, with random biases in its blocks: a new one has none there."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.body.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(0, 0.2, generator=generator)
    return model
