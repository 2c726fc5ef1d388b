"""Numbers as MLflow stores them: it keeps an infinite metric as the largest double."""

import math

_LARGEST = 1.7976931348623157e308


def stored(value: float) -> float:
    """A value as MLflow will give it back."""
    return math.copysign(_LARGEST, value) if math.isinf(value) else value


def restored(value: float) -> float:
    """The value that MLflow was given."""
    return math.copysign(math.inf, value) if abs(value) >= _LARGEST else value
