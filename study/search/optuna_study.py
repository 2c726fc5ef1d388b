"""Networks as an Optuna study in a storage, for tools that read such studies."""

import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning, OptunaError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from study.config.space import Parameter, Value, is_active
from study.errors import UserError, printable, quoted, some
from study.metrics.definitions import Direction
from study.metrics.reports import TrialStatus
from study.search.distributions import distribution, to_optuna
from study.search.observation import finite

__all__ = ["FrozenTrial", "as_trial", "write"]

# Key of the errors raised here.
_KEY = "optuna"
_STATES = {
    TrialStatus.COMPLETED: TrialState.COMPLETE,
    TrialStatus.STOPPED_EARLY: TrialState.PRUNED,
    TrialStatus.FAILED: TrialState.FAIL,
}
# Every database of Optuna has this table.
_TABLE = "studies"
# Where Optuna 5 stores unnamed constraints. optuna-dashboard knows no others.
_UNNAMED_CONSTRAINTS = "constraints"


def as_trial(
    space: Sequence[tuple[str, Parameter]],
    network: str,
    sample: Mapping[str, Value],
    state: TrialStatus,
    values: Sequence[float] | None,
    violations: Mapping[str, float],
    attributes: Mapping[str, Any],
    started: float,
    ended: float,
) -> FrozenTrial:
    """A network as a trial of Optuna.

    Args:
        network: its handle, for messages.
        state: completed, stopped early or failed.
        values: of the objectives, finite; None unless the trial is completed.
        violations: constraint -> violation; at most 0 is feasible.
        attributes: further plain values by name.
        started, ended: seconds since 1970-01-01 UTC.

    Raises:
        UserError: if a value of the sample is not in the space.
    """
    space = [(key, parameter) for key, parameter in space if is_active(parameter, sample)]
    for key, parameter in space:
        if key not in sample or not parameter.contains(sample[key]):
            raise UserError(f"{key} of {network} must be in space.{key}", _KEY, sample.get(key))
    violations = finite(violations)
    trial = create_trial(
        state=_STATES[state],
        params={key: to_optuna(parameter, sample[key]) for key, parameter in space},
        distributions={key: distribution(parameter) for key, parameter in space},
        values=values,
        constraints=violations,
        user_attrs=dict(attributes),
        system_attrs={_UNNAMED_CONSTRAINTS: list(violations.values())} if violations else {},
    )
    # Optuna's times are local, without a time zone.
    trial.datetime_start = datetime.fromtimestamp(started)
    trial.datetime_complete = datetime.fromtimestamp(ended)
    return trial


def write(
    url: str,
    name: str,
    objectives: Sequence[tuple[str, Direction]],
    trials: Sequence[FrozenTrial],
    attributes: Mapping[str, Any],
) -> str:
    """Write a study into a storage: all of it, or nothing.

    Args:
        url: of a database, as Optuna and SQLAlchemy take it, such as "sqlite:///optuna.db".
        objectives: (metric, direction) of each, in the order of the trials' values.
        attributes: of the study: name -> plain value.

    Returns:
        The storage's URL without its password.

    Raises:
        UserError: if the storage cannot be written, is not Optuna's, or has a study of that name.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        address = make_url(url)
    # ValueError: the port is not a number.
    except (SQLAlchemyError, ValueError) as error:
        rule = "must be the URL of a database, such as sqlite:///optuna.db"
        raise UserError(rule, _KEY, url) from error
    shown = printable(address.render_as_string(hide_password=True))
    try:
        _check_tables(address, shown)
        _write(RDBStorage(url), name, objectives, trials, attributes)
    except DuplicatedStudyError as error:
        rule = f"the storage must have no study of this name, but {shown} has {quoted(name)}"
        raise UserError(rule, _KEY) from error
    # ImportError: the driver is missing. RuntimeError: Optuna's tables are of another version.
    except (ImportError, SQLAlchemyError, OptunaError, RuntimeError) as error:
        rule = f"the storage must open and be writable, but {shown} is not: {_cause(error)}"
        raise UserError(rule, _KEY) from error
    return shown


def _write(
    storage: RDBStorage,
    name: str,
    objectives: Sequence[tuple[str, Direction]],
    trials: Sequence[FrozenTrial],
    attributes: Mapping[str, Any],
) -> None:
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=[direction.value for _, direction in objectives],
    )
    try:
        with warnings.catch_warnings():
            # Without names the dashboard calls the objectives 0, 1 and 2.
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([metric for metric, _ in objectives])
        for key, value in attributes.items():
            study.set_user_attr(key, value)
        study.add_trials(trials)
    except BaseException:
        optuna.delete_study(study_name=name, storage=storage)
        raise


def _check_tables(address: URL, shown: str) -> None:
    """Raise UserError for another program's tables: Optuna would add its own, then refuse them."""
    engine = create_engine(address)
    try:
        tables = inspect(engine).get_table_names()
    finally:
        engine.dispose()
    if tables and _TABLE not in tables:
        raise UserError(
            f"the database must be Optuna's or an empty one, but {shown} has the tables "
            f"{some(sorted(tables))}",
            _KEY,
        )


def _cause(error: BaseException) -> str:
    """The driver's message in one line, without Optuna's and SQLAlchemy's errors around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return printable(" ".join(str(error).split()))
