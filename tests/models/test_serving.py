import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from models import IResNet, write_network
from models.storage.serving import _load_pyfunc
from tests.support.networks import network


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_it_answers_in_the_precision_in_which_its_answers_are_proven(
    precision: str, tmp_path: Path
) -> None:
    """Of images in float32; the network itself takes images of that precision."""
    torch.manual_seed(0)
    architecture = {"in_shape": [1, 4, 4], "n_classes": 3, "blocks": [1]}
    model = network(**architecture).eval()
    write_network(tmp_path, model, {"architecture": architecture, "precision": precision})
    predictor, dtype = _load_pyfunc(str(tmp_path)), getattr(torch, precision)
    images = torch.rand(5, 1, 4, 4)
    with torch.no_grad():
        expected = copy.deepcopy(model).to(dtype)(images.to(dtype))
        assert torch.equal(predictor.get_raw_model()(images.to(dtype)), expected)
    logits = torch.from_numpy(predictor.predict(images.numpy()))
    assert logits.dtype == dtype
    assert torch.equal(logits, expected)


def test_a_precision_that_is_none_is_refused(tmp_path: Path) -> None:
    architecture = {"in_shape": [1, 4, 4], "n_classes": 3, "blocks": [1]}
    for precision in ("bf16", ["float64"], 64):
        model = network(**architecture)
        write_network(tmp_path, model, {"architecture": architecture, "precision": precision})
        with pytest.raises(
            ValueError, match=r"^network\.json: precision must be float32 or float64"
        ):
            _load_pyfunc(str(tmp_path))


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
