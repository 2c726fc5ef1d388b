import json
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from study.metrics.artifacts import INVERSE_FIGURE, LAYERS_FIGURE
from study.trial import figures


def test_images_stand_above_their_reconstructions_pixel_for_pixel(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((3, 1, 8, 8), dtype=np.float32)
    found = np.stack([images[0], 1.5 - images[1], np.full((1, 8, 8), math.nan, np.float32)])
    path = tmp_path / "reconstructions.png"
    figures.save_reconstructions(path, images, found)
    pixels = imread(path)[..., :3]
    scale = 7  # 8 pixels become 56
    assert pixels.shape == (2 * 56 + 6, 3 * 56, 3)
    above, below = pixels[:56:scale, ::scale], pixels[-56::scale, ::scale]
    for index in range(3):
        here = slice(8 * index, 8 * (index + 1))
        np.testing.assert_allclose(above[:, here, 0], images[index, 0], atol=1 / 255)
    np.testing.assert_array_equal(below[:, :8], above[:, :8])
    np.testing.assert_allclose(below[:, 8:16, 0], found[1, 0].clip(0, 1), atol=1 / 255)
    assert (below[:, 16:] == [1, 0, 1]).all()  # no number: magenta


def test_colors_stay_where_they_are(tmp_path: Path) -> None:
    images = np.zeros((1, 3, 64, 64), dtype=np.float32)
    images[0, 1] = 1
    figures.save_reconstructions(tmp_path / "x.png", images, images)
    assert (imread(tmp_path / "x.png")[0, 0, :3] == [0, 1, 0]).all()


@pytest.mark.parametrize("bound", [0.5, 2.0, math.inf])
def test_figures_are_drawn_whatever_is_proven(tmp_path: Path, bound: float) -> None:
    certificate = {
        "lipschitz_upper_bound": bound,
        "layers": [{"upper_bound": bound}] * 6,
        "blocks": [{"upper_bound": bound}] * 2,
    }
    inverse = {
        "n_steps": [1, 2, 3],
        "reconstruction_error": [0.1, None, 0.001],
        "rtol": 1e-6,
        "predicted_steps": [20 if bound < 1 else None] * 2,
        "needed_steps_mean": [3.5, 4.0],
    }
    (tmp_path / "certificate.json").write_text(json.dumps(certificate))
    (tmp_path / "inverse.json").write_text(json.dumps(inverse))
    figures.save_figures(tmp_path)
    for name in (LAYERS_FIGURE, INVERSE_FIGURE):
        assert len(np.unique(imread(tmp_path / name).reshape(-1, 4), axis=0)) > 10
