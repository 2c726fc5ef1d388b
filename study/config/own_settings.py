"""The settings that a study was begun with, beside those that are said when it goes on."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from study.config.file import study_of
from study.config.space import Value
from study.config.study import StudyConfig
from study.errors import ConfigError, LaunchError, quoted, some

# They are of where a study is run, and of the command.
_OF_THE_PLACE = ("name", "data.root", "search.notify")
# What may have been asked for since.
_EXTENDED = ("search.n_trials", "search.max_hours")


def check_same(study: StudyConfig, said: Mapping[str, tuple[str, Value]]) -> None:
    """Whether what is said is what the study has.

    Args:
        said: key of a study file -> the option that says it, and its value.

    Raises:
        LaunchError: for the first setting that the study has otherwise.
    """
    own = dict(_settings(study))
    for key, (option, value) in said.items():
        if key == "data.root":
            value = str(Path(str(value)).resolve())
        if key in own and own[key] == value:
            continue
        has = quoted(own[key]) if key in own else "a searched value"
        hint = "; --train says which trainings have more" if key == "training.max_epochs" else ""
        raise LaunchError(
            f"{option}: a study that goes on must have its own settings, and {study.name} has "
            f"{has} here, but got {quoted(value)}{hint}"
        )


def changed_in_file(study: StudyConfig, source: str, is_extended: bool = False) -> str | None:
    """What the study's file says otherwise than the study has it, in a line; None if that is
    nothing, or there is no such file.

    Args:
        source: path of the file.
        is_extended: whether the study was given more samples or hours than it was begun with.
    """
    if not Path(source).is_file():
        return None
    try:
        in_file, _ = study_of(source, {})
    except ConfigError as error:
        return f"{study.name} goes on with its own settings; its file cannot be read now: {error}"
    expected = (*_OF_THE_PLACE, *(_EXTENDED if is_extended else ()))
    own, new = dict(_settings(study)), dict(_settings(in_file))
    changed = [
        key
        for key in sorted(own.keys() | new.keys())
        if own.get(key) != new.get(key) and key not in expected
    ]
    if not changed:
        return None
    return (
        f"{study.name} goes on with its own settings; {source} says otherwise by now: "
        f"{some([f'{key} is {own.get(key)} here and {new.get(key)} there' for key in changed])}"
    )


def _settings(study: StudyConfig) -> Iterator[tuple[str, object]]:
    """(key of the study file, value) of each setting; a list and a searched parameter are one."""
    for section, content in study.to_dict().items():
        if isinstance(content, dict):
            yield from ((f"{section}.{key}", value) for key, value in content.items())
        else:
            yield section, content
