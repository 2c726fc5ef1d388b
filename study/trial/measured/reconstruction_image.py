"""A picture of images above their reconstructions (paper, Figure 3) and the differences."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

# A small image is enlarged to at least this many pixels a side.
_IMAGE_SIZE = 56
# Pixels between images and between rows of images; and the gray level of both gaps.
_GAP, _ROW_GAP, _GRAY = 3, 6, 128
# For values that are not finite: a color that no image is full of.
_MAGENTA = (1.0, 0.0, 1.0)
# Gray levels of the differences. More would make a large file of noise in the last bits.
_N_GRAYS = 16


def save_reconstructions(path: Path, images: Tensor, reconstructed: Tensor) -> float:
    """Write a row of images, float (N, C, H, W) on the CPU, below it a row of their reconstructions
    of that shape, and below that a row of their differences, as a PNG file. 0 is black and 1 is
    white; values beyond are cut off, and what is not finite is magenta. Unless there are one or
    three channels, they stand side by side, such as the features of a table.

    A difference is the l2 norm over the channels of a pixel, and the largest in the picture is
    white. Returns the largest: 0 if both rows are equal, infinite if a difference is not finite.
    """
    if images.shape[1] not in (1, 3):
        images, reconstructed = (
            of.movedim(1, 3).flatten(2).unsqueeze(1) for of in (images, reconstructed)
        )
    differences = torch.linalg.vector_norm(reconstructed - images, dim=1, keepdim=True)
    largest = differences.max().item() if bool(differences.isfinite().all()) else np.inf
    seen = differences[differences.isfinite()]
    brightest = seen.max() if len(seen) and seen.max() > 0 else differences.new_ones(())
    grays = (_N_GRAYS - 1) * differences / brightest
    rows = [_row(images), _row(reconstructed), _row(grays.round() / (_N_GRAYS - 1))]
    between = np.full((_ROW_GAP, *rows[0].shape[1:]), _GRAY, dtype=np.uint8)
    picture = np.concatenate([rows[0], between, rows[1], between, rows[2]])
    is_gray = bool((picture == picture[..., :1]).all())
    Image.fromarray(picture[..., 0] if is_gray else picture).save(path, optimize=True)
    return largest


def _row(images: Tensor) -> NDArray[np.uint8]:
    """Images (N, C, H, W) side by side, as one uint8 picture (height, width, 3)."""
    colors = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
    is_finite = colors.isfinite().all(dim=-1, keepdim=True)
    colors = colors.clamp(0, 1).where(is_finite, colors.new_tensor(_MAGENTA))
    scale = max(1, _IMAGE_SIZE // images.shape[-1])
    pixels = np.rint(255 * colors.numpy()).astype(np.uint8)
    pixels = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
    between = np.full((pixels.shape[1], _GAP, 3), _GRAY, dtype=np.uint8)
    parts = [part for image in pixels for part in (image, between)][:-1]
    return np.concatenate(parts, axis=1)
