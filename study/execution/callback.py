"""The base class of this project's Tune callbacks."""

from typing import Any

from ray.tune import Callback


class StudyCallback(Callback):
    """Observes a study. A subclass is a dataclass of its arguments; all other state is created by
    `setup`, which Tune calls before the first step.

    Tune pickles its callbacks, but a resumed study gets new ones, so an empty one is pickled.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return Callback, ()
