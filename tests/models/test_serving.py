import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from models import IResNet, write_network
from models.storage.serving import _load_pyfunc
from tests.support.networks import network

ARCHITECTURE: dict[str, Any] = {"in_shape": [1, 4, 4], "n_classes": 3, "blocks": [1]}


def written(folder: Path, precision: object) -> IResNet:
    torch.manual_seed(0)
    model = network(**ARCHITECTURE).eval()
    write_network(folder, model, {"architecture": ARCHITECTURE, "precision": precision})
    return model


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_it_answers_in_the_precision_in_which_its_answers_are_proven(
    precision: str, tmp_path: Path
) -> None:
    """For any number of images in float32; the network itself takes images of that precision."""
    model, dtype = written(tmp_path, precision), getattr(torch, precision)
    predictor, images = _load_pyfunc(str(tmp_path)), torch.rand(1201, 1, 4, 4)
    served = predictor.get_raw_model()
    assert isinstance(served, IResNet)
    assert not served.training
    with torch.no_grad():
        expected = copy.deepcopy(model).to(dtype)(images.to(dtype))
        assert torch.equal(served(images.to(dtype)), expected)
    logits = torch.from_numpy(predictor.predict(images.numpy()))
    torch.testing.assert_close(logits, expected)  # of one dtype, too
    assert predictor.predict(images[:0].numpy()).shape == (0, 3)


@pytest.mark.parametrize("precision", ["bf16", ["float64"], 64])
def test_a_precision_that_is_none_is_refused(precision: object, tmp_path: Path) -> None:
    written(tmp_path, precision)
    with pytest.raises(ValueError, match=r"^network\.json: precision must be float32 or float64"):
        _load_pyfunc(str(tmp_path))
