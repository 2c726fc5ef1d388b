"""The base of Tune's callbacks: nothing of them outlives the driver."""

from typing import Any

from ray.tune import Callback


class StudyCallback(Callback):
    """Watches a study. A subclass is a dataclass: its fields are what it was given. All else is
    made by `setup`, which Tune calls before the first step.

    Tune pickles its callbacks with the tuner. A study that goes on gets new ones, so an empty one
    is pickled in their place.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return Callback, ()
