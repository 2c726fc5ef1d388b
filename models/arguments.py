"""The rules of the arguments that the public functions of this package are given. Needs no torch.

A rule that is broken gives an error of one line with the argument, the rule and the value:
TypeError for something of another kind, ValueError for a wrong value of the right kind.
"""

import math
import operator
from numbers import Real
from typing import Any


def check_kind(name: str, value: object, *kinds: type) -> None:
    """Refuse an argument that is of none of these classes."""
    if not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"{name} must be of type {wanted}, but got {described(value)}")


def number(name: str, value: object) -> float:
    """An argument as a real number; it may be a scalar of numpy or torch."""
    found: Any = value
    if hasattr(value, "item"):
        try:
            found = value.item()
        except (RuntimeError, ValueError) as error:  # more than one number, or none
            raise TypeError(f"{name} must be a number, but got {described(value)}") from error
    if not isinstance(found, Real):
        raise TypeError(f"{name} must be a number, but got {described(value)}")
    try:
        return float(found)
    except OverflowError:
        # Beyond the numbers of float64, and so beyond whatever it is compared with.
        return -math.inf if found < 0 else math.inf


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


def described(value: Any) -> str:
    """A value in an error message, in part of a line."""
    if hasattr(value, "layout"):  # a Tensor, by what no array of numpy has
        return f"a {value.dtype} Tensor of shape {tuple(value.shape)} on {value.device}"
    return f"{type(value).__name__}: {' '.join(repr(value).split()):.80}"
