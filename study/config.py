"""A study file -> a frozen, validated StudyConfig; a sample -> TrialConfig.

The only place that reads YAML. Whatever is wrong with a file is one ConfigError, whose
one line names the file, the key, the rule and the value.
"""

import difflib
import functools
import json
import math
import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import yaml
from pydantic import TypeAdapter, ValidationError

from study.errors import ConfigError, shown
from study.metrics import INVERSE_STEPS, METRICS, PROJECTED_METRICS, Direction
from study.search_space import PARAMETER_TYPES, Parameter, Value
from study.study_config import (
    FIXED,
    LOWEST_COEFF,
    SEARCHABLE,
    SECTION_OF,
    Constraint,
    Objective,
    SchedulerConfig,
    SearchConfig,
    StopConfig,
    StudyConfig,
)
from study.trial_config import EvaluationConfig

_TOP_LEVEL = (
    "name", *SEARCHABLE, *FIXED, "space", "objectives", "constraints", "reference_point",
)  # fmt: skip
# What pydantic puts into the place of an error in a union, for the member that was tried.
_UNION = ("tuple[float, ...]", "int")
_CONSTRAINT = re.compile(r"\s*(<=|<|>=|>)\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NAME_LENGTH = 100
# A few lines of aliases of aliases stand for billions of values, all of which a message would show.
_MOST_VALUES = 10_000


def load(path: Path, overrides: Mapping[str, tuple[str, Value]] | None = None) -> StudyConfig:
    """Read and check a study file.

    Args:
        path: a YAML file.
        overrides: values that take the place of the file's, such as
            {"search.n_trials": ("--trials", 6)}: the key, and the option that a message names.

    Raises:
        ConfigError: in one line, whatever is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return loads(text, str(path), overrides or {})


def loads(
    text: str, source: str, overrides: Mapping[str, tuple[str, Value]] | None = None
) -> StudyConfig:
    """Check the text of a study file; `source` names it in messages. Raises as `load` does."""
    try:
        raw = yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: {_one_line(error)}") from None
    except (ValueError, RecursionError) as error:  # such as the 30th of February
        raise ConfigError(f"{source}: not valid YAML: {error}") from None
    try:
        n_values = _n_values(raw, {})
    except RecursionError:
        raise ConfigError(f"{source}: a study file must not contain itself") from None
    if n_values > _MOST_VALUES:
        raise ConfigError(
            f"{source}: a study file must have at most {_MOST_VALUES} values once its aliases "
            "stand for what they name, but has more"
        )
    return parse(raw, source, overrides)


def _n_values(raw: object, known: dict[int, int]) -> int:
    """How many values there are with every alias written out; `known` has those of what is shared,
    so that this takes no longer than the file is long. Raises RecursionError on a cycle."""
    if isinstance(raw, dict):
        parts = [*raw.keys(), *raw.values()]
    elif isinstance(raw, list):
        parts = raw
    else:
        return 1
    if id(raw) not in known:
        known[id(raw)] = 1 + sum(_n_values(part, known) for part in parts)
    return known[id(raw)]


def parse(
    raw: object, source: str, overrides: Mapping[str, tuple[str, Value]] | None = None
) -> StudyConfig:
    """Check a study file's content, such as StudyConfig.to_dict(). Raises as `load` does."""
    try:
        return _Parser(source, overrides or {}).study(raw)
    except RecursionError:
        raise ConfigError(f"{source}: a study file must not contain itself") from None


def to_yaml(study: StudyConfig) -> str:
    """The text of a study file that says the same, every default spelled out."""
    return yaml.safe_dump(study.to_dict(), sort_keys=False)


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Built once: that takes a millisecond, and there may be a value for each choice."""
    return TypeAdapter(kind)


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error; plain YAML takes the last silently."""

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
                    f"the key {shown(key)} stands twice",
                    node.value[index][0].start_mark,
                )
        return super().construct_mapping(node, deep)


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    hint = " (a tab; YAML indents with spaces)" if "\\t" in problem else ""
    return f"{where}not valid YAML: {problem}{hint}"


