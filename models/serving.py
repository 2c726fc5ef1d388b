"""A stored network behind MLflow's pyfunc flavor, which finds `_load_pyfunc` by its name. Needs
neither MLflow nor this project: a logged model brings the package `models` along."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.iresnet import IResNet
from models.stored import read_network

_BATCH_SIZE = 500


class Predictor:
    """A network in eval mode with pyfunc's interface."""

    def __init__(self, network: IResNet) -> None:
        self._network = network

    @torch.no_grad()
    def predict(
        self, images: NDArray[np.float32], params: dict[str, Any] | None = None
    ) -> NDArray[np.float32]:
        """Logits, float32 (N, n_classes), of images, float32 (N, C, H, W), normalized as the images
        that the network was trained on. No params are known."""
        batches = torch.as_tensor(images).split(_BATCH_SIZE)
        logits: NDArray[np.float32] = torch.cat([self._network(b) for b in batches]).numpy()
        return logits

    def get_raw_model(self) -> IResNet:
        """The network, in eval mode, on the CPU."""
        return self._network


def _load_pyfunc(path: str) -> Predictor:
    """The network that `models.stored.write_network` wrote into a folder. MLflow runs whatever a
    model names, so blocks of another author are imported too, from where this runs."""
    return Predictor(read_network(Path(path), trust=True))
