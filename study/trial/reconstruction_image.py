"""A picture of images above their reconstructions (paper, Figure 3)."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

# A small image is enlarged to at least this many pixels a side.
_IMAGE_SIZE = 56
# The gap between images and reconstructions: pixels, and its gray.
_GAP, _GRAY = 6, 128
# For values that are not finite: a color that no image is full of.
_MAGENTA = (1.0, 0.0, 1.0)


def save_reconstructions(path: Path, images: Tensor, reconstructed: Tensor) -> None:
    """Write a row of images, float (N, C, H, W) on the CPU, C one or three, and below it a row of
    their reconstructions of that shape, as a PNG file. 0 is black and 1 is white; values beyond are
    cut off, and what is not finite is magenta."""
    above, below = (_row(images), _row(reconstructed))
    between = np.full((_GAP, *above.shape[1:]), _GRAY, dtype=np.uint8)
    Image.fromarray(np.concatenate([above, between, below])).save(path)


def _row(images: Tensor) -> NDArray[np.uint8]:
    """(N, C, H, W) -> (height, width, 3): one beside the other."""
    colors = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
    is_finite = colors.isfinite().all(dim=-1, keepdim=True)
    colors = colors.clamp(0, 1).where(is_finite, colors.new_tensor(_MAGENTA))
    scale = max(1, _IMAGE_SIZE // images.shape[-1])
    row: NDArray[np.float32] = np.concatenate(list(colors.numpy()), axis=1)
    return np.rint(255 * row.repeat(scale, axis=0).repeat(scale, axis=1)).astype(np.uint8)
