"""`--where`: conditions on networks, by the names of metrics and hyperparameters alone.

MLflow has a filter of its own, "metrics.val_accuracy > 0.9 and params.coeff = '0.5'", in which a
name needs its table, and parameters are text. A condition whose left side is a bare name, or what
the report's table prints over a metric, is read here: on a metric it becomes MLflow's, on a
hyperparameter it is checked here, by number where the value is one. All others go to MLflow as they
are.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

from study.config.study import SECTION_OF
from study.config.trial import EvaluationConfig
from study.errors import UserError, quoted, unknown
from study.metrics import METRICS, as_reported
from study.tracking.records import TrialRecord

# What the table prints over a column -> the metric.
_HEADS = {metric.short: name for name, metric in METRICS.items()}
_CONDITION = re.compile(
    rf"\s*({'|'.join(map(re.escape, _HEADS))}|[A-Za-z_][A-Za-z0-9_]*)"
    r"\s*(<=|>=|!=|=|<|>)\s*('[^']*'|\"[^\"]*\"|[^\s'\"]+)\s*"
)
# Keys of the section of the data have it before them among a run's parameters.
_DATA = "data"
# What a run's parameters are called.
_PARAMETERS = (
    *SECTION_OF,
    *(field.name for field in fields(EvaluationConfig)),
    "seed",
    "fine_tune_steps",
)
# What MLflow knows of a run by a bare name.
_OF_MLFLOW = ("artifact_uri", "run_id", "run_name", "user_id", "start_time", "end_time", "status")
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


@dataclass(frozen=True)
class _OnParameter:
    """A condition on a hyperparameter; of a projection, on what it was projected to."""

    name: str
    operator: str
    value: str

    def holds(self, record: TrialRecord) -> bool:
        has = record.params.get(self.name, record.params.get(f"{_DATA}.{self.name}"))
        if has is None:
            return False
        try:
            return _OPERATORS[self.operator](float(has), float(self.value))
        except ValueError:
            return (has == self.value) is (self.operator == "=")


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
        """What MLflow can leave out: what is beyond the value by more than is rounded away."""
        slack = METRICS[self.name].resolution.largest_change(self.value)
        name = f"metrics.`{self.name}`"
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
    """

    of_mlflow: str
    _checked_here: tuple[_OnParameter | _OnMetric, ...] = ()

    def keep(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Those of the records that MLflow returned which meet the conditions that it cannot check
        exactly."""
        return [r for r in records if all(one.holds(r) for one in self._checked_here)]


def parse(text: str) -> Conditions:
    """The conditions of a --where.

    Raises:
        UserError: if a bare name is no metric, no hyperparameter and none of MLflow's, or text is
            compared by size.
    """
    of_mlflow = list[str]()
    checked_here = list[_OnParameter | _OnMetric]()
    for part in _AND.split(text) if text.strip() else []:
        match = _CONDITION.fullmatch(part)
        if match is None or match[1] in _OF_MLFLOW:
            of_mlflow.append(part.strip())
            continue
        name, symbol, value = match.groups()
        name = _HEADS.get(name, name)
        if name in METRICS:
            on_metric = _OnMetric(name, symbol, _number(name, symbol, value))
            checked_here.append(on_metric)
            of_mlflow += [part] if (part := on_metric.of_mlflow()) else []
        else:
            checked_here.append(_on_parameter(name, symbol, value))
    return Conditions(" and ".join(of_mlflow), tuple(checked_here))


def _on_parameter(name: str, symbol: str, value: str) -> _OnParameter:
    if name not in _PARAMETERS:
        known = (*METRICS, *_PARAMETERS)
        raise UserError(f"--where: {unknown(name, known, 'metric or hyperparameter')}")
    if symbol not in ("=", "!="):
        _number(name, symbol, value)
    return _OnParameter(name, symbol, value.strip("'\""))


def _number(name: str, symbol: str, value: str) -> float:
    plain = value.strip("'\"")
    try:
        return float(plain)
    except ValueError:
        raise UserError(
            f"--where: {name} {symbol} must be followed by a number, but got {quoted(plain)}"
        ) from None
