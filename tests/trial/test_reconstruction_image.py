import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from study.trial.reconstruction_image import save_reconstructions


def test_images_stand_above_their_reconstructions_pixel_for_pixel(tmp_path: Path) -> None:
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = torch.stack([images[0], 1.5 - images[1], torch.full((1, 8, 8), math.nan)])
    path = tmp_path / "reconstructions.png"
    save_reconstructions(path, images, found)
    pixels = np.asarray(Image.open(path)) / 255
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
    images = torch.zeros(1, 3, 64, 64)
    images[0, 1] = 1
    save_reconstructions(tmp_path / "x.png", images, images)
    assert (np.asarray(Image.open(tmp_path / "x.png"))[0, 0] == [0, 255, 0]).all()
