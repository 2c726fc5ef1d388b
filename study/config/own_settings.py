"""The settings that a study was begun with, beside those that are said when it goes on."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from study.config.file import study_of
from study.config.space import Value
from study.config.study import SECTION_OF, StudyConfig
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
        raise LaunchError(
            f"{option}: a study that goes on must have its own settings, and {study.name} has "
            f"{has} here, but got {quoted(value)}"
        )


def changed_in_file(
    study: StudyConfig, source: str, options: Collection[str] | None, is_extended: bool = False
) -> str | None:
    """What the study's file says otherwise than it did when the study began, in a line; None if
    that is nothing, or there is no such file.

    Args:
        source: path of the file.
        options: keys of the study that options gave, in the file's place; None where that is not
            known.
        is_extended: whether the study was given more samples or hours than it was begun with.
    """
    if not Path(source).is_file():
        return None
    try:
        in_file = study_of(source, {}).config
    except ConfigError as error:
        return f"{study.name} goes on with its own settings; its file cannot be read now: {error}"
    expected = {*_OF_THE_PLACE, *(options or ()), *(_EXTENDED if is_extended else ())}
    own, new = dict(_settings(study)), dict(_settings(in_file))
    differ = [
        key
        for key in sorted(own.keys() | new.keys())
        if own.get(key) != new.get(key) and key not in expected
    ]
    if not differ:
        return None
    changed = _telling(differ)
    both = [f"{key} {new.get(key, 'nothing')}, not {own.get(key, 'nothing')}" for key in changed]
    what = "has changed" if options is not None else "has changed, or options said otherwise"
    return f"{study.name} goes on with its own settings; {source} {what}: {some(both)}"


def _telling(differ: Sequence[str]) -> list[str]:
    """Of keys that differ those that say it all: of a parameter that is searched in one of the two
    alone its name, without its keys and its value in the other; of one of two types its type."""
    one_sided = {f"space.{name}" for name in SECTION_OF} & set(differ)
    values = {f"{SECTION_OF[name]}.{name}" for name in SECTION_OF if f"space.{name}" in one_sided}
    retyped = {key.removesuffix(".type") for key in differ if key.endswith(".type")}
    return [
        key
        for key in differ
        if key not in values
        and (parent := key.rpartition(".")[0]) not in one_sided
        and (parent not in retyped or key.endswith(".type"))
    ]


def _settings(study: StudyConfig) -> Iterator[tuple[str, object]]:
    """(key of the study file, such as "space.coeff.low", value) of each setting; a list is one. A
    searched parameter is one too, by its name."""
    yield from ((f"space.{key}", "searched") for key, _ in study.space)
    yield from _leaves("", study.to_dict())


def _leaves(where: str, content: object) -> Iterator[tuple[str, object]]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _leaves(f"{where}.{key}" if where else key, value)
    else:
        yield where, content