_Section = TypeVar("_Section")


class _Parser:
    """From the raw mapping to StudyConfig; knows the file's name, for messages."""

    def __init__(self, source: str, overrides: Mapping[str, tuple[str, Value]]) -> None:
        self.source = source
        self.overrides = overrides

    def fail(self, key: str, problem: str) -> NoReturn:
        option = self.overrides.get(key)
        place = option[0] if option else self.source
        if not key.isprintable() or len(key) > _NAME_LENGTH:
            key = shown(key)
        raise ConfigError(f"{place}: {key}: {problem}" if key else f"{place}: {problem}")

    def study(self, raw: object) -> StudyConfig:
        if not isinstance(raw, dict):
            self.fail("", f"a study file must be a mapping of keys, but got {_shown(raw)}")
        self.known_keys("", raw, _TOP_LEVEL)
        value: Any
        for key, (_, value) in self.overrides.items():
            section, _, name = key.partition(".")
            if name:
                value = {**self.mapping(section, raw.get(section, {})), name: value}
            raw = {**raw, section: value}
        for key, value in _leaves("", raw):
            if isinstance(value, float) and not math.isfinite(value):
                self.fail(key, f"numbers must be finite, but got {value}")
        for key in ("name", "space", "objectives", "search"):
            if key not in raw:
                self.fail(key, "this key is required")

        name = raw["name"]
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            self.fail(
                "name",
                "a name must be 1 to 100 letters, digits, '.', '_' or '-', not first a sign, "
                f"but got {_shown(name)}",
            )
        space = self.space(self.mapping("space", raw["space"]))
        sections: dict[str, Any] = {}
        for section, kind in {**SEARCHABLE, **FIXED}.items():
            given = self.mapping(section, raw.get(section, {}))
            for key, _ in space:
                if SECTION_OF[key] == section and key in given:
                    self.fail(f"space.{key}", f"stands in {section} too; it must be in one of them")
            sections[section] = self.section(section, kind, given)
        for key, parameter in space:
            self.check_extremes(key, parameter, raw)

        constraints = self.constraints(self.mapping("constraints", raw.get("constraints", {})))
        study = StudyConfig(
            name=name,
            space=space,
            objectives=self.objectives(raw, constraints, sections["evaluation"]),
            constraints=constraints,
            **sections,
        )
        self.ladder(study)
        return replace(study, search=self.search(study), scheduler=self.scheduler(study))

    def mapping(self, key: str, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.fail(key, f"must be a mapping of keys, but got {_shown(value)}")
        return value

    def known_keys(self, where: str, given: Mapping[Any, Any], known: tuple[str, ...]) -> None:
        for key in given:
            if key not in known:
                self.fail(f"{where}.{key}" if where else str(key), _unknown(str(key), known))

    def section(self, where: str, kind: type[_Section], given: dict[str, Any]) -> _Section:
        self.known_keys(where, given, tuple(kind.__dataclass_fields__))  # type: ignore[attr-defined]  # every section is a dataclass
        if kind is SearchConfig and isinstance(given.get("stop"), dict):
            self.known_keys("search.stop", given["stop"], tuple(StopConfig.__dataclass_fields__))
        try:
            # By way of JSON, since strict validation of Python values takes no list for a
            # tuple; dates, which YAML knows and JSON does not, become the text they are.
            text = json.dumps(given, default=str)
        except TypeError:
            self.fail(where, f"keys must be text, but got {_shown(given)}")
        try:
            section: _Section = _adapter(cast(Hashable, kind)).validate_json(text, strict=True)
            return section
        except ValidationError as error:
            # Of a list or a number, each says what is wrong with it: the one that came farther
            # is the one that was meant.
            first = max(error.errors(), key=lambda e: len(e["loc"]))
            key = ".".join([where, *(str(part) for part in first["loc"] if part not in _UNION)])
            if first["type"] == "value_error":
                # From __post_init__: the message names the keys.
                problem = str(first["ctx"]["error"])
                keys = first["input"] if isinstance(first["input"], dict) else {}
                named = [k for k in keys if re.search(rf"\b{re.escape(str(k))}=", problem)]
                self.fail(f"{key}.{named[0]}" if named else key, problem)
            if first["type"] == "missing":
                self.fail(key, "this key is required")
            self.fail(key, f"{_rule(first['msg'])}, but got {_shown(first['input'])}")

    def space(self, given: dict[str, Any]) -> tuple[tuple[str, Parameter], ...]:
        if not given:
            self.fail("space", "one or more parameters must be given, but it is empty")
        self.known_keys("space", given, tuple(SECTION_OF))
        return tuple((key, self.parameter(f"space.{key}", value)) for key, value in given.items())

    def parameter(self, where: str, value: object) -> Parameter:
        given = self.mapping(where, value)
        if "type" not in given:
            self.fail(f"{where}.type", "this key is required")
        if not isinstance(given["type"], str) or given["type"] not in PARAMETER_TYPES:
            self.fail(f"{where}.type", _one_of(given["type"], tuple(PARAMETER_TYPES)))
        return self.section(where, PARAMETER_TYPES[given["type"]], given)

    def check_extremes(self, key: str, parameter: Parameter, raw: Mapping[str, Any]) -> None:
        """Every value of a parameter must be one that its key can have."""
        section = SECTION_OF[key]
        for value in parameter.extremes():
            try:
                self.section(section, SEARCHABLE[section], {**raw.get(section, {}), key: value})
            except ConfigError as error:
                problem = str(error).split(f"{section}.{key}: ", 1)[-1]
                self.fail(f"space.{key}", problem)

    def constraints(self, given: dict[str, Any]) -> tuple[Constraint, ...]:
        parsed = []
        for metric, text in given.items():
            where = f"constraints.{metric}"
            self.steering_metric(where, metric)
            match = _CONSTRAINT.fullmatch(text) if isinstance(text, str) else None
            try:
                bound = float(match[2]) if match else math.nan
            except ValueError:
                bound = math.nan
            if match is None or not math.isfinite(bound):
                self.fail(
                    where,
                    "a constraint must read like '< 1', with <, <=, > or >= and a number, "
                    f"but got {_shown(text)}",
                )
            operator: Any = match[1]
            parsed.append(Constraint(metric, operator, bound))
        return tuple(parsed)

    def steering_metric(self, where: str, metric: str) -> None:
        steering = tuple(name for name, m in METRICS.items() if m.steers)
        if metric not in steering:
            if metric in METRICS:
                self.fail(where, f"'{metric}' is read once, at the end, and must not steer a study")
            self.fail(where, _unknown(str(metric), steering, "metric"))

    def objectives(
        self,
        raw: Mapping[str, Any],
        constraints: tuple[Constraint, ...],
        evaluation: EvaluationConfig,
    ) -> tuple[Objective, ...]:
        given = self.mapping("objectives", raw["objectives"])
        references = self.mapping("reference_point", raw.get("reference_point", {}))
        if not given:
            self.fail("objectives", "one or more objectives must be given, but it is empty")
        self.known_keys("reference_point", references, tuple(given))
        parsed = []
        for metric, text in given.items():
            where = f"objectives.{metric}"
            self.steering_metric(where, metric)
            if text not in tuple(Direction):
                self.fail(where, _one_of(text, tuple(Direction)))
            direction = Direction(text)
            reference = references.get(metric)
            if reference is None:
                reference = _default_reference(metric, direction, constraints, evaluation)
            if reference is None:
                self.fail(
                    f"reference_point.{metric}",
                    f"this key is required, since '{metric}' has no natural worst value to "
                    f"measure the hypervolume from when it is to {direction}",
                )
            if isinstance(reference, bool) or not isinstance(reference, int | float):
                self.fail(
                    f"reference_point.{metric}",
                    f"must be a number, but got {_shown(reference)}",
                )
            parsed.append(Objective(metric, direction, float(reference)))
        return tuple(parsed)

    def search(self, study: StudyConfig) -> SearchConfig:
        search = study.search
        for name in search.warm_start:
            if not _NAME.fullmatch(name):
                self.fail("search.warm_start", f"must name studies, but got {shown(name)}")
        if search.warm_start and search.sampler not in ("tpe", "gp"):
            self.fail(
                "search.warm_start",
                f"must be left out with sampler '{search.sampler}', which does not learn from "
                f"trials that it has not proposed, but got {_shown(list(search.warm_start))}",
            )
        if search.sampler != "grid":
            if search.n_trials is None:
                self.fail("search.n_trials", "this key is required")
            return search
        for key, parameter in study.space:
            if parameter.grid() is None:
                self.fail(
                    f"space.{key}",
                    "for sampler grid a float parameter must have a step, or be categorical",
                )
        size = len(study.grid() or [])
        if search.n_trials is not None and search.n_trials > size:
            self.fail(
                "search.n_trials",
                f"n_trials <= size of the grid must hold, but got n_trials={search.n_trials}, "
                f"size={size}",
            )
        return replace(search, n_trials=search.n_trials or size)

    def ladder(self, study: StudyConfig) -> None:
        """Points of the ladder are points of the front: they must have what it is made of."""
        if study.search.ladder in ((), 0):
            return
        varied = {key for key, _ in study.space}
        if study.model.norm == "batch" and "norm" not in varied:
            self.fail(
                "search.ladder",
                "must be left out with norm 'batch', whose factors follow the data, but got "
                f"{_shown(study.to_dict()['search']['ladder'])}",
            )
        if not study.ladder:
            self.fail(
                "search.ladder",
                "a number of rungs must have room between the largest coefficient of the study and "
                f"the smallest, or {LOWEST_COEFF:g}, but got {study.search.ladder} and coeff="
                f"{study.model.coeff:g}",
            )
        steering = {o.metric for o in study.objectives} | {c.metric for c in study.constraints}
        unknown = sorted(steering - set(PROJECTED_METRICS))
        if unknown:
            self.fail(
                "search.ladder",
                f"must be left out with objective or constraint '{unknown[0]}', which a network "
                f"that is projected without training does not have, but got "
                f"{_shown(list(study.ladder))}",
            )

    def scheduler(self, study: StudyConfig) -> SchedulerConfig:
        scheduler = study.scheduler
        names = tuple(objective.metric for objective in study.objectives)
        if scheduler.metric is not None and scheduler.metric not in names:
            self.fail("scheduler.metric", _one_of(scheduler.metric, names))
        if scheduler.name != "asha":
            return scheduler
        return replace(scheduler, metric=scheduler.metric or names[0])


def _default_reference(
    metric: str,
    direction: Direction,
    constraints: tuple[Constraint, ...],
    evaluation: EvaluationConfig,
) -> float | None:
    """The worst value worth having: the constraint's bound, or the metric's own worst."""
    for constraint in constraints:
        bounds_above = constraint.operator in ("<", "<=")
        if constraint.metric == metric and bounds_above == (direction is Direction.MINIMIZE):
            return constraint.bound
    if direction is not METRICS[metric].direction:
        return None
    if metric == INVERSE_STEPS:
        return float(evaluation.inverse_max_steps)
    return METRICS[metric].worst


def _leaves(where: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _leaves(f"{where}.{key}" if where else str(key), child)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _leaves(f"{where}[{index}]", child)
    else:
        yield where, value


def _unknown(key: str, known: tuple[str, ...], what: str = "key") -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    return f"unknown {what} {shown(key)}; the nearest known one is '{near[0]}'"


def _one_of(value: object, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(str(value), known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"must be one of {', '.join(known)}, but got {_shown(value)}{hint}"


def _rule(message: str) -> str:
    """pydantic's "Input should be a valid number" as a rule of ours."""
    return message.replace("Input should", "must", 1)


def _shown(value: object) -> str:
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return shown(value)
        return (
            f"the text '{value}' (YAML 1.1 reads it as text, not as a number; "
            f"write {yaml.safe_dump(number).split()[0]} instead)"
        )
    return shown(value)
