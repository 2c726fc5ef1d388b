"""What may be asked of a study that goes on: more trials or hours, but no other settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from study.config.space import Value
from study.config.study import StudyConfig
from study.errors import LaunchError, quoted


@dataclass(frozen=True)
class Wanted:
    """The limits that a study is to go on with.

    Attributes:
        n_trials: samples in total, more than before; None for as many as before.
        max_hours: hours of search in total, more than before; None for as many as before.
    """

    n_trials: int | None = None
    max_hours: float | None = None

    @property
    def is_something(self) -> bool:
        """Whether anything is asked for."""
        return self != Wanted()


def check_same(study: StudyConfig, said: Mapping[str, Value]) -> None:
    """Check that a study has these settings.

    Args:
        said: key of a study file -> value.

    Raises:
        LaunchError: for the first setting that differs.
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
