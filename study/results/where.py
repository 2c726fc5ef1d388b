"""Conditions on networks, by the names of metrics and hyperparameters alone.

MLflow's own filter, "metrics.val_accuracy > 0.9 and params.coeff = '0.5'", needs a prefix before
each name, and compares parameters as text. A condition on a bare name, or on a heading of the
report's table, is checked here. It may be on a metric, as reported, on a hyperparameter, compared
as a number if it is one, or on the name or mark of a network. A number equals every value that is
printed like it, so a value can be typed as a table shows it. Nothing is evaluated as code.
Conditions with MLflow's prefixes, or on what MLflow itself knows of a run, go to MLflow unchanged.

The filter of a study's page accepts the same conditions, except those for MLflow. It gets these
patterns from `grammar`, so they must mean the same in JavaScript.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from study.config.study import SECTION_OF
from study.config.trial import EvaluationConfig
from study.errors import UserError, unknown
from study.metrics.definitions import (
    BLOCK_LIPSCHITZ_UPPER_BOUND,
    FORMER_NAMES,
    METRICS,
    VAL_ACCURACY,
    Metric,
    meaning,
)
from study.metrics.rounding import Decimals, Digits
from study.results.front import Mark
from study.results.numbers import FEWEST_DECIMALS
from study.tracking.handles import network_label
from study.tracking.study_record import TrialRecord
from study.tracking.values import FINE_TUNE_STEPS, PROJECTED_TO

SHORT_DIGITS = 3
"""Significant digits of a hyperparameter in a table, unless it is a whole number below LONG."""
LONG = 1e6
NETWORK, MARK = "network", "mark"
_LONGEST = 8  # longer names of hyperparameters are cut in column headings


def heading(hyperparameter: str) -> str:
    """Column heading of a hyperparameter: its name; for a long one, the first three letters of each
    of its first two words."""
    if len(hyperparameter) <= _LONGEST:
        return hyperparameter
    return "_".join(word[:3] for word in hyperparameter.split("_")[:2])


# Names of a run's parameters, without data.root: a page is sent to others and names no folder.
_PARAMETERS = (
    *(key for key in SECTION_OF if key != "root"),
    *(field.name for field in fields(EvaluationConfig)),
    "seed",
    FINE_TUNE_STEPS,
    PROJECTED_TO,
)
# Heading or former name of a metric or hyperparameter -> its name, if the two differ.
_NAMES = {
    **{heading(name): name for name in _PARAMETERS if heading(name) != name},
    **{metric.short: name for name, metric in METRICS.items()},
    **FORMER_NAMES,
}


def _headings(metrics: Mapping[str, Metric]) -> dict[str, str]:
    """_NAMES, and the headings of a study's metrics, which may contain a radius."""
    return {**_NAMES, **{metric.short: name for name, metric in metrics.items()}}


def _name(names: Mapping[str, str]) -> str:
    """The pattern of a name: one of these headings, which may contain spaces, or a bare word."""
    return rf"[`\"]?({'|'.join(map(re.escape, names))}|[A-Za-z_][A-Za-z0-9_]*)[`\"]?"


def _condition(names: Mapping[str, str]) -> re.Pattern[str]:
    return re.compile(
        rf"\s*{_name(names)}\s*(<=|>=|!=|==?|<|>)\s*('[^']*'|\"[^\"]*\"|[^\s'\"]+)\s*"
    )


def _between(names: Mapping[str, str]) -> re.Pattern[str]:
    """The pattern of "x between a and b", which stands for "x >= a and x <= b"."""
    return re.compile(
        rf"(?<![A-Za-z0-9_.]){_name(names)}\s+between\s+([^\s'\"]+)\s+and\s+([^\s'\"]+)"
        rf"{_OUTSIDE_QUOTES}",
        re.IGNORECASE,
    )


