"""The settings that a study was begun with, beside those that are said when it goes on."""

from collections.abc import Collection, Mapping
from pathlib import Path

from study.config.file import study_of
from study.config.space import Value
from study.config.study import StudyConfig
from study.errors import ConfigError, LaunchError, quoted, some

# They are of where a study is run, and of the command.
_OF_THE_PLACE = ("name", "data.root")
# What may have been asked for since.
_EXTENDED = ("search.n_trials", "search.max_hours")


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


def changed_in_file(
    study: StudyConfig, source: str, options: Collection[str] | None, is_extended: bool = False
) -> str | None:
    """What the study's file says otherwise than the study, in a line; None if that is nothing, or
    there is no such file.

    Args:
        source: path of the file.
        options: keys of the study that options gave, in the file's place; None where that is not
            known.
        is_extended: whether the study was given more samples or hours than it was begun with.
    """
    if not Path(source).is_file():
        return None
    try:
        new = study_of(source).config.settings()
    except ConfigError as error:
        return f"{study.name} goes on with its own settings; its file cannot be read now: {error}"
    own = study.settings()
    expected = {*_OF_THE_PLACE, *(options or ()), *(_EXTENDED if is_extended else ())}
    changed = [
        f"{key} {new.get(key, 'nothing')}, not {own.get(key, 'nothing')}"
        for key in sorted((own.keys() | new.keys()) - expected)
        if own.get(key) != new.get(key)
    ]
    if not changed:
        return None
    # Where options are not known, it may be they that differ.
    what = "has changed" if options is not None else "differs"
    return f"{study.name} goes on with its own settings; {source} {what}: {some(changed)}"
