"""`--where`: conditions on networks, by the names of metrics and hyperparameters alone.

MLflow has a filter of its own, "metrics.val_accuracy > 0.9 and params.coeff = '0.5'", in which a
name needs its table, and parameters are text. A condition whose left side is a bare name, or what
the report's table prints over a column, is read here: on a metric it becomes MLflow's, on a
hyperparameter it is checked here, by number where the value is one. Conditions with a table's name,
or on what MLflow itself knows of a run, go to MLflow as they are.

The filter of a study's page reads the same, but for MLflow's own conditions: `grammar` is what it
needs for that, so the patterns here are such as JavaScript reads alike.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from study.config.study import SECTION_OF
from study.config.trial import EvaluationConfig
from study.errors import UserError, quoted, unknown
from study.metrics.definitions import LIPSCHITZ_UPPER_BOUND, METRICS, VAL_ACCURACY, as_reported
from study.results.headings import names_of_headings
from study.tracking.records import TrialRecord
from study.tracking.settings import FINE_TUNE_STEPS, PROJECTED_TO

# Keys of the section of the data have it before them among a run's parameters.
_DATA = "data"
# What a run's parameters are called. A page is sent to others: no folder of this machine is in it.
_PARAMETERS = (
    *(key for key in SECTION_OF if key != "root"),
    *(field.name for field in fields(EvaluationConfig)),
    "seed",
    FINE_TUNE_STEPS,
    PROJECTED_TO,
)
_NAMES = names_of_headings(_PARAMETERS)
# Columns of the table and the frame that come of all the networks that pass.
_NO_CONDITIONS = ("95 %", "front", "front_share", "mark", "recommended")
_CONDITION = re.compile(
    rf"\s*[`\"]?({'|'.join(map(re.escape, [*_NAMES, *_NO_CONDITIONS]))}|[A-Za-z_][A-Za-z0-9_]*)"
    r"[`\"]?\s*(<=|>=|!=|==?|<|>)\s*('[^']*'|\"[^\"]*\"|[^\s'\"]+)\s*"
)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?inf")
# What MLflow knows of a run by a bare name.
_OF_MLFLOW = ("artifact_uri", "run_id", "run_name", "user_id", "start_time", "end_time", "status")
# How MLflow's own conditions begin: a table's name, or one of those.
_FOR_MLFLOW = re.compile(rf"\s*([A-Za-z_][A-Za-z0-9_]*\s*\.|[`\"]?({'|'.join(_OF_MLFLOW)})\b)")
# "and" outside quotes.
_AND = re.compile(r"""\band\b(?=(?:[^'"`]|'[^']*'|"[^"]*"|`[^`]*`)*$)""", re.IGNORECASE)
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}
_EXAMPLE = f"{VAL_ACCURACY} > 0.9 and {METRICS[LIPSCHITZ_UPPER_BOUND].short} < 0.2"
_FORM = f"it must be NAME OPERATOR NUMBER, or several with 'and' between them, such as {_EXAMPLE!r}"
_DEPENDS = "depends on which networks pass, so it cannot be a condition"
# As YAML and Python write them.
_WORDS = {"true": "True", "false": "False", "null": "None", "none": "None"}


@dataclass(frozen=True)
class _OnParameter:
    """A condition on a hyperparameter; `projected_to` is what a projection was projected to, and
    all others are of the training."""

    name: str
    operator: str
    value: str

    def holds(self, record: TrialRecord) -> bool:
        has = _parameter(record, self.name)
        if has is None:
            return False
        if _NUMBER.fullmatch(has) and _NUMBER.fullmatch(self.value):
            return _OPERATORS[self.operator](float(has), float(self.value))
        # Of text only that it is the same, or is not.
        same = has in (self.value, _WORDS.get(self.value.lower()))
        return self.operator in ("=", "!=") and same is (self.operator == "=")


@dataclass(frozen=True)
class _OnMetric:
    """A condition on a metric as it is reported, which MLflow has with more digits."""

    name: str
    operator: str
    value: float

    def holds(self, record: TrialRecord) -> bool:
        has = as_reported(record.metrics).get(self.name)
        return has is not None and _OPERATORS[self.operator](has, self.value)

    def of_mlflow(self) -> str | None:
        """What MLflow can leave out: what is beyond the value by more than is rounded away. None
        where it can leave out nothing, or cannot compare."""
        slack = METRICS[self.name].resolution.largest_change(self.value)
        name = f"metrics.`{self.name}`"
        if not math.isfinite(self.value):
            return None
        if self.operator in ("<", "<="):
            return f"{name} <= {self.value + slack!r}"
        if self.operator in (">", ">="):
            return f"{name} >= {self.value - slack!r}"
        return None


@dataclass(frozen=True)
class Conditions:
    """What a network must meet.

    Attributes:
        of_mlflow: MLflow's part, a filter of its search; empty if there is none.
        as_typed: those of it that are as the user wrote them, so that MLflow may refuse them.
    """

    of_mlflow: str
    as_typed: tuple[str, ...] = ()
    _checked_here: tuple[_OnParameter | _OnMetric, ...] = ()

    def keep(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Those of the records that MLflow returned which meet the conditions that it cannot check
        exactly."""
        return [r for r in records if all(one.holds(r) for one in self._checked_here)]


def _parameter(record: TrialRecord, name: str) -> str | None:
    return record.params.get(name, record.params.get(f"{_DATA}.{name}"))


def grammar(records: Sequence[TrialRecord]) -> dict[str, Any]:
    """How the page of a study reads its filter, for JSON: the patterns, names and refusals of
    `parse`, and the hyperparameters of these records, one text for all of them or a list."""
    parameters: dict[str, Any] = {}
    for name in _PARAMETERS:
        values = [_parameter(record, name) for record in records]
        parameters[name] = values if len(set(values)) > 1 else next(iter(values), None)
    return {
        "and": _AND.pattern,
        "condition": _CONDITION.pattern,
        "for_mlflow": _FOR_MLFLOW.pattern,
        "number": _NUMBER.pattern,
        "names": _NAMES,
        "words": _WORDS,
        "parameters": parameters,
        "no_conditions": _NO_CONDITIONS,
        "form": _FORM,
        "depends": _DEPENDS,
        "example": _EXAMPLE,
    }


def parse(text: str, searched: Sequence[str] = ()) -> Conditions:
    """The conditions of a --where.

    Args:
        searched: the study's own hyperparameters, the first to be named in a message.

    Raises:
        UserError: if one is no condition, its name is none that a condition may have, or text is
            compared by size.
    """
    as_typed = list[str]()
    of_metrics = list[str]()
    checked_here = list[_OnParameter | _OnMetric]()
    for part in _AND.split(text) if text.strip() else []:
        if _FOR_MLFLOW.match(part):
            as_typed.append(part.strip())
            continue
        match = _CONDITION.fullmatch(part)
        if match is None:
            raise UserError(f"--where: {_FORM}, but got {quoted(part.strip())}")
        name, symbol, value = match.groups()
        name, symbol = _NAMES.get(name, name), "=" if symbol == "==" else symbol
        if name in METRICS:
            on_metric = _OnMetric(name, symbol, _number(name, symbol, value))
            checked_here.append(on_metric)
            of_metrics += [part] if (part := on_metric.of_mlflow()) else []
        else:
            checked_here.append(_on_parameter(name, symbol, value, searched))
    of_mlflow = " and ".join([*of_metrics, *as_typed])
    return Conditions(of_mlflow, tuple(as_typed), tuple(checked_here))


def _on_parameter(name: str, symbol: str, value: str, searched: Sequence[str]) -> _OnParameter:
    known = tuple(dict.fromkeys([*METRICS, *searched, *_PARAMETERS]))
    if name in _NO_CONDITIONS:
        raise UserError(
            f"--where: {quoted(name)} {_DEPENDS}; what stood on the front when the study ended has "
            "tags.`study.mark` = 'front'"
        )
    if name not in _PARAMETERS:
        raise UserError(f"--where: {unknown(name, known, 'metric or hyperparameter')}")
    if symbol not in ("=", "!="):
        _number(name, symbol, value)
    return _OnParameter(name, symbol, value.strip("'\""))


def _number(name: str, symbol: str, value: str) -> float:
    plain = value.strip("'\"")
    if not _NUMBER.fullmatch(plain):
        raise UserError(
            f"--where: {name} {symbol} must be followed by a number, but got {quoted(plain)}"
        )
    return float(plain)
