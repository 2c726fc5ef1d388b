"""Networks as a study of Optuna in a storage, for tools that read Optuna's studies."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning, OptunaError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from study.config.space import Parameter, Value
from study.errors import UserError, printable, quoted, some
from study.metrics.definitions import Direction
from study.metrics.reports import TrialStatus
from study.search.distributions import distribution, to_optuna
from study.search.observation import finite

# What messages are about.
_KEY = "optuna"
_STATES = {
    TrialStatus.COMPLETED: TrialState.COMPLETE,
    TrialStatus.STOPPED_EARLY: TrialState.PRUNED,
    TrialStatus.FAILED: TrialState.FAIL,
}
# Every database of Optuna has this table.
_TABLE = "studies"
# Where Optuna 5 keeps what a sampler's function of constraints returns, and optuna-dashboard looks
# for constraints. It does not know those that have names.
_UNNAMED_CONSTRAINTS = "constraints"


@dataclass(frozen=True)
class Network:
    """A network that becomes a trial of Optuna.

    Attributes:
        name: for messages.
        sample: of the study's space.
        state: completed, stopped early or failed.
        values: of the objectives, finite; None unless it is completed.
        violations: constraint -> by how much it is violated; at most 0 is feasible.
        attributes: what else is known of it, plain values by name.
        started, ended: seconds since 1970-01-01 UTC.
    """

    name: str
    sample: Mapping[str, Value]
    state: TrialStatus
    values: Sequence[float] | None
    violations: Mapping[str, float]
    attributes: Mapping[str, Any]
    started: float
    ended: float


def as_trials(
    space: Sequence[tuple[str, Parameter]], networks: Sequence[Network]
) -> list[FrozenTrial]:
    """The networks as trials of Optuna, in their order.

    Raises:
        UserError: if a sample is not of the space.
    """
    distributions = {key: distribution(parameter) for key, parameter in space}
    trials = []
    for network in networks:
        for key, parameter in space:
            if key not in network.sample or not parameter.contains(network.sample[key]):
                rule = f"{key} of {network.name} must be in space.{key}"
                raise UserError(rule, _KEY, network.sample.get(key))
        violations = finite(network.violations)
        trial = create_trial(
            state=_STATES[network.state],
            params={key: to_optuna(p, network.sample[key]) for key, p in space},
            distributions=distributions,
            values=network.values,
            constraints=violations,
            user_attrs=dict(network.attributes),
            system_attrs={_UNNAMED_CONSTRAINTS: list(violations.values())} if violations else {},
        )
        # Optuna's times are local and do not say so.
        trial.datetime_start = datetime.fromtimestamp(network.started)
        trial.datetime_complete = datetime.fromtimestamp(network.ended)
        trials.append(trial)
    return trials


def check(url: str, name: str) -> None:
    """Whether a study of that name can be written into a storage. Nothing is changed there.

    Args:
        url: of a database, such as "sqlite:///optuna.db", as Optuna and SQLAlchemy take it.

    Raises:
        UserError: if the storage cannot be opened, holds something else than studies of Optuna, or
            has a study of that name.
    """
    with _opened(url) as address:
        if address.get_backend_name() == "sqlite" and not _is_there(address):
            return
        engine = create_engine(address)
        try:
            tables = inspect(engine).get_table_names()
        finally:
            engine.dispose()
        if tables and _TABLE not in tables:
            # Optuna would create its tables beside those of MLflow, say, and refuse them later.
            raise UserError(
                f"the database must be Optuna's or an empty one, but {_shown(address)} has the "
                f"tables {some(sorted(tables))}",
                _KEY,
            )
        if tables:
            storage = RDBStorage(url, skip_table_creation=True)
            if name in optuna.get_all_study_names(storage):
                raise _taken(address, name)


def write(
    url: str,
    name: str,
    objectives: Sequence[tuple[str, Direction]],
    trials: Sequence[FrozenTrial],
    attributes: Mapping[str, Any],
) -> str:
    """Write a study into a storage, after `check`: all of it, or nothing.

    Args:
        objectives: name and direction of each, in the order of the trials' values.
        attributes: of the study, plain values by name.

    Returns:
        The storage's URL without its password.

    Raises:
        UserError: if the storage cannot be written, or has a study of that name by now.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _opened(url) as address:
        storage = RDBStorage(url)
        try:
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                directions=[direction.value for _, direction in objectives],
            )
        except DuplicatedStudyError as error:
            raise _taken(address, name) from error
        try:
            with warnings.catch_warnings():
                # Without it the dashboard calls the objectives 0, 1 and 2.
                warnings.simplefilter("ignore", ExperimentalWarning)
                study.set_metric_names([metric for metric, _ in objectives])
            for key, value in attributes.items():
                study.set_user_attr(key, value)
            study.add_trials(trials)
        except BaseException:
            optuna.delete_study(study_name=name, storage=storage)
            raise
        return _shown(address)


@contextmanager
def _opened(url: str) -> Iterator[URL]:
    """The address of a storage; within, its errors become one line.

    Raises:
        UserError: if it is no URL of a database, or the storage could not be opened or written.
    """
    try:
        address = make_url(url)
    # ValueError: the port is no number.
    except (SQLAlchemyError, ValueError) as error:
        rule = "must be the URL of a database, such as sqlite:///optuna.db"
        raise UserError(rule, _KEY, url) from error
    try:
        yield address
    except ImportError as error:
        raise UserError(
            f"the driver of {_shown(address)} must be installed, but: {_cause(error)}", _KEY
        ) from error
    # RuntimeError: Optuna's, for tables of another version.
    except (SQLAlchemyError, OptunaError, RuntimeError) as error:
        raise UserError(
            f"the storage must open and be writable, but {_shown(address)} is not: {_cause(error)}",
            _KEY,
        ) from error


def _is_there(address: URL) -> bool:
    """Whether the file of an SQLite database exists; opening it would create it.

    Raises:
        UserError: if it can be neither created nor written.
    """
    if address.database in (None, "", ":memory:"):
        raise UserError(f"must name a file, but got {_shown(address)}", _KEY)
    path = Path(address.database)
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"{path} must be a file that can be written, but is not", _KEY)
    return path.exists()


def _shown(address: URL) -> str:
    return printable(address.render_as_string(hide_password=True))


def _taken(address: URL, name: str) -> UserError:
    return UserError(
        f"the storage must have no study of this name, but {_shown(address)} has {quoted(name)}",
        _KEY,
    )


def _cause(error: BaseException) -> str:
    """What the driver says, in one line; Optuna's and SQLAlchemy's errors stand around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return printable(" ".join(str(error).split()))
