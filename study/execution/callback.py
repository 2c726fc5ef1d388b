"""The base of Tune's callbacks: what of them outlives the driver."""

from dataclasses import dataclass, fields
from typing import Any

from ray.tune import Callback


@dataclass(eq=False)
class StudyCallback(Callback):
    """Watches a study. A subclass is a dataclass: its fields are what it was given.

    Tune pickles its callbacks with the tuner, from which --resume brings them back. The fields
    are kept, and what several callbacks share they still share. All else belongs to one process,
    and is made by `setup`, which Tune calls before the first step.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}
