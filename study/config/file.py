"""Reads a YAML study file into a StudyConfig, and writes a StudyConfig as YAML."""

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from study.config.data import is_address
from study.config.imports import path_of
from study.config.parser import CONTAINS_ITSELF, parse
from study.config.space import Value
from study.config.study import StudyConfig
from study.errors import ConfigError, nearest, quoted

# A few lines of nested aliases can expand to billions of values.
_MOST_VALUES = 10_000
# Stands for the path of a study file where a study was given in Python.
_IN_PYTHON = "study.run"
# Folder of the shipped studies: beside the package, in a clone and where it is installed.
_SHIPPED = Path(__file__).parents[2] / "search_spaces"


@dataclass(frozen=True)
class Asked:
    """A requested study.

    Attributes:
        source: the path of its file; "study.run" if the study was given in Python.
        options: keys of the settings whose values came from options instead of the file.
    """

    config: StudyConfig
    source: str
    options: frozenset[str]


def locate(space: str) -> Path:
    """The path of a study file, from a path or the bare name of a shipped study. A file of that
    exact name in the working directory takes precedence. Raises ConfigError if a bare name belongs
    to neither a file nor a shipped study."""
    path = Path(space)
    # Only a word, not a path, can be a shipped study.
    if not re.fullmatch(r"\w{1,100}", space) or path.is_file():
        return path
    shipped = _shipped()
    if space not in shipped:
        hint = _meant(space, Path()) or f"; shipped are {', '.join(sorted(shipped))}"
        raise ConfigError(f"there is no such file or shipped study{hint}", source=space)
    return shipped[space]


def _shipped() -> dict[str, Path]:
    """The shipped studies by bare name."""
    return {file.stem: file for file in _SHIPPED.glob("*.yaml")}


def _meant(name: str, folder: Path) -> str:
    """A "did you mean" with the closest name of a shipped study or a file; "" if none is close."""
    # Compared without their endings.
    files = {path.stem: str(path) for path in sorted(folder.glob("*.y*ml"))}
    known = {**{name: name for name in _shipped()}, **files}
    near = nearest(name, known)
    return f"; did you mean {known[near]}?" if near else ""


def load(path: Path, overrides: Mapping[str, Value] | None = None) -> StudyConfig:
    """Read and check a YAML study file. `overrides` and ConfigError are as for `parse`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = _meant(path.stem, path.parent)
        raise ConfigError(f"there is no such file{hint}", source=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", source=str(path)) from None
    return loads(text, str(path), overrides)


def study_of(
    space: str | Path | Mapping[str, Any] | StudyConfig,
    overrides: Mapping[str, Value] | None = None,
) -> Asked:
    """The study described by a study file, or by its equivalent in Python, together with options.

    Args:
        space: path of a study file, bare name of a shipped one, content of one, or a StudyConfig.
        overrides: values of options, as for `parse`.

    Raises:
        ConfigError: for the first mistake.
    """
    if isinstance(space, str | Path):
        file = locate(str(space))
        study, source = load(file, overrides), str(file.resolve())
    else:
        source = _IN_PYTHON
        try:
            content = space.to_dict() if isinstance(space, StudyConfig) else _with_paths(space)
        except RecursionError:
            raise ConfigError(CONTAINS_ITSELF, source=source) from None
        study = parse(content, source, overrides)
    # Workers have working directories of their own.
    study = replace(study, data=replace(study.data, root=absolute(study.data.root)))
    return Asked(study, source, frozenset(overrides or ()))


def absolute(root: str) -> str:
    """The absolute path of a folder of data; an address stays as it is."""
    return root if is_address(root) else str(Path(root).resolve())


def _with_paths(content: Any, key: str = "") -> Any:
    """The content of a study file, with each function and class replaced by its import path."""
    if isinstance(content, Mapping):
        return {
            name: _with_paths(value, f"{key}.{name}" if key else str(name))
            for name, value in content.items()
        }
    if isinstance(content, list | tuple):
        return [_with_paths(value, key) for value in content]
    if not callable(content):
        return content
    try:
        return path_of(content)
    except ConfigError as error:
        raise ConfigError(error.rule, key, error.value, _IN_PYTHON) from error


def loads(text: str, source: str, overrides: Mapping[str, Value] | None = None) -> StudyConfig:
    """Parse and check a study file's text, called `source` in messages. Raises as `load` does."""
    try:
        raw = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(_one_line(error), source=source) from None
    # A value that does not fit its tag, such as the 30th of February, or !!bool 1.
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise ConfigError(f"not valid YAML: {error}", source=source) from None
    try:
        n_values = _n_values(raw, {})
    except RecursionError:
        raise ConfigError(CONTAINS_ITSELF, source=source) from None
    if n_values > _MOST_VALUES:
        raise ConfigError(
            f"must have at most {_MOST_VALUES} values once its aliases are expanded, but has more",
            source=source,
        )
    return parse(raw, source, overrides)


def _n_values(raw: object, known: dict[int, int]) -> int:
    """The number of values with all aliases expanded; `known` caches the counts of collections by
    id. Raises RecursionError for a cycle."""
    if isinstance(raw, dict):
        parts = [*raw.keys(), *raw.values()]
    elif isinstance(raw, list):
        parts = raw
    else:
        return 1
    if id(raw) not in known:
        known[id(raw)] = 1 + sum(_n_values(part, known) for part in parts)
    return known[id(raw)]


def to_yaml(study: StudyConfig, is_short: bool = False) -> str:
    """A study as the text of a study file, without defaults if `is_short`."""
    content = study.to_short_dict() if is_short else study.to_dict()
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, default_flow_style=None)


class _Dumper(yaml.SafeDumper):
    """YAML that quotes text which `_Loader` would read as a number."""


class _Loader(yaml.SafeLoader):
    """YAML in which a number is what it looks like, as in YAML 1.2, and a duplicate key an error.
    Plain YAML 1.1 reads 010 as 8, 1:30 as 90, and 1e-3 as text, and silently keeps the last of two
    keys."""

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node).replace("_", "")
        return int(text, 16 if "x" in text.lower() else 10)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [
            self.construct_object(key, deep=True)
            for key, _ in node.value
            if key.tag != "tag:yaml.org,2002:merge"
        ]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"the key {quoted(key)} stands twice",
                    node.value[index][0].start_mark,
                )
        return super().construct_mapping(node, deep)


_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_NUMBERS = {
    _INT: r"[-+]?(?:[0-9][0-9_]*|0x[0-9a-fA-F_]+)$",
    _FLOAT: r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$|[-+]?\.(?:inf|Inf|INF)$|"
    r"\.(?:nan|NaN|NAN)$",
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag not in _NUMBERS]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _NUMBERS.items():
    # _Dumper keeps the rules of YAML 1.1 too: text such as 1:30, a number there, is quoted.
    for _kind in (_Loader, _Dumper):
        _kind.add_implicit_resolver(_tag, re.compile(_pattern), list("-+.0123456789"))
_Loader.add_constructor(_INT, _Loader.construct_yaml_int)


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    hint = " (a tab; YAML indents with spaces)" if "\\t" in problem else ""
    return f"{where}not valid YAML: {problem}{hint}"
