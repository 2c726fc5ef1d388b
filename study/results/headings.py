"""What the table prints over the columns of metrics and hyperparameters, which conditions take for
their names."""

from collections.abc import Iterable

from study.metrics.definitions import METRICS

# Longer names of hyperparameters are cut.
_LONGEST = 8


def heading(hyperparameter: str) -> str:
    """What stands over its column: its name, or of a long one the first two words, cut."""
    if len(hyperparameter) <= _LONGEST:
        return hyperparameter
    return "_".join(word[:3] for word in hyperparameter.split("_")[:2])


def names_of_headings(hyperparameters: Iterable[str]) -> dict[str, str]:
    """Heading -> name, of every metric and of these hyperparameters, where the two differ."""
    return {
        **{heading(name): name for name in hyperparameters if heading(name) != name},
        **{metric.short: name for name, metric in METRICS.items()},
    }
