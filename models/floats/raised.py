"""Margins that protect bounds from rounding, and products of bounds that are rounded up."""

import math
from collections.abc import Iterable

ROOM = 1e-9
"""Relative margin by which every bound is wider than what was proven in float64: on another
processor the last bits of the same proof may be higher, and must still be below the bound."""
SEARCH_ROOM = 1e-4
"""Relative margin by which a certificate widens bounds that come from a search: on another
processor the search may end at a slightly larger bound."""
# The factor by which a bound is widened.
UP = 1 + ROOM
LEAST_EXPONENT = -1000
"""Exponent of two of the least positive bound: smaller ones, near underflow, are raised to it."""
LEAST = 2.0**LEAST_EXPONENT


def raised_product(factors: Iterable[float], exponent: int = 0) -> float:
    """An upper bound of 2^exponent times the product of numbers >= 0: that product times UP, but at
    least LEAST. Infinite if a factor is infinite or NaN, zero only if a factor is zero."""
    mantissa = 1.0
    for factor in factors:
        if not factor < math.inf:
            return math.inf
        # The exponents are kept apart, so that no product of nonzero numbers underflows.
        mantissa, more = math.frexp(mantissa * math.frexp(factor)[0])
        exponent += more + math.frexp(factor)[1]
    return scaled_up(mantissa * UP, exponent)


def scaled_up(value: float, exponent: int) -> float:
    """Upper bound of value * 2^exponent for value >= 0; zero only for zero, infinite for NaN."""
    if not 0 < value < math.inf:
        return math.inf if math.isnan(value) else value
    if math.frexp(value)[1] + exponent <= LEAST_EXPONENT:
        return LEAST
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.inf


def scaled_down(value: float, exponent: int) -> float:
    """Lower bound of value * 2^exponent for value >= 0."""
    if not 0 < value < math.inf or math.frexp(value)[1] + exponent <= LEAST_EXPONENT:
        return 0.0
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.ldexp(0.5, 1024)
