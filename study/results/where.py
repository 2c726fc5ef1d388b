"""Conditions on networks, by the names of metrics and hyperparameters alone.

MLflow's own filter, "metrics.val_accuracy > 0.9 and params.coeff = '0.5'", needs a table before
each name, and its parameters are text. A condition on a bare name, or on a heading of the report's
table, is checked here: on metrics as reported, on hyperparameters as numbers if they are. Nothing
is evaluated as code. Conditions with a table's name, or on what MLflow itself knows of a run, go to
MLflow unchanged.

The filter of a study's page reads the same, except for MLflow's conditions. It gets these patterns
from `grammar`, so they must mean the same in JavaScript.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from study.config.study import SECTION_OF
from study.config.trial import EvaluationConfig
from study.errors import UserError, unknown
from study.metrics.definitions import (
    LIPSCHITZ_UPPER_BOUND,
    METRICS,
    VAL_ACCURACY,
    Metric,
    meaning,
)
from study.tracking.records import TrialRecord
from study.tracking.values import FINE_TUNE_STEPS, PROJECTED_TO

_LONGEST = 8  # longer names of hyperparameters are cut in column headings


def heading(hyperparameter: str) -> str:
    """Column heading of a hyperparameter: its name, or the first two words of a long one, cut."""
    if len(hyperparameter) <= _LONGEST:
        return hyperparameter
    return "_".join(word[:3] for word in hyperparameter.split("_")[:2])


# Names of a run's parameters. A page is sent to others: it names no folder of this machine.
_PARAMETERS = (
    *(key for key in SECTION_OF if key != "root"),
    *(field.name for field in fields(EvaluationConfig)),
    "seed",
    FINE_TUNE_STEPS,
    PROJECTED_TO,
)
# Heading of a metric or hyperparameter -> its name, if the two differ.
_NAMES = {
    **{heading(name): name for name in _PARAMETERS if heading(name) != name},
    **{metric.short: name for name, metric in METRICS.items()},
}


def _names(metrics: Mapping[str, Metric]) -> dict[str, str]:
    """_NAMES with the headings of a study's metrics, which may have a radius."""
    return {**_NAMES, **{metric.short: name for name, metric in metrics.items()}}


def _condition(names: Mapping[str, str]) -> re.Pattern[str]:
    return re.compile(
        rf"\s*[`\"]?({'|'.join(map(re.escape, names))}|[A-Za-z_][A-Za-z0-9_]*)"
        r"[`\"]?\s*(<=|>=|!=|==?|<|>)\s*('[^']*'|\"[^\"]*\"|[^\s'\"]+)\s*"
    )


_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?inf")
# Beginnings of MLflow's own conditions: a table's name, or a bare name that MLflow knows.
_FOR_MLFLOW = re.compile(
    r"\s*([A-Za-z_][A-Za-z0-9_]*\s*\.|"
    r"[`\"]?(artifact_uri|run_id|run_name|user_id|start_time|end_time|status)\b)"
)
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
_FORM = f"must be NAME OPERATOR NUMBER, or several with 'and' between them, such as {_EXAMPLE!r}"
# In YAML -> in Python.
_WORDS = {"true": "True", "false": "False", "null": "None", "none": "None"}


@dataclass(frozen=True)
class Condition:
    """A condition on a metric or hyperparameter. A projection has the hyperparameters of its
    training, except for `projected_to`."""

    name: str
    operator: str
    value: str
    is_metric: bool

    def holds(self, record: TrialRecord) -> bool:
        """Whether a network has the value and meets the condition; text knows only = and !=."""
        known = self._value(record)
        if known is None:
            return False
        if _NUMBER.fullmatch(known) and _NUMBER.fullmatch(self.value):
            return _OPERATORS[self.operator](float(known), float(self.value))
        is_same = known in (self.value, _WORDS.get(self.value.lower()))
        return self.operator in ("=", "!=") and is_same is (self.operator == "=")

    def _value(self, record: TrialRecord) -> str | None:
        if not self.is_metric:
            return _parameter(record, self.name)
        value = record.metrics.get(self.name, math.nan)
        return None if math.isnan(value) else repr(meaning(self.name).resolution.round(value))


@dataclass(frozen=True)
class Conditions:
    """What a network must meet.

    Attributes:
        of_mlflow: conditions for MLflow's search, as the user wrote them; empty if there are none.
    """

    of_mlflow: str = ""
    checked_here: tuple[Condition, ...] = ()

    def keep(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """The records from MLflow that meet the other conditions."""
        return [r for r in records if all(one.holds(r) for one in self.checked_here)]


def _parameter(record: TrialRecord, name: str) -> str | None:
    """A parameter of a run; the keys of data settings begin with `data.`."""
    return record.params.get(name, record.params.get(f"data.{name}"))


def grammar(records: Sequence[TrialRecord], metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """How the page of a study with these metrics reads its filter, for JSON: the patterns, names
    and messages of `parse`, and the hyperparameters of these records, one text for all or a
    list."""
    names = _names(metrics)
    parameters: dict[str, Any] = {}
    for name in _PARAMETERS:
        values = [_parameter(record, name) for record in records]
        parameters[name] = values if len(set(values)) > 1 else next(iter(values), None)
    return {
        "and": _AND.pattern,
        "condition": _condition(names).pattern,
        "for_mlflow": _FOR_MLFLOW.pattern,
        "number": _NUMBER.pattern,
        "names": names,
        "words": _WORDS,
        "parameters": parameters,
        "form": _FORM,
        "example": _EXAMPLE,
    }


def parse(
    text: str, searched: Sequence[str] = (), metrics: Mapping[str, Metric] = METRICS
) -> Conditions:
    """The conditions of a text.

    Args:
        searched: the study's own hyperparameters, named first in messages.
        metrics: those of the study.

    Raises:
        UserError: if a condition is malformed, its name is unknown, or text is compared by size.
    """
    parts = _AND.split(text) if text.strip() else []
    return Conditions(
        " and ".join(part.strip() for part in parts if _FOR_MLFLOW.match(part)),
        tuple(_read(part, searched, metrics) for part in parts if not _FOR_MLFLOW.match(part)),
    )


def _read(part: str, searched: Sequence[str], metrics: Mapping[str, Metric]) -> Condition:
    names = _names(metrics)
    match = _condition(names).fullmatch(part)
    if match is None:
        raise UserError(_FORM, "where", part.strip())
    name, symbol, value = match.groups()
    name, value = names.get(name, name), value.strip("'\"")
    symbol = "=" if symbol == "==" else symbol
    is_metric = name in metrics
    if not is_metric and name not in _PARAMETERS:
        known = tuple(dict.fromkeys([*searched, *metrics, *_PARAMETERS]))
        raise UserError(unknown(name, known, "metric or hyperparameter"), "where")
    is_text = not is_metric and symbol in ("=", "!=")
    if not is_text and not _NUMBER.fullmatch(value):
        raise UserError(f"{name} {symbol} must be followed by a number", "where", value)
    return Condition(name, symbol, value, is_metric)
