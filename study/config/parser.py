"""A mapping of keys -> a frozen, checked StudyConfig.

pydantic checks types, keys and the rules at the fields. Any mistake becomes a ConfigError, one line
with the file, the key, the rule and the value.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails

from models import SettingError, Span
from study.config.data import SPLIT, DataConfig
from study.config.data_sets import IMAGE_FOLDER
from study.config.imports import check_path
from study.config.search import ResourcesConfig, SchedulerConfig, SearchConfig, StopConfig
from study.config.space import PARAMETER_TYPES, Parameter, Value, values_needed
from study.config.study import SECTION_OF, SECTIONS, StudyConfig
from study.config.trial import (
    COEFF,
    MARGIN,
    EvaluationConfig,
    ModelConfig,
    OwnMetric,
    TrainingConfig,
)
from study.errors import ConfigError, quoted, require, unknown
from study.metrics.definitions import (
    FORMER_NAMES,
    INVERSE_STEPS,
    METRICS,
    Direction,
    current_name,
    with_current_names,
)
from study.metrics.goals import INVERTIBLE, Constraint, Objective

CONTAINS_ITSELF = "a study file must not contain itself"
_EXAMPLE = "{type: float, low: 0.1, high: 0.9} or {type: categorical, choices: [1, 2]}"

_CONSTRAINT = re.compile(
    r"\s*(<=|<|>=|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*", re.ASCII
)
_LIKE = "must read like '< 1', with <, <=, > or >= and a number"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_STEERING = tuple(name for name, metric in METRICS.items() if metric.steers)
_OWN = re.compile(r"[a-z][a-z0-9_]{0,49}")
# Names that a metric of the user's own would hide.
_TAKEN = {
    *METRICS,
    *FORMER_NAMES,
    *(metric.short for metric in METRICS.values()),
    *(key for kind in SECTIONS.values() for key in (f.name for f in fields(kind))),
    *("network", "mark", "reason", "origin", "seed", "epoch", "own", "infinite", "invertible"),
    *("trial_id", "run_id", "projected_to", "n_repeats", "front_share", "recommended"),
}
CONDITIONS = (COEFF, MARGIN)
"""The settings in which the members of a family may differ."""
# The constraint that has no number.
_INVERTIBLE = "invertible"
_KEY_LENGTH = 100
_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")
# Sections by the name that precedes their keys in an error's location.
_KINDS = {**SECTIONS, "stop": StopConfig, **PARAMETER_TYPES}
# Parts of an error's location that are not keys: union members, and the mark of a wrong key.
_NO_KEYS = ("tuple[float, ...]", "[key]", *PARAMETER_TYPES)

_Model = TypeVar("_Model", bound=BaseModel)


def _unknown_key(key: str, known: tuple[str, ...]) -> str:
    """The message for a key that its section does not have."""
    sections = [name for name, kind in SECTIONS.items() if key in {f.name for f in fields(kind)}]
    if len(sections) == 1:
        return f"unknown key '{key}'; it belongs in {sections[0]}"
    return unknown(key, known)


def _name(name: str) -> str:
    rule = "must be 1 to 100 letters, digits, '.', '_' or '-', and begin with a letter or digit"
    require(_NAME.fullmatch(name) is not None, rule, value=name)
    return name


def _searchable(key: str) -> str:
    if key not in SECTION_OF:
        raise ConfigError(_unknown_key(key, tuple(SECTION_OF)))
    # An easier split is no better network, and standard errors and intervals hold for one split.
    rule = "must not be searched: all trials of a study are measured on the same images"
    require(key not in (*SPLIT, "root"), rule)
    return key


def _condition(key: str) -> str:
    require(key in CONDITIONS, f"must be one of {', '.join(CONDITIONS)}", value=key)
    return key


def _own_name(name: str) -> str:
    rule = "must be 1 to 50 of a to z, 0 to 9 and '_', and begin with a letter"
    require(_OWN.fullmatch(name) is not None, rule, value=name)
    is_free = name not in _TAKEN and not name.endswith(("_se", "_low", "_high"))
    require(is_free, "must be a name that has no other meaning here", value=name)
    return name


def _steering(metric: str, info: ValidationInfo) -> str:
    own = info.context or ()
    if metric in own or (metric == _INVERTIBLE and info.field_name == "constraints"):
        return metric
    if metric not in METRICS:
        raise ConfigError(unknown(metric, (*own, *_STEERING), "metric"))
    rule = f"'{metric}' is read once, at the end, and must not steer a study"
    require(metric in _STEERING, rule)
    return metric


def _constraint(key: str, given: object) -> Constraint:
    if key == _INVERTIBLE:
        require(given is True, "must be true, or left out", f"constraints.{key}", given)
        return INVERTIBLE
    match = _CONSTRAINT.fullmatch(given) if isinstance(given, str) else None
    if match is None or not math.isfinite(float(match[2])):
        raise ConfigError(_LIKE, f"constraints.{key}", given)
    operator: Any = match[1]
    return Constraint(key, operator, float(match[2]))


_Steering = Annotated[str, AfterValidator(_steering)]


class _Searchable(BaseModel):
    """The sections whose keys may stand in the space."""

    # Built when a file is read, so that --help does not wait for it.
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, defer_build=True
    )

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()


class _StudyFile(_Searchable):
    """The content of a study file."""

    name: Annotated[str, AfterValidator(_name)]
    space: dict[
        Annotated[str, AfterValidator(_searchable)],
        Annotated[Parameter, Field(discriminator="type")],
    ] = Field(min_length=1)
    family: dict[Annotated[str, AfterValidator(_condition)], Span] = {}
    objectives: dict[_Steering, Direction] = Field(min_length=1)
    constraints: dict[_Steering, Any] = {}
    reference_point: dict[str, float] = {}
    metrics: dict[Annotated[str, AfterValidator(_own_name)], OwnMetric] = {}
    callbacks: tuple[Annotated[str, AfterValidator(check_path)], ...] = ()
    evaluation: EvaluationConfig = EvaluationConfig()
    search: SearchConfig
    scheduler: SchedulerConfig = SchedulerConfig()
    resources: ResourcesConfig = ResourcesConfig()

    def study(self) -> StudyConfig:
        constraints = tuple(_constraint(key, given) for key, given in self.constraints.items())
        for metric in self.reference_point:
            if metric not in self.objectives:
                rule = _unknown_key(metric, tuple(self.objectives))
                raise ConfigError(rule, f"reference_point.{metric}")
        return StudyConfig(
            name=self.name,
            space=tuple(self.space.items()),
            objectives=tuple(
                Objective(metric, direction, self._reference(metric, direction, constraints))
                for metric, direction in self.objectives.items()
            ),
            constraints=constraints,
            metrics=tuple(self.metrics.items()),
            callbacks=self.callbacks,
            family=tuple(self.family.items()),
            **{name: getattr(self, name) for name in SECTIONS},
        )

    def _reference(
        self, metric: str, direction: Direction, constraints: Sequence[Constraint]
    ) -> float:
        """The worst useful value: the file's, else a constraint's bound, else the metric's own."""
        if metric in self.reference_point:
            return self.reference_point[metric]
        for constraint in constraints:
            is_worst = (constraint.metric, constraint.direction) == (metric, direction)
            if is_worst and math.isfinite(constraint.bound):
                return constraint.bound
        known = self.metrics.get(metric) or METRICS[metric]
        worst = self.evaluation.inverse_max_steps if metric == INVERSE_STEPS else known.worst
        if worst is None or direction != known.direction:
            raise ConfigError(
                f"this key is required, since '{metric}' has no natural worst value to measure the "
                f"hypervolume from when it is to {direction}",
                f"reference_point.{metric}",
            )
        return float(worst)


