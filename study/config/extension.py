"""What is asked of a study that goes on: more of it, and all else as it was begun."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from study.config.space import Value
from study.config.study import StudyConfig
from study.errors import LaunchError, quoted


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


def check_same(study: StudyConfig, said: Mapping[str, Value]) -> None:
    """Whether what is said is what the study has.

    Args:
        said: key of a study file -> value.

    Raises:
        LaunchError: for the first setting that the study has otherwise.
    """
    own = study.settings()
    for key, value in said.items():
        if key == "data.root":
            value = str(Path(str(value)).resolve())
        if key not in own:
            rule = f"must be left out, since {study.name} searches it"
            raise LaunchError(rule, key, value)
        if own[key] != value:
            rule = f"must be {quoted(own[key])}, as {study.name} was begun with"
            raise LaunchError(rule, key, value)
