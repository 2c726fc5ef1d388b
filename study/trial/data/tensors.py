"""A data set as tensors, on the device: splits, batches, augmentation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

OFFSET = -0.5
"""The constant that `normalized` adds to pixels of [0, 1] (paper, appendix A, on MNIST)."""


@dataclass(frozen=True)
class Split:
    """Images (N, C, H, W), uint8 in [0, 255] or float32 in [0, 1], or the features of a table as
    images (N, F, 1, 1), float64; with labels, int64 (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice | Tensor) -> "Split":
        """The images at a slice or at int64 indices (n,), with their labels."""
        return Split(self.images[rows], self.labels[rows])

    def to(self, device: torch.device) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Augmentation:
    """Random shifts by up to `shift` >= 0 pixels in each direction, and rotations by up to `rotate`
    >= 0 degrees, which bring in pixels of the uint8 value `fill`; and, if `flip`, horizontal flips
    with probability 1/2. Shifts are by whole pixels if `shift` is one and nothing is rotated; else
    pixels are interpolated, bilinearly."""

    shift: float
    flip: bool
    fill: int
    rotate: float = 0.0

    @property
    def _interpolates(self) -> bool:
        return self.rotate > 0 or self.shift % 1 > 0

    def draw(self, n: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """Draw the augmentations of n images. Each row is (top, left, flip), int64 (n, 3): the
        corner of the window cut from the padded image, and 1 to flip it; or, where pixels are
        interpolated, (down, right, degrees, flip), float32 (n, 4). A whole epoch is drawn at once,
        so that no step waits for the host; on the CPU, so that all devices see the same images."""
        if self._interpolates:
            most = torch.tensor([self.shift, self.shift, self.rotate])
            offsets = (2 * torch.rand(n, 3, generator=generator) - 1) * most
        else:
            offsets = torch.randint(0, 2 * int(self.shift) + 1, (n, 2), generator=generator)
        mirrored = torch.randint(0, 2, (n, 1), generator=generator) * int(self.flip)
        return torch.cat([offsets, mirrored], dim=1).to(device)

    def __call__(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Augment images (B, C, H, W) of a Split by rows of `draw`; keeps the shape, and the dtype
        unless pixels are interpolated, which gives float32 in [0, 1]."""
        height, width = images.shape[2:]
        *moved, mirrored = drawn.unbind(1)
        if self._interpolates:
            images = _warped(images, moved, self.fill / 255)
        elif self.shift:
            fill, (top, left) = self.fill if images.dtype == torch.uint8 else self.fill / 255, moved
            padded = F.pad(images, (int(self.shift),) * 4, value=fill)
            windows = padded.unfold(2, height, 1).unfold(3, width, 1)
            images = windows[torch.arange(len(images), device=images.device), :, top, left]
        if self.flip:
            images = torch.where((mirrored == 1).view(-1, 1, 1, 1), images.flip(3), images)
        return images


def _warped(images: Tensor, moved: Sequence[Tensor], fill: float) -> Tensor:
    """Images (B, C, H, W) of a Split as float32 in [0, 1], each rotated clockwise around its center
    and then moved, by (down, right, degrees) in pixels and degrees, (B,) each."""
    down, right, degrees = moved
    pixels = images.float() / 255 if images.dtype == torch.uint8 else images
    height, width = images.shape[2:]
    cos, sin = torch.deg2rad(degrees).cos(), torch.deg2rad(degrees).sin()
    # Where each pixel comes from, in units of half the image.
    ratio = height / width
    x, y = -2 * right / width, -2 * down / height
    rows = (
        [cos, sin * ratio, cos * x + sin * ratio * y],
        [-sin / ratio, cos, cos * y - sin / ratio * x],
    )
    matrix = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    # Outside of the image stands what is zero here.
    return F.grid_sample(pixels - fill, grid, align_corners=False) + fill


@dataclass(frozen=True)
class Dataset:
    """A data set in three splits. Objectives are measured on `val`; `test` is read once, at the
    end. `sha256` is the digest, in hex, of the images and labels of all splits. Features of a table
    are those that were read, which the digest is of, times the first of `standardized`, plus the
    second, (F, 1, 1) each: over `train` before max_train, their mean is 0 and their standard
    deviation 1."""

    train: Split
    val: Split
    test: Split
    n_classes: int
    augmentation: Augmentation
    sha256: str
    standardized: tuple[Tensor, Tensor] | None = None

    @property
    def normalization(self) -> dict[str, object]:
        """The dtype of the data, and the constants of what the network takes: data * scale +
        offset. Those of a table have a number for each feature, as it was read."""
        kind = str(self.train.images.dtype).removeprefix("torch.")
        if self.standardized is not None:
            scale, offset = (of.flatten().tolist() for of in self.standardized)
            return {"from": kind, "scale": scale, "offset": offset}
        return {"from": kind, "scale": 1 / 255 if kind == "uint8" else 1.0, "offset": OFFSET}

    @property
    def in_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def to(self, device: torch.device) -> "Dataset":
        train, val, test = (split.to(device) for split in (self.train, self.val, self.test))
        return replace(self, train=train, val=val, test=test)


def normalized(images: Tensor) -> Tensor:
    """Images of a Split -> float32 in [-0.5, 0.5], channels_last; features of a table, float64 (N,
    F, 1, 1), stay, as float32: they are standardized.

    >>> study.normalized(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
    tensor([[[[-0.5000,  0.5000]]]])
    """
    pixels = images.to(torch.float32, memory_format=torch.channels_last)
    if images.dtype == torch.float64 and images.shape[2:] == (1, 1):
        return pixels
    return (pixels / 255 if images.dtype == torch.uint8 else pixels) + OFFSET


def batches(
    split: Split, batch_size: int, generator: torch.Generator | None = None
) -> tuple[Tensor, ...]:
    """int64 indices of all images of a split, on its device, in batches of at most batch_size whose
    sizes differ by at most one: BatchNorm would suffer from a small last batch. The order is random
    if a generator, on the CPU, is given."""
    n = len(split)
    order = torch.arange(n) if generator is None else torch.randperm(n, generator=generator)
    return order.to(split.labels.device).tensor_split(-(-n // batch_size))