_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?inf")
# Beginnings of MLflow's own conditions: a prefix with a dot, or a bare name that MLflow knows.
_FOR_MLFLOW = re.compile(
    r"\s*([A-Za-z_][A-Za-z0-9_]*\s*\.|"
    r"[`\"]?(artifact_uri|run_id|run_name|user_id|start_time|end_time|status)\b)"
)
_OUTSIDE_QUOTES = r"""(?=(?:[^'"`]|'[^']*'|"[^"]*"|`[^`]*`)*$)"""
# Only between spaces: the name of a study may contain these words.
_AND, _OR = (
    re.compile(rf"(?<!\S){word}(?!\S){_OUTSIDE_QUOTES}", re.IGNORECASE) for word in ("and", "or")
)
_TEXTS = (NETWORK, MARK)
_EXAMPLE = f"{VAL_ACCURACY} > 0.9 and {METRICS[BLOCK_LIPSCHITZ_UPPER_BOUND].short} < 0.2"
_FORM = (
    "must be NAME OPERATOR NUMBER or NAME between NUMBER and NUMBER, or several with 'and' or 'or' "
    f"between them, such as {_EXAMPLE!r}"
)
# A word in YAML -> the text of the same value in Python.
_WORDS = {"true": "True", "false": "False", "null": "None", "none": "None"}


@dataclass(frozen=True)
class Condition:
    """A condition on a metric, a hyperparameter, the name of a network or its mark. A projection
    has the hyperparameters of its training, except for `projected_to`."""

    name: str
    operator: str
    value: str
    is_metric: bool

    def holds(self, record: TrialRecord, study: str, mark: str | None) -> bool:
        """Whether a network of a study has the value and meets the condition. Text allows only the
        operators = and !=. `mark` is the network's mark among all networks of the study."""
        if self.name in _TEXTS:
            names = [mark] if self.name == MARK else _names(record, study)
            return (self.value in names) is (self.operator == "=")
        known = self._value(record)
        if known is None:
            return False
        if _NUMBER.fullmatch(known) and _NUMBER.fullmatch(self.value):
            is_same = self._is_same(float(known))
            is_less = float(known) < float(self.value) and not is_same
            return {
                "<": is_less,
                "<=": is_less or is_same,
                ">": not is_less and not is_same,
                ">=": not is_less,
                "=": is_same,
                "!=": not is_same,
            }[self.operator]
        is_same = known in (self.value, _WORDS.get(self.value.lower()))
        return self.operator in ("=", "!=") and is_same is (self.operator == "=")

    def _value(self, record: TrialRecord) -> str | None:
        if not self.is_metric:
            return _parameter(record, self.name)
        value = record.metrics.get(self.name, math.nan)
        return None if math.isnan(value) else repr(meaning(self.name).resolution.round(value))

    def _is_same(self, known: float) -> bool:
        """Whether the condition's number equals a known value, rounded to the places that a table
        prints or, if the number is typed with more places, to those."""
        wanted = float(self.value)
        is_whole = not self.is_metric and known.is_integer() and abs(known) < LONG
        if known == wanted or is_whole or not math.isfinite(known - wanted):
            return known == wanted
        mantissa, _, exponent = self.value.lower().partition("e")
        n_typed = len(mantissa.partition(".")[2]) - int(exponent or 0)
        printed = meaning(self.name).resolution if self.is_metric else Digits(SHORT_DIGITS)
        if isinstance(printed, Decimals):
            n_printed = min(printed.n, FEWEST_DECIMALS)
        else:
            n_printed = printed.n - 1 - int(f"{wanted:e}".partition("e")[2])
        # Half of the last place, and the rounding of the difference.
        half = 0.5 * 10.0 ** -max(n_typed, n_printed)
        return abs(known - wanted) <= half + 1e-14 * abs(known)


@dataclass(frozen=True)
class Conditions:
    """What a network must meet.

    Attributes:
        of_mlflow: conditions for MLflow's search, as the user wrote them; empty if there are none.
        checked_here: lists of conditions; a network must meet all conditions of one list.
    """

    of_mlflow: str = ""
    checked_here: tuple[tuple[Condition, ...], ...] = ((),)

    @property
    def need_marks(self) -> bool:
        """Whether a condition is on the marks of networks."""
        return any(one.name == MARK for every in self.checked_here for one in every)

    def keep(
        self,
        records: Sequence[TrialRecord],
        study: str = "",
        marks: Mapping[str, str] | None = None,
    ) -> list[TrialRecord]:
        """The records from MLflow that meet the conditions to be checked here.

        Args:
            study: the name of their study.
            marks: run id -> mark among all networks of the study, where they are needed.
        """
        known = marks or {}
        return [
            r
            for r in records
            if any(
                all(one.holds(r, study, known.get(r.run_id)) for one in every)
                for every in self.checked_here
            )
        ]


