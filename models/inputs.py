"""The rules of what the public functions of this package are given.

A rule that is broken gives an error of one line with the argument, the rule and the value:
TypeError for something of another kind, ValueError for a wrong value of the right kind.
"""

import math
import operator
from numbers import Real

import torch
from torch import Tensor


def check_kind(name: str, value: object, *kinds: type) -> None:
    """Refuse an argument that is of none of these classes."""
    if not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"{name} must be of type {wanted}, but got {described(value)}")


def number(name: str, value: object) -> float:
    """The real number that an argument is, which may be one of numpy or torch."""
    if (
        isinstance(value, Tensor)
        and value.numel() == 1
        and not (value.is_complex() or value.is_meta)
    ):
        return float(value)
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, but got {described(value)}")
    try:
        return float(value)
    except OverflowError:
        # Beyond the numbers of float64, and so beyond whatever it is compared with.
        return -math.inf if value < 0 else math.inf


def whole_number(name: str, value: object) -> int:
    """The whole number that an argument is, which may be one of numpy or torch; of 64 bits."""
    try:
        whole = operator.index(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise TypeError(f"{name} must be a whole number, but got {described(value)}") from error
    if not -(2**63) <= whole < 2**63:
        raise ValueError(f"{name} must have 64 bits, but got {described(value)}")
    return whole


def count(name: str, value: object, least: int) -> int:
    """The whole number >= least that an argument is."""
    whole = whole_number(name, value)
    if whole < least:
        raise ValueError(f"{name} >= {least} must hold, but got {name}={whole}")
    return whole


def check_maps(name: str, maps: object, shape: tuple[int, ...], weight: Tensor | None) -> None:
    """Refuse what is no Tensor (B, *shape), or not on the device of a weight of the network."""
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
    """Refuse maps of another dtype than a weight of the network. With `autocast`, maps of any
    floating-point dtype are taken where it is on, which converts them."""
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
    """Labels as int64 (B,), on their device. Refuse what is not one whole number from 0 to
    n_classes - 1 for each image."""
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


def described(value: object) -> str:
    """A value in an error message, in part of a line."""
    if isinstance(value, Tensor):
        return f"a {value.dtype} Tensor of shape {tuple(value.shape)} on {value.device}"
    return f"{type(value).__name__}: {' '.join(repr(value).split()):.80}"
