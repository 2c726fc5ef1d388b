"""Data sets of the user's own: what a study file's `data.name: package.module:function` gives."""

import operator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from study.config.imports import called, users_code
from study.errors import ConfigError
from study.trial.data.tensors import Augmentation

_KEY = "data.name"
# The range of pixels by their dtype, where the user gives none.
_OF_BYTES, _OF_FLOATS = (0.0, 255.0), (0.0, 1.0)
# The largest feature: to standardize features takes their squares, in float64.
_LARGEST = torch.finfo(torch.float32).max
_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True)
class Dataset:
    """Images or tables of features, with labels, as tensors or arrays.

    Attributes:
        images: (N, C, H, W), uint8 or of a floating-point type, all finite; or features (N, F),
            with data.table: true, which become standardized, the unit of their radii.
        labels: (N,), whole numbers from 0 to n_classes - 1.
        n_classes: at least 2.
        test_images, test_labels: a test set like `images` and `labels`; if None, a part of those,
            data.test_fraction, becomes it. The validation split always comes from `images`.
        pixel_range: the least and the largest possible pixel, black and white: no pixel is outside.
            Radii are in pixels of [0, 1], to which this range is mapped.
        augmentation: of training images; None for none. data.shift and data.flip replace its parts.
            A table has neither this nor a pixel_range.
    """

    images: Any
    labels: Any
    n_classes: int
    test_images: Any = None
    test_labels: Any = None
    pixel_range: tuple[float, float] | None = None
    augmentation: Augmentation | None = None


def read(path: str, root: str) -> Dataset:
    """The data that the function at an import path gives for a root, as tensors: images uint8 in
    [0, 255] or float32 in [0, 1], or features float64 (N, F, 1, 1); labels int64. Raises
    ConfigError for data that is not as `Dataset` says, and OwnCodeError if the function fails."""
    rule = f"{path} must give a study.Dataset, a map-style data set of images with labels, or a "
    with users_code(f"{rule}pair of these, training and test", _KEY, f"the data function {path}"):
        given = called(path)(root)
        return _checked(given if isinstance(given, Dataset) else collected(given))


def _checked(data: Dataset) -> Dataset:
    images, labels = _tensors("images", data.images, data.labels, data)
    _require(
        (data.test_images is None) == (data.test_labels is None),
        "test_images and test_labels must be given together, but one is None",
    )
    test_images = test_labels = None
    if data.test_images is not None:
        test_images, test_labels = _tensors("test_images", data.test_images, data.test_labels, data)
        like, found = ((tuple(part.shape[1:]), part.dtype) for part in (images, test_images))
        _require(like == found, f"test_images must be like images, {like}, but are {found}")
    return replace(
        data, images=images, labels=labels, test_images=test_images, test_labels=test_labels
    )


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise ConfigError(rule, _KEY)


def _tensors(name: str, images: Any, labels: Any, data: Dataset) -> tuple[Tensor, Tensor]:
    """Returns (images, labels) as `read` gives them, checked; messages call the images `name`."""
    n_classes = data.n_classes
    _require(
        type(n_classes) is int and n_classes >= 2,
        f"n_classes must be a whole number >= 2, but is {n_classes!r:.40}",
    )
    pixels, classes = torch.as_tensor(images), torch.as_tensor(labels)
    is_bytes = pixels.dtype == torch.uint8
    is_table = pixels.dim() == 2
    _require(
        (is_table or pixels.dim() == 4)
        and pixels.numel() > 0
        and (is_bytes or pixels.is_floating_point()),
        f"{name} must be (N, C, H, W), or a table (N, F), uint8 or of a floating-point type, but "
        f"are {tuple(pixels.shape)}, {pixels.dtype}",
    )
    is_plain = data.pixel_range is None and data.augmentation is None
    _require(is_plain or not is_table, "a table must have no pixel_range and no augmentation")
    _require(
        classes.shape == pixels.shape[:1] and classes.dtype in _WHOLE,
        f"labels of {name} must be ({len(pixels)},), whole numbers, but are "
        f"{tuple(classes.shape)}, {classes.dtype}",
    )
    by_type = (-_LARGEST, _LARGEST) if is_table else _OF_BYTES if is_bytes else _OF_FLOATS
    low, high = data.pixel_range or by_type
    _require(low < high, f"pixel_range must be the least and the largest, but is {low}, {high}")
    wrong_labels = (classes < 0) | (classes >= n_classes)
    # Negated, so that NaN counts as outside.
    wrong_pixels = ~((pixels >= low) & (pixels <= high)).flatten(1).all(dim=1)
    for what, wrong, values in (
        (f"labels of {name} must be from 0 to {n_classes - 1}", wrong_labels, classes),
        (f"pixels of {name} must be from {low:g} to {high:g}", wrong_pixels, pixels),
    ):
        for at in wrong.nonzero()[:1, 0].tolist():
            found = values[at].double()
            range_of = f"{found.min():g} to {found.max():g}"
            _require(False, f"{what}, but those of image {at} are {range_of}")
    if is_table:
        pixels = pixels.double()[:, :, None, None]
    elif not is_bytes or (low, high) != _OF_BYTES:
        pixels = ((pixels.double() - low) / (high - low)).float()
    return pixels.contiguous(), classes.long()


def collected(given: Any) -> Dataset:
    """The Dataset of a map-style data set, or of a pair of them: (training, test)."""
    parts = given if isinstance(given, tuple) else (given,)
    (images, labels), *of_test = map(_stacked, parts)
    classes = getattr(parts[0], "classes", None)
    n_classes = int(labels.max()) + 1 if classes is None else len(classes)
    if not of_test:
        return Dataset(images, labels, n_classes)
    (test,) = of_test
    return Dataset(images, labels, n_classes, *test)


def _stacked(part: Any) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W), or features (N, F), and labels (N,) of a map-style data set."""
    images, labels = zip(*(part[index] for index in range(len(part))), strict=True)
    return torch.stack(list(map(_pixels, images))), torch.tensor(list(map(operator.index, labels)))


def _pixels(image: Any) -> Tensor:
    """An image (C, H, W) from such a tensor, or a Pillow image or array (H, W) or (H, W, C);
    features (F,) as they are."""
    array = image if isinstance(image, Tensor) else torch.from_numpy(np.array(image))
    if isinstance(image, Tensor) or array.dim() == 1:
        return array
    return array.unsqueeze(0) if array.dim() == 2 else array.permute(2, 0, 1)