def _names(record: TrialRecord, study: str) -> set[str]:
    """The names of a network, with and without its study: by its own trial, and by the first trial
    of its sample, after which its point is named."""
    labels = {network_label(id, record.variant) for id in (record.trial_id, record.repeat_of)}
    return labels | {f"{study}/{label}" for label in labels}


def _parameter(record: TrialRecord, name: str) -> str | None:
    """A parameter of a run; the keys of data settings begin with `data.`."""
    return record.params.get(name, record.params.get(f"data.{name}"))


def grammar(records: Sequence[TrialRecord], metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """How a study's page reads its filter, for JSON: the patterns, names and messages of `parse`
    with these metrics, and the records' hyperparameters, each one text if all are equal, else a
    list."""
    names = _headings(metrics)
    parameters: dict[str, Any] = {}
    for name in _PARAMETERS:
        values = [_parameter(record, name) for record in records]
        parameters[name] = values if len(set(values)) > 1 else next(iter(values), None)
    return {
        "and": _AND.pattern,
        "or": _OR.pattern,
        "between": _between(names).pattern,
        "condition": _condition(names).pattern,
        "for_mlflow": _FOR_MLFLOW.pattern,
        "number": _NUMBER.pattern,
        "names": names,
        "words": _WORDS,
        "parameters": parameters,
        "form": _FORM,
        "example": _EXAMPLE,
        "marks": [mark.value for mark in Mark],
        "texts": _TEXTS,
        "printed": {
            "decimals": FEWEST_DECIMALS,
            "digits": SHORT_DIGITS,
            # All metrics without decimals have this number of digits.
            "metric_digits": METRICS[BLOCK_LIPSCHITZ_UPPER_BOUND].resolution.n,
            "long": LONG,
        },
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
    if not text.strip():
        return Conditions()
    plain = _between(_headings(metrics)).sub(r"\1 >= \2 and \1 <= \3", text)
    alternatives = [_AND.split(every) for every in _OR.split(plain)]
    of_mlflow = [
        part.strip() for every in alternatives for part in every if _FOR_MLFLOW.match(part)
    ]
    if of_mlflow and len(alternatives) > 1:
        raise UserError("'or' must stand without conditions of MLflow's own", "where", of_mlflow[0])
    return Conditions(
        " and ".join(of_mlflow),
        tuple(
            tuple(_read(part, searched, metrics) for part in every if not _FOR_MLFLOW.match(part))
            for every in alternatives
        ),
    )


def _read(part: str, searched: Sequence[str], metrics: Mapping[str, Metric]) -> Condition:
    names = _headings(metrics)
    match = _condition(names).fullmatch(part)
    if match is None:
        raise UserError(_FORM, "where", part.strip())
    name, symbol, value = match.groups()
    name, value = names.get(name, name), value.strip("'\"")
    symbol = "=" if symbol == "==" else symbol
    is_metric = name in metrics
    if name in _TEXTS:
        if symbol not in ("=", "!="):
            raise UserError(f"{name} must be followed by = or !=", "where", symbol)
        if name == MARK and value not in tuple(Mark):
            raise UserError(unknown(value, tuple(Mark), MARK), "where")
        return Condition(name, symbol, value, is_metric=False)
    if not is_metric and name not in _PARAMETERS:
        known = tuple(dict.fromkeys([*searched, *metrics, *_PARAMETERS, *_TEXTS]))
        raise UserError(unknown(name, known, "metric or hyperparameter"), "where")
    is_text = not is_metric and symbol in ("=", "!=")
    if not is_text and not _NUMBER.fullmatch(value):
        raise UserError(f"{name} {symbol} must be followed by a number", "where", value)
    return Condition(name, symbol, value, is_metric)
