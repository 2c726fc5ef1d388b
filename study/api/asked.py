"""Arguments of a call, or options of a command, in the place of a study file's settings."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


def asked_for(
    space: str | Path | Mapping[str, Any] | StudyConfig, arguments: Mapping[str, Value]
) -> Asked:
    """The study that a file, or what stands in its place, and arguments of `study.run` describe.
    Raises ConfigError for the first mistake."""
    return study_of(space, settings(arguments))


def settings(arguments: Mapping[str, Value]) -> dict[str, Value]:
    """The settings that arguments of `study.run` say, by their keys in a study file; an argument
    that is None says nothing."""
    return {_SETTINGS[name]: value for name, value in arguments.items() if value is not None}


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
