"""Arguments of a call, or options of a command, that replace settings of a study file."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from study.config.file import Asked, locate, study_of
from study.config.parser import CONDITIONS
from study.config.space import Value
from study.config.study import StudyConfig
from study.errors import ConfigError, LaunchError, UserError, renamed

SETTINGS = {
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
"""Argument -> the setting that it replaces."""


def asked_for(
    space: str | Path | Mapping[str, Any] | StudyConfig, arguments: Mapping[str, Value]
) -> Asked:
    """The study that `space` and arguments describe. Raises ConfigError for the first mistake."""
    return study_of(space, settings(arguments))


def settings(arguments: Mapping[str, Value]) -> dict[str, Value]:
    """Key of a setting -> the value that an argument of `study.run` gives it; arguments that are
    None are left out."""
    return {SETTINGS[name]: value for name, value in arguments.items() if value is not None}


def conditions_in(text: str) -> dict[str, float]:
    """The conditions in a text such as "coeff=0.1,margin=0.4". Raises UserError for another."""
    pairs = [pair.partition("=") for pair in text.split(",")]
    with suppress(ValueError):
        conditions = {name: float(value) for name, _, value in pairs}
        if conditions.keys() <= set(CONDITIONS):
            return conditions
    raise UserError("must be such as coeff=0.1,margin=0.4", "at", text)


def by_arguments(arguments: Mapping[str, Value]) -> AbstractContextManager[None]:
    """Name the argument, not the setting that it replaces, in errors raised within the context."""
    return renamed({SETTINGS[name]: name for name, v in arguments.items() if v is not None})


def source_of(space: str) -> str:
    """Absolute path of a study file, given its path or the bare name of a shipped study.
    LaunchError for a bare name that is neither; other paths need not exist."""
    try:
        return str(locate(space).resolve())
    except ConfigError as error:
        raise LaunchError(f"{error}; a study of that name is meant by its name alone") from error
