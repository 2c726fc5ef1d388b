"""What is asked of a study beyond what it was begun with."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Wanted:
    """What is asked of a study that goes on, beyond what it was begun with.

    Attributes:
        n_trials: samples in all, more than before; None for as many as before.
        max_hours: of search in all, more than before; None for as many as before.
    """

    n_trials: int | None = None
    max_hours: float | None = None

    @property
    def is_something(self) -> bool:
        """Whether anything is asked for."""
        return self != Wanted()
