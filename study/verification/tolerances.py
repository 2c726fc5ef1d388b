"""How far a figure that is measured again may be from the stored one, and why.

Another processor adds in another order, so that last bits differ. What that can change depends on
the quantity.
"""

import math
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from study.metrics.definitions import INVERSE_STEPS, LOST_TO_ROUNDING

MOST_IMAGES = 0.002
"""The largest fraction of the images of a split that may be classified, certified or attacked with
another result: those whose margin is within the last bits."""
_MOST_APART = 0.02
# The absolute difference that is allowed between figures as small as rounding.
_ROUNDING = 2e-6
_UNIT = 2.0**-24


class _Tolerance(NamedTuple):
    """How far some quantities may be off, and why. `rounding` is the error that rounding may cause
    in an inverse."""

    why: str
    applies: Callable[[Sequence[str], float], bool]  # to a quantity, by its keys and `rounding`
    holds: Callable[[float, float, float], bool]  # stored, measured here, `rounding`


def _is_near(theirs: float, ours: float) -> bool:
    return math.isclose(theirs, ours, rel_tol=_MOST_APART)


def _is_error_of_rounding(theirs: float, ours: float, rounding: float) -> bool:
    times = 100.0 if is_amplified(rounding) else 10.0
    small = ours <= rounding and abs(theirs - ours) <= rounding
    return _is_near(theirs, ours) or (small and theirs >= ours / times)


_GIVEN = {"architecture", "data", "n_images", "n_samples", "n_steps", "rtol"}
_NEEDED = {INVERSE_STEPS, "needed_steps_mean", "needed_steps_max"}
# The first that applies decides.
_TOLERANCES = (
    _Tolerance(
        "what is given, or infinite, is not measured: it is equal",
        lambda keys, rounding: not _GIVEN.isdisjoint(keys),
        lambda theirs, ours, rounding: theirs == ours,
    ),
    _Tolerance(
        "an image within the last bits of a margin may be counted otherwise",
        lambda keys, rounding: keys[-1].endswith("_accuracy") or keys[-1] == LOST_TO_ROUNDING,
        lambda theirs, ours, rounding: abs(theirs - ours) <= MOST_IMAGES,
    ),
    _Tolerance(
        "where the inverse amplifies last bits they decide its iterates, and so several steps",
        lambda keys, rounding: is_amplified(rounding) and keys[-1] in _NEEDED,
        lambda theirs, ours, rounding: abs(theirs - ours) <= 5,
    ),
    _Tolerance(
        "a step whose length is within last bits of the tolerance may be one more or less",
        lambda keys, rounding: keys[-1] in {"predicted_steps", "needed_steps_max"},
        lambda theirs, ours, rounding: abs(theirs - ours) <= 1,
    ),
    _Tolerance(
        "a larger bound is a weaker claim; a smaller one may be of an inverse that happened to be "
        "nearer",
        lambda keys, rounding: keys[-1] in {"error_bound", "image_error_bound"},
        lambda theirs, ours, rounding: _is_near(theirs, ours) or theirs >= ours / 10,
    ),
    _Tolerance(
        "an error of the size of rounding is decided by last bits, by so large a factor",
        lambda keys, rounding: keys[-1].endswith("_error"),
        _is_error_of_rounding,
    ),
    _Tolerance(
        "sums of other orders are a little apart",
        lambda keys, rounding: True,
        lambda theirs, ours, rounding: _is_near(theirs, ours) or abs(theirs - ours) <= _ROUNDING,
    ),
)


def is_same(name: str, theirs: float, ours: float, rounding: float) -> bool:
    """Whether another processor might measure `theirs`, the stored figure, where this one measures
    `ours`. `name` is the figure's keys joined by dots; `rounding` is the error that rounding alone
    may cause in an inverse, l2, relative to the image."""
    if abs(theirs) > sys.float_info.max:
        return theirs == ours
    keys = name.split(".")
    allowed = next(one for one in _TOLERANCES if one.applies(keys, rounding))
    return allowed.holds(theirs, ours, rounding)


def error_of_inverse(inverse_lipschitz_upper_bound: float) -> float:
    """The error that rounding in float32 alone may cause in an inverse with this bound of its
    Lipschitz constant, l2, relative to the image."""
    bound = inverse_lipschitz_upper_bound
    return max(_ROUNDING, _UNIT * bound if bound < math.inf else 0.0)


def is_amplified(rounding: float) -> bool:
    """Whether an inverse amplifies rounding to an error that is larger than rounding itself."""
    return rounding > _ROUNDING
