"""A stored network behind MLflow's pyfunc flavor, which finds `_load_pyfunc` by its name. Needs
neither MLflow nor this project: a logged model brings the package `models` along."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.network.iresnet import IResNet
from models.storage.network_files import proven_dtype, read_network

_BATCH_SIZE = 500


class Predictor:
    """A network in eval mode with pyfunc's interface."""

    def __init__(self, network: IResNet) -> None:
        self._network = network
        self._dtype = next(network.parameters()).dtype

    @torch.no_grad()
    def predict(
        self, images: NDArray[np.float32], params: dict[str, Any] | None = None
    ) -> NDArray[np.floating]:
        """Logits (N, n_classes), in the precision in which the answers are proven. `images`,
        float32 (N, C, H, W), must be normalized like the training images; `params` is ignored."""
        batches = torch.as_tensor(images, dtype=self._dtype).split(_BATCH_SIZE)
        logits: NDArray[np.floating] = torch.cat([self._network(b) for b in batches]).numpy()
        return logits

    def get_raw_model(self) -> IResNet:
        """The network, in eval mode, on the CPU, in the precision in which its answers are proven:
        images must have the same dtype."""
        return self._network


def _load_pyfunc(path: str) -> Predictor:
    """The network that `write_network` wrote into the folder `path`. MLflow runs whatever code a
    model names, so the code of other authors' blocks is imported from where this runs, too."""
    folder = Path(path)
    return Predictor(read_network(folder, trust=True).to(proven_dtype(folder)))