def parse(raw: object, source: str, overrides: Mapping[str, Value] | None = None) -> StudyConfig:
    """Check the content of a study file, such as StudyConfig.to_dict(), and return its study.

    Args:
        source: names the file in messages.
        overrides: values that replace the file's, by key, such as {"search.n_trials": 6}. An error
            about one of them has no source.

    Raises:
        ConfigError: for the first mistake.
    """
    overrides = overrides or {}
    try:
        content = _content(raw, overrides)
        file = _checked(_StudyFile, content)
        _check_space(file.space, content)
        _check_family(file, content)
        return file.study().completed()
    except ConfigError as error:
        if error.key not in overrides:
            error.source = source
        raise


def _content(raw: object, overrides: Mapping[str, Value]) -> dict[str, Any]:
    """The content with `overrides` and metrics' current names; sections of a wrong type stay."""
    if not isinstance(raw, dict):
        raise ConfigError("a study file must be a mapping of keys", value=raw)
    content = dict(raw)
    for key, value in overrides.items():
        section, _, name = key.partition(".")
        if not name:
            content[key] = value
        elif isinstance(content.setdefault(section, {}), dict):
            content[section] = {**content[section], name: value}
    for section in ("objectives", "constraints", "reference_point"):
        of_metrics = content.get(section)
        if isinstance(of_metrics, dict):
            content[section] = with_current_names(of_metrics)
            rule = "must not have a metric under its former name too"
            require(len(content[section]) == len(of_metrics), rule, section, list(of_metrics))
    scheduler = content.get("scheduler")
    if isinstance(scheduler, dict) and "metric" in scheduler:
        content["scheduler"] = {**scheduler, "metric": current_name(scheduler["metric"])}
    data = content.get("data")
    if isinstance(data, dict) and data.get("name") == IMAGE_FOLDER and data.get("size", 0) is None:
        content["data"] = {**data, "size": 0}
    return content


