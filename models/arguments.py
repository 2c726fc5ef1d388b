"""Checks of the arguments that public functions of this package are given. Needs no torch.

A broken rule raises an error of one line with the argument, the rule and the value: TypeError for a
value of the wrong type, ValueError for a wrong value of the right type.
"""

import math
import operator
from numbers import Real
from typing import Any


def check_kind(name: str, value: object, *kinds: type) -> None:
    """Raise TypeError unless an argument is an instance of one of these classes."""
    if not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"{name} must be of type {wanted}, but got {described(value)}")


def number(name: str, value: object) -> float:
    """The argument, also a scalar of numpy or torch, as a float. Raises TypeError if it is none."""
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
    """The argument as an int; it may be an integer of numpy or torch, of at most 64 bits."""
    try:
        whole = operator.index(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise TypeError(f"{name} must be a whole number, but got {described(value)}") from error
    if not -(2**63) <= whole < 2**63:
        raise ValueError(f"{name} must have 64 bits, but got {described(value)}")
    return whole


def count(name: str, value: object, least: int) -> int:
    """The argument as an int. Raises ValueError if it is below `least`."""
    whole = whole_number(name, value)
    if whole < least:
        raise ValueError(f"{name} >= {least} must hold, but got {name}={whole}")
    return whole


def described(value: Any) -> str:
    """A value as part of a one-line error message: a Tensor by its shape, others by their repr."""
    if hasattr(value, "layout"):  # a Tensor, by what no array of numpy has
        return f"a {value.dtype} Tensor of shape {tuple(value.shape)} on {value.device}"
    return f"{type(value).__name__}: {' '.join(repr(value).split()):.80}"
