"""The base class of this project's Tune callbacks."""

from typing import Any

from ray.tune import Callback


class StudyCallback(Callback):
    """Observes a study. Subclasses are dataclasses whose fields are their arguments; all other
    state is created by `setup`, which Tune calls before the first step.

    Tune pickles its callbacks with the tuner. A resumed study gets new callbacks, so each is
    pickled as an empty `Callback`.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return Callback, ()