def _check_space(space: Mapping[str, Parameter], content: Mapping[str, Any]) -> None:
    """Check for each parameter that its key allows all values and is not set in its section too."""
    needed = values_needed(space)
    for key, parameter in space.items():
        section = content.get(SECTION_OF[key], {})
        rule = f"must stand here or in {SECTION_OF[key]}, not in both"
        require(key not in section, rule, f"space.{key}")
        # With values that its `when` needs: rules across keys need hold only where it is active.
        own = {k: value for k, value in needed[key].items() if SECTION_OF[k] == SECTION_OF[key]}
        for value in parameter.extremes():
            try:
                _checked(_Searchable, {SECTION_OF[key]: {**section, **own, key: value}})
            except ConfigError as error:
                raise ConfigError(error.rule, f"space.{key}", error.value) from None


def _check_family(file: _StudyFile, content: Mapping[str, Any]) -> None:
    """Check for each condition of a family that it is set nowhere else, and may be at both ends."""
    for key, span in file.family.items():
        section = content.get(SECTION_OF[key], {})
        rule = f"must stand here, in {SECTION_OF[key]} or in space, not in two of them"
        require(key not in section and key not in file.space, rule, f"family.{key}")
        for value in (span.low, span.high):
            try:
                _checked(_Searchable, {SECTION_OF[key]: {key: value}})
            except ConfigError as error:
                raise ConfigError(error.rule, f"family.{key}", error.value) from None


def _checked(kind: type[_Model], content: Mapping[str, Any]) -> _Model:
    """Check types, keys, and the rules at the fields. Raises ConfigError for an unknown key if
    there is one, which may be a required key misspelled; else for the first mistake."""
    try:
        # As JSON, since strict validation in Python accepts no list as a tuple. Dates, which YAML
        # has and JSON lacks, become text again.
        own = content.get("metrics")
        context = tuple(own) if isinstance(own, dict) else ()
        return kind.model_validate_json(json.dumps(content, default=str), context=context)
    except TypeError:
        raise ConfigError("keys must be text") from None
    except ValidationError as error:
        errors = error.errors()
    except (ValueError, RecursionError):
        raise ConfigError(CONTAINS_ITSELF) from None
    # A field that takes a list or a number gives an error for each; the deeper one is meant.
    raise _one_line(
        max(
            errors,
            key=lambda one: (
                one["type"] in _UNKNOWN_KEY,
                one["loc"][:2] == errors[0]["loc"][:2],
                len(one["loc"]),
            ),
        )
    )


def _one_line(error: ErrorDetails) -> ConfigError:
    """The ConfigError for an error of pydantic, in the terms of a study file."""
    kind, value = error["type"], error["input"]
    keys = [str(part) for part in error["loc"] if part not in _NO_KEYS]
    if kind == "value_error":
        own = error["ctx"]["error"]
        rule, value = own.rule, own.value
        name = own.name if isinstance(own, SettingError) else own.key
        keys += [name] if name else []
    elif kind == "missing":
        rule, value = "this key is required", ...
    elif kind in _UNKNOWN_KEY:
        *_, at = ("", *error["loc"][:-1])
        of_entries = {"metrics": OwnMetric, "family": Span}
        section = of_entries.get(str(error["loc"][0])) or _KINDS.get(str(at))
        known = [field.name for field in fields(section)] if section else _StudyFile.model_fields
        rule, value = _unknown_key(str(error["loc"][-1]), tuple(known)), ...
    elif kind.startswith("union_tag"):
        rule = f"must be one of {', '.join(PARAMETER_TYPES)}, as in {_EXAMPLE}"
        keys, value = [*keys, "type"], value.get("type", ...)
    elif kind == "dict_type" and keys[0] == "space" and len(keys) == 2:
        rule = f"must be a mapping of keys, such as {_EXAMPLE}"
    else:
        rule = re.sub(r"^\w+ should", "must", error["msg"]).partition(" after validation")[0]
        rule = rule.replace("an object", "a mapping of keys").replace("valid array", "list")
    key = ".".join(keys)
    if not key.isprintable() or len(key) > _KEY_LENGTH:
        key = quoted(key)
    return ConfigError(rule, key or None, value)
