"""A mapping of keys -> a frozen, checked StudyConfig.

Whatever is wrong is one ConfigError, whose one line names the file, the key, the rule and the
value. Rules on one setting, and across settings, stand with the settings; here are types, keys that
are not known, and what the short forms of a study file mean.
"""

import functools
import json
import math
import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import fields
from typing import Any, NoReturn, TypeVar, cast

import yaml
from pydantic import TypeAdapter, ValidationError

from study.config.meant import meant_parameter, meant_type, unknown_key
from study.config.search import SearchConfig, StopConfig
from study.config.space import PARAMETER_TYPES, Parameter, Value
from study.config.study import FIXED, SEARCHABLE, SECTION_OF, SettingError, StudyConfig
from study.config.trial import EvaluationConfig
from study.errors import ConfigError, one_of, quoted, unknown
from study.metrics.definitions import INVERSE_STEPS, METRICS, Direction
from study.metrics.goals import Constraint, Objective

_TOP_LEVEL = (
    "name", *SEARCHABLE, *FIXED, "space", "objectives", "constraints", "reference_point",
)  # fmt: skip
# In the location of an error pydantic names the member of a union that it tried.
_UNION = ("tuple[float, ...]", "int")
_CONSTRAINT = re.compile(r"\s*(<=|<|>=|>)\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NAME_LENGTH = 100

_Section = TypeVar("_Section")


def parse(
    raw: object, source: str, overrides: Mapping[str, tuple[str, Value]] | None = None
) -> StudyConfig:
    """Check the content of a study file, such as StudyConfig.to_dict().

    Args:
        raw: what the file holds.
        source: names the file in messages.
        overrides: values that take the place of the file's, such as
            {"search.n_trials": ("--trials", 6)}: the key, and the option that a message names.

    Raises:
        ConfigError: in one line, whatever is wrong.
    """
    try:
        return _Parser(source, overrides or {}).study(raw)
    except RecursionError:
        raise ConfigError(f"{source}: a study file must not contain itself") from None


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Built once: that takes a millisecond, and there may be a value for each choice."""
    return TypeAdapter(kind)


class _Parser:
    """A mapping of keys -> StudyConfig; knows the file's name, for messages."""

    def __init__(self, source: str, overrides: Mapping[str, tuple[str, Value]]) -> None:
        self.source = source
        self.overrides = overrides

    def fail(self, key: str, problem: str) -> NoReturn:
        option = self.overrides.get(key)
        place = option[0] if option else self.source
        if not key.isprintable() or len(key) > _NAME_LENGTH:
            key = quoted(key)
        raise ConfigError(f"{place}: {key}: {problem}" if key else f"{place}: {problem}")

    def study(self, raw: object) -> StudyConfig:
        if not isinstance(raw, dict):
            self.fail("", f"a study file must be a mapping of keys, but got {quoted(raw)}")
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
                f"but got {quoted(name)}",
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
        for earlier in sections["search"].warm_start:
            if not _NAME.fullmatch(earlier):
                self.fail("search.warm_start", f"must name studies, but got {quoted(earlier)}")
        study = StudyConfig(
            name=name,
            space=space,
            objectives=self.objectives(raw, constraints, sections["evaluation"]),
            constraints=constraints,
            **sections,
        )
        try:
            return study.completed()
        except SettingError as error:
            self.fail(error.key, str(error))

    def mapping(self, key: str, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.fail(key, f"must be a mapping of keys, but got {quoted(value)}")
        return value

    def known_keys(self, where: str, given: Mapping[Any, Any], known: tuple[str, ...]) -> None:
        for key in given:
            if key not in known:
                self.fail(f"{where}.{key}" if where else str(key), unknown_key(str(key), known))

    def section(self, where: str, kind: type[_Section], given: dict[str, Any]) -> _Section:
        self.known_keys(where, given, _keys(kind))
        if kind is SearchConfig and isinstance(given.get("stop"), dict):
            self.known_keys("search.stop", given["stop"], _keys(StopConfig))
        try:
            # By way of JSON, since strict validation of Python values takes no list for a tuple.
            # Dates, which YAML knows and JSON does not, become text again.
            text = json.dumps(given, default=str)
        except TypeError:
            self.fail(where, f"keys must be text, but got {quoted(given)}")
        try:
            section: _Section = _adapter(cast(Hashable, kind)).validate_json(text, strict=True)
            return section
        except ValidationError as error:
            # Where a list or a number may stand, there is an error for each of the two: the deeper
            # one is about what was meant.
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
            number = {"int_type": int, "float_type": float}.get(first["type"])
            self.fail(key, f"{_rule(first['msg'])}, but got {_quoted(first['input'], number)}")

    def space(self, given: dict[str, Any]) -> tuple[tuple[str, Parameter], ...]:
        if not given:
            self.fail("space", "one or more parameters must be given, but it is empty")
        self.known_keys("space", given, tuple(SECTION_OF))
        return tuple((key, self.parameter(f"space.{key}", value)) for key, value in given.items())

    def parameter(self, where: str, value: object) -> Parameter:
        meant = meant_parameter(value, SECTION_OF[where.removeprefix("space.")])
        if not isinstance(value, dict):
            self.fail(where, f"must be a mapping of keys, but got {quoted(value)}{meant}")
        given: dict[str, Any] = value
        if "type" not in given:
            self.fail(f"{where}.type", f"this key is required{meant}")
        if not isinstance(given["type"], str) or given["type"] not in PARAMETER_TYPES:
            problem = one_of(given["type"], tuple(PARAMETER_TYPES))
            self.fail(f"{where}.type", problem + meant_type(given["type"]))
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
                    f"but got {quoted(text)}{_constraint_meant(metric, text)}",
                )
            operator: Any = match[1]
            parsed.append(Constraint(metric, operator, bound))
        return tuple(parsed)

    def steering_metric(self, where: str, metric: str) -> None:
        steering = tuple(name for name, m in METRICS.items() if m.steers)
        if metric not in steering:
            if metric in METRICS:
                self.fail(where, f"'{metric}' is read once, at the end, and must not steer a study")
            self.fail(where, unknown(str(metric), steering, "metric"))

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
        # First: a mistyped objective would make its reference point unknown.
        for metric in given:
            self.steering_metric(f"objectives.{metric}", metric)
        self.known_keys("reference_point", references, tuple(given))
        parsed = []
        for metric, text in given.items():
            where = f"objectives.{metric}"
            if text not in tuple(Direction):
                self.fail(where, one_of(text, tuple(Direction)))
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
                    f"must be a number, but got {_quoted(reference, float)}",
                )
            parsed.append(Objective(metric, direction, float(reference)))
        return tuple(parsed)


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


