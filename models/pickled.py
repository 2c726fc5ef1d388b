"""A network that was pickled whole, read without running code from the file."""

from pathlib import Path

import torch
from torch import nn

from models.iresnet import (
    ACTIVATIONS,
    GlobalAveragePool,
    InjectivePad,
    IResNet,
    ResidualBlock,
    Squeeze,
)
from models.spectral_norm import SpectralNormConv2d

_PARTS = (
    IResNet, ResidualBlock, Squeeze, InjectivePad, GlobalAveragePool, SpectralNormConv2d,
    nn.ModuleList, nn.Sequential, nn.Conv2d, nn.BatchNorm2d, nn.Dropout, nn.Linear,
    *ACTIVATIONS.values(),
)  # fmt: skip


def load_pickled(path: Path) -> IResNet:
    """The network that torch.save wrote, on the CPU.

    Nothing is unpickled but tensors, plain values and the modules of which an IResNet is made. The
    file decides all of their attributes: see `differences` before anything of it is called.

    Raises:
        ValueError: in one line, if the file is torn, or holds anything else.
    """
    try:
        with torch.serialization.safe_globals(list(_PARTS)):
            model = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has a dozen for a file that is not what it should be
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"it cannot be read: {reason}") from error
    if type(model) is not IResNet:
        raise ValueError(f"it must hold an IResNet, but holds a {type(model).__name__}")
    return model
