"""Bounds that rounding cannot lower: the margins by which they are raised, and their products."""

import math
from collections.abc import Iterable

ROOM = 1e-9
"""Relative margin by which every bound is wider than what was proven in float64: on another
processor the same proof may be a few of its last bits higher, and must still be below it."""
SEARCH_ROOM = 1e-4
"""Relative margin by which a certificate widens bounds that come from a search: with other last
bits the search ends elsewhere, and may prove a little less."""
# The factor by which a bound is widened.
UP = 1 + ROOM
LEAST_EXPONENT = -1000
"""Exponent of two: bounds below it are close to what float64 rounds to zero, and are raised to
it."""
LEAST = 2.0**LEAST_EXPONENT


def raised_product(factors: Iterable[float], exponent: int = 0) -> float:
    """An upper bound of the product of numbers >= 0 and of 2^exponent, above it by rounding alone;
    infinite if one is infinite or NaN, zero only if one of them is zero."""
    mantissa = 1.0
    for factor in factors:
        if not factor < math.inf:
            return math.inf
        # Apart from its exponent, no product of numbers that are not zero underflows.
        mantissa, more = math.frexp(mantissa * math.frexp(factor)[0])
        exponent += more + math.frexp(factor)[1]
    return scaled_up(mantissa * UP, exponent)


def scaled_up(value: float, exponent: int) -> float:
    """value * 2^exponent or more, for a value >= 0; zero for zero alone, infinite for NaN."""
    if not 0 < value < math.inf:
        return math.inf if math.isnan(value) else value
    if math.frexp(value)[1] + exponent <= LEAST_EXPONENT:
        return LEAST
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.inf


def scaled_down(value: float, exponent: int) -> float:
    """value * 2^exponent or less, for a value >= 0."""
    if not 0 < value < math.inf or math.frexp(value)[1] + exponent <= LEAST_EXPONENT:
        return 0.0
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.ldexp(0.5, 1024)