def _constraint_meant(metric: str, text: object) -> str:
    """What a number alone may mean as a constraint."""
    if isinstance(text, bool) or not re.fullmatch(r"\s*[-+.0-9eE]+\s*", str(text)):
        return ""
    side = "<" if METRICS[metric].direction is Direction.MINIMIZE else ">"
    return f"; did you mean '{side} {str(text).strip()}'?"


def _keys(section: Any) -> tuple[str, ...]:
    """Of a section, which is a dataclass."""
    return tuple(field.name for field in fields(section))


def _leaves(where: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _leaves(f"{where}.{key}" if where else str(key), child)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _leaves(f"{where}[{index}]", child)
    else:
        yield where, value


def _rule(message: str) -> str:
    """pydantic's "Input should be a valid number" as a rule of ours."""
    rule = message.replace("Input should", "must", 1)
    return rule.replace("an object", "a mapping of keys").replace("valid array", "list")


def _quoted(value: object, number: type[int] | type[float] | None = None) -> str:
    """A value for a message; of text that looks like the number that is wanted, also how to write
    that.

    Args:
        number: the kind that is wanted; None where it is something else.
    """
    if number is None or not isinstance(value, str):
        return quoted(value)
    try:
        meant = float(value)
    except ValueError:
        return quoted(value)
    if not math.isfinite(meant) or (
        number is int and not (meant.is_integer() and "." not in value)
    ):
        return quoted(value)
    if re.fullmatch(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?", value):
        return f"the text {quoted(value)}; without quotes it is a number"
    return (
        f"the text {quoted(value)} (YAML 1.1 reads it as text, not as a number; "
        f"write {yaml.safe_dump(number(meant)).split()[0]} instead)"
    )
