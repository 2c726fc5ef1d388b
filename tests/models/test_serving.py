from pathlib import Path

import numpy as np
import torch

from models import IResNet, write_network
from models.serving import _load_pyfunc
from tests.support.networks import network


def test_it_predicts_what_the_network_computes_in_any_number_of_images(tmp_path: Path) -> None:
    torch.manual_seed(0)
    architecture = {"in_shape": [1, 4, 4], "n_classes": 3, "blocks": [1]}
    model = network(**architecture).eval()
    write_network(tmp_path, model, {"architecture": architecture})
    predictor = _load_pyfunc(str(tmp_path))
    images = torch.rand(1201, 1, 4, 4)
    with torch.no_grad():
        expected = model(images)
    logits = predictor.predict(images.numpy())
    assert logits.dtype == np.float32
    torch.testing.assert_close(torch.from_numpy(logits), expected)
    assert predictor.predict(images[:0].numpy()).shape == (0, 3)
    served = predictor.get_raw_model()
    assert isinstance(served, IResNet)
    assert not served.training
