import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from study.trial.measured.reconstruction_image import save_reconstructions

# 8 pixels become 56; 3 lie between images and 6 between rows.
SCALE, SIDE = 7, 56
BESIDE, BELOW = SIDE + 3, SIDE + 6


def test_images_reconstructions_and_differences_stand_pixel_for_pixel(tmp_path: Path) -> None:
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = torch.stack([images[0], 1.5 - images[1], torch.full((1, 8, 8), math.nan)])
    path = tmp_path / "reconstructions.png"
    assert save_reconstructions(path, images, found) == math.inf
    pixels = np.asarray(Image.open(path)) / 255
    assert pixels.shape == (2 * BELOW + SIDE, 2 * BESIDE + SIDE, 3)
    assert (pixels[SIDE:BELOW] == 128 / 255).all()

    def shown(row: int, column: int) -> np.ndarray:
        corner = pixels[BELOW * row :, BESIDE * column :][:SIDE, :SIDE]
        return corner[::SCALE, ::SCALE]

    for column in range(3):
        np.testing.assert_allclose(shown(0, column)[..., 0], images[column, 0], atol=1 / 255)
    np.testing.assert_array_equal(shown(1, 0), shown(0, 0))
    np.testing.assert_allclose(shown(1, 1)[..., 0], found[1, 0].clip(0, 1), atol=1 / 255)
    assert (shown(2, 0) == 0).all()
    difference = (found[1] - images[1]).abs()[0]
    np.testing.assert_allclose(shown(2, 1)[..., 0], difference / difference.max(), atol=1 / 29)
    for row in (1, 2):
        assert (shown(row, 2) == [1, 0, 1]).all()  # no number: magenta


def test_a_difference_is_the_distance_of_two_colors(tmp_path: Path) -> None:
    images = torch.zeros(1, 3, 64, 64)
    images[0, 1] = 1
    found = images.clone()
    found[0, :, 0, 0] += torch.tensor([0.03, 0.0, -0.04])
    path = tmp_path / "x.png"
    assert math.isclose(save_reconstructions(path, images, found), 0.05, rel_tol=1e-6)
    pixels = np.asarray(Image.open(path))
    assert (pixels[0, 1] == [0, 255, 0]).all()
    assert (pixels[-64, :2] == [[255] * 3, [0] * 3]).all()
    assert save_reconstructions(path, images, images) == 0


def test_gray_images_stay_gray(tmp_path: Path) -> None:
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    save_reconstructions(tmp_path / "x.png", images, images)
    picture = Image.open(tmp_path / "x.png")
    assert picture.mode == "L"
    shown = np.asarray(picture)[:SIDE:SCALE, :SIDE:SCALE] / 255
    np.testing.assert_allclose(shown, images[0, 0], atol=1 / 255)
