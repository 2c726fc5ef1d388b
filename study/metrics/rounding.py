"""How numbers are rounded and written: to nearest, or so that what is proven stays proven."""

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal


@dataclass(frozen=True)
class Decimals:
    """Rounding to n decimal places."""

    n: int

    def round(self, value: float) -> float:
        """A value as it is reported; non-finite values stay."""
        return round(value, self.n) if math.isfinite(value) else value


@dataclass(frozen=True)
class Digits:
    """Rounding to n significant digits, to nearest or up: a bound rounded up is still a bound."""

    n: int
    up: bool = False

    def round(self, value: float) -> float:
        """A value as it is reported; non-finite values stay."""
        if not math.isfinite(value):
            return value
        context = Context(prec=self.n, rounding=ROUND_CEILING if self.up else ROUND_HALF_EVEN)
        # Rounds the number as printed: 0.1 stays, though its double is a little larger.
        return float(context.create_decimal(repr(value)))


def number_text(value: float, n_digits: int = 4) -> str:
    """A number with n_digits significant digits, without an exponent from 0.0001 to a million; the
    page writes numbers in the same way."""
    text = f"{value:.{n_digits}g}"
    return f"{float(text):.0f}" if "e+" in text and abs(float(text)) < 1e6 else text


def radius_text(radius: float) -> str:
    """A radius > 0 as text: exact if it has at most four digits or is a
    multiple of 1/255; otherwise rounded down, since what holds within a radius holds within a
    smaller one."""
    short = f"{radius:.4g}"
    if float(short) == radius:
        return short
    levels = radius * 255
    if levels < math.inf and round(levels) / 255 == radius:
        return f"{round(levels)}/255"
    context = Context(prec=4, rounding=ROUND_FLOOR)
    return f"{float(context.create_decimal(repr(radius))):g}"


def decimals_text(value: float, n: int, exponent: int = 0, rounding: str = ROUND_HALF_EVEN) -> str:
    """value / 10**exponent with n decimals, or for n < 0 as a multiple of 10**-n, by a rounding
    mode of `decimal`."""
    step = Decimal(1).scaleb(-n)
    steps = (Decimal(repr(float(value))).scaleb(-exponent) / step).to_integral_value(rounding)
    return f"{steps * step:.{max(n, 0)}f}"
