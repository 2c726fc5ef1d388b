"""Checks of the feature maps and labels that public functions of this package are given."""

import torch
from torch import Tensor

from models.arguments import described


def check_maps(name: str, maps: object, shape: tuple[int, ...], weight: Tensor | None) -> None:
    """Raise unless maps are a dense, real Tensor (B, *shape) on the device of `weight`, a weight of
    the network: TypeError for anything but a Tensor, ValueError otherwise."""
    if not isinstance(maps, Tensor):
        raise TypeError(f"{name} must be a Tensor, but got {described(maps)}")
    if maps.dim() != len(shape) + 1 or maps.shape[1:] != shape:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{name} must have the shape (B, {wanted}), but got {described(maps)}")
    if maps.layout != torch.strided or maps.is_complex():
        raise ValueError(f"{name} must be dense and real, but got {described(maps)}")
    if weight is not None and maps.device != weight.device:
        raise ValueError(
            f"{name} must be on {weight.device}, as the weights are, but got {described(maps)}"
        )


def check_precision(
    name: str, maps: Tensor, weight: Tensor | None, *, autocast: bool = False
) -> None:
    """Raise ValueError for maps of another dtype than `weight`, a weight of the network. With
    `autocast`, maps of any floating-point dtype pass where autocast is on, which converts them."""
    if weight is None or maps.dtype == weight.dtype:
        return
    if not (autocast and maps.is_floating_point() and torch.is_autocast_enabled(maps.device.type)):
        raise ValueError(
            f"{name} must be {weight.dtype}, as the weights are, but got {described(maps)}"
        )


def check_not_empty(name: str, maps: Tensor) -> None:
    """Refuse a batch without samples."""
    if len(maps) == 0:
        raise ValueError(f"{name} must be one or more, but got {described(maps)}")


def checked_labels(labels: object, n_images: int, n_classes: int) -> Tensor:
    """Labels as int64 (n_images,), on their own device. Raises TypeError for no Tensor, ValueError
    unless they are one whole number from 0 to n_classes - 1 for each image."""
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels must be of type Tensor, but got {described(labels)}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be whole numbers, but got {described(labels)}")
    if labels.shape != (n_images,):
        raise ValueError(
            f"labels must have the shape ({n_images},), one for each image, but got "
            f"{described(labels)}"
        )
    if labels.is_meta or labels.layout != torch.strided:
        raise ValueError(f"labels must have values, but got {described(labels)}")
    whole = labels.to(torch.int64)  # torch compares no unsigned numbers of 16 bits and more
    wrong = whole[(whole < 0) | (whole >= n_classes)]
    if len(wrong) > 0:
        raise ValueError(f"labels must be from 0 to {n_classes - 1}, but got {int(wrong[0])}")
    return whole
