"""Arguments of a call, or options of a command, in the place of a study file's settings."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from study.config.extension import Wanted
from study.config.file import Asked, locate, study_of
from study.config.space import Value
from study.config.study import StudyConfig
from study.errors import ConfigError, LaunchError, renamed

# Argument -> the setting that it takes the place of.
_SETTINGS = {
    "name": "name",
    "trials": "search.n_trials",
    "max_hours": "search.max_hours",
    "epochs": "training.max_epochs",
    "seed": "search.seed",
    "data_root": "data.root",
    "download": "data.download",
    "cpus": "resources.cpus",
    "gpus": "resources.gpus",
}
# What may be asked of a study beyond what it was begun with; all else must be as it was.
_MORE = ("name", "trials", "max_hours")


def asked_for(
    space: str | Path | Mapping[str, Any] | StudyConfig, arguments: Mapping[str, Value]
) -> Asked:
    """A study as a file, or what stands in its place, and arguments ask for it.

    Args:
        space: as for `study.run`.
        arguments: by their names there; None for one that is not given.

    Raises:
        ConfigError: in one line, whatever is wrong.
    """
    with by_arguments(arguments):
        return study_of(space, settings(arguments))


def settings(arguments: Mapping[str, Value]) -> dict[str, Value]:
    """The settings that arguments say, by their keys in a study file."""
    return {_SETTINGS[name]: value for name, value in arguments.items() if value is not None}


def settings_to_keep(arguments: Mapping[str, Value]) -> dict[str, Value]:
    """Likewise, those that a study that goes on must have already."""
    return settings({name: value for name, value in arguments.items() if name not in _MORE})


def wanted(arguments: Mapping[str, Any]) -> Wanted:
    """What arguments ask of a study beyond what it was begun with."""
    return Wanted(arguments["trials"], arguments["max_hours"])


@contextmanager
def by_arguments(arguments: Mapping[str, Value]) -> Iterator[None]:
    """An error about a setting that an argument says is about that argument."""
    given = {_SETTINGS[name]: name for name, value in arguments.items() if value is not None}
    with renamed(given):
        yield


def source_of(space: str) -> str:
    """What a study remembers its file by.

    Raises:
        LaunchError: if there is no such file or shipped study.
    """
    try:
        return str(locate(space).resolve())
    except ConfigError as error:
        raise LaunchError(f"{error}; a study of that name is meant by its name alone") from error
