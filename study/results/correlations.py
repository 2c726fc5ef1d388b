"""Rank correlations of hyperparameters with objectives, for which a dozen trainings are enough."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FEWEST_TRIALS = 8
"""Fewest trainings: with fewer, the interval of no correlation is nearly all of [-1, 1]."""
_Z = 1.96  # of a normal distribution, for 95 %


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation, in [-1, 1], with its approximate 95 % interval: Fisher's
    transform, with the variance of Bonett and Wright (Psychometrika 65, 2000)."""

    low: float
    value: float
    high: float


def correlations(
    samples: Sequence[Mapping[str, object]], values: Sequence[float]
) -> dict[str, Correlation]:
    """Hyperparameter -> its rank correlation with an objective, the strongest first.

    Args:
        samples: n samples of a space; hyperparameters that are not numbers, are absent from some
            samples or do not vary are left out.
        values: the objective of each of the n samples; those that are not finite are left out.
    """
    # It takes tenths of a second to import.
    import pandas as pd

    frame = pd.DataFrame([dict(sample) for sample in samples])
    measured = pd.Series(values, dtype="float64")
    is_finite = measured.map(math.isfinite)
    frame, measured = frame[is_finite], measured[is_finite]
    if len(measured) < FEWEST_TRIALS or measured.nunique() < 2:
        return {}
    found = {}
    for name in frame.select_dtypes("number"):
        column = frame[name]
        if column.notna().all() and column.nunique() > 1:
            rank_correlation = column.rank().corr(measured.rank())
            found[str(name)] = _with_interval(float(rank_correlation), len(measured))
    return dict(sorted(found.items(), key=lambda item: -abs(item[1].value)))


def _with_interval(value: float, n: int) -> Correlation:
    value = max(-1.0, min(1.0, value))
    if abs(value) == 1:
        return Correlation(value, value, value)
    half = _Z * math.sqrt((1 + value**2 / 2) / (n - 3))
    low, high = (math.tanh(math.atanh(value) + side * half) for side in (-1, 1))
    return Correlation(low, value, high)
