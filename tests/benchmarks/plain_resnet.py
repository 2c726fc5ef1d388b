"""A pre-activation ResNet in the shape of ours, with no feature of it."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class PlainResNet(nn.Module):
    """The network's shape in torch's own modules: convolutions, ReLU, dropout, and no more."""

    def __init__(
        self,
        in_channels: int = 3,
        n_classes: int = 10,
        blocks: Sequence[int] = (18, 18, 19),
        *,
        bottleneck: int = 4,
        channel_multiplier: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.channel_multiplier = channel_multiplier
        channels = in_channels * channel_multiplier
        self.stages = nn.ModuleList()
        for stage, n_blocks in enumerate(blocks):
            channels *= 4 if stage > 0 else 1
            inner = channels // bottleneck
            self.stages.append(
                nn.ModuleList(
                    nn.Sequential(
                        *([] if stage == 0 and index == 0 else [nn.ReLU()]),
                        nn.Conv2d(channels, inner, 3, padding=1),
                        nn.ReLU(),
                        nn.Conv2d(inner, inner, 1),
                        nn.ReLU(),
                        nn.Dropout(dropout),
                        nn.Conv2d(inner, channels, 3, padding=1),
                    )
                    for index in range(n_blocks)
                )
            )
        self.norm = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, 0, 0, self.in_channels * (self.channel_multiplier - 1)))
        for index, stage in enumerate(self.stages):
            if index > 0:
                x = F.pixel_unshuffle(x, 2)
            assert isinstance(stage, nn.ModuleList)
            for residual in stage:
                x = x + residual(x)
        logits: Tensor = self.linear(F.relu(self.norm(x)).mean((2, 3)))
        return logits
