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

_STATES = {
    TrialStatus.COMPLETED: TrialState.COMPLETE,
    TrialStatus.STOPPED_EARLY: TrialState.PRUNED,
    TrialStatus.FAILED: TrialState.FAIL,
}
# Of every database of Optuna.
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
                raise UserError(
                    f"--optuna: {key} of {network.name} must be in space.{key}, but got "
                    f"{quoted(network.sample.get(key))}"
                )
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
    address = _parsed(url)
    with _one_line(address):
        if address.get_backend_name() == "sqlite" and not _is_there(address):
            return
        engine = create_engine(address)
        try:
            tables = inspect(engine).get_table_names()
        finally:
            engine.dispose()
        if tables and _TABLE not in tables:
            # Optuna would make its tables beside those of MLflow, say, and then refuse them.
            raise UserError(
                f"--optuna: the database must be Optuna's or an empty one, but {_shown(address)} "
                f"has the tables {some(sorted(tables))}"
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
    """Write a study into a storage, after `check`; the study is there as a whole, or not at all.

    Args:
        objectives: name and direction of each, in the order of the trials' values.
        attributes: of the study, plain values by name.

    Returns:
        The storage's URL without its password.

    Raises:
        UserError: if the storage cannot be written, or has a study of that name by now.
    """
    address = _parsed(url)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _one_line(address):
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


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    # The second is that of a port that is no number.
    except (SQLAlchemyError, ValueError) as error:
        raise UserError(
            "--optuna: it must be the URL of a database, such as sqlite:///optuna.db, but got "
            f"{quoted(url)}"
        ) from error


def _is_there(address: URL) -> bool:
    """Whether there is a file of a SQLite database; to look into one that is not would make it.

    Raises:
        UserError: if it can neither be made nor written.
    """
    if address.database in (None, "", ":memory:"):
        raise UserError(f"--optuna: a file must be named, but got {_shown(address)}")
    path = Path(address.database)
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"--optuna: {path} must be a file that can be written, but is not")
    return path.exists()


def _shown(address: URL) -> str:
    return printable(address.render_as_string(hide_password=True))


def _taken(address: URL, name: str) -> UserError:
    return UserError(
        f"--optuna: the storage must have no study of this name, but {_shown(address)} has "
        f"{quoted(name)}"
    )


@contextmanager
def _one_line(address: URL) -> Iterator[None]:
    """Errors of a storage in one line.

    Raises:
        UserError: within it a storage could not be opened or written.
    """
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"--optuna: the driver of {_shown(address)} must be installed, but: {_reason(error)}"
        ) from error
    # A RuntimeError is Optuna's, of tables that another version made.
    except (SQLAlchemyError, OptunaError, RuntimeError) as error:
        raise UserError(
            f"--optuna: the storage must open and be writable, but {_shown(address)} is not: "
            f"{_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    """What the driver says, in one line; Optuna's and SQLAlchemy's errors stand around it."""
    inner: BaseException = error
    while inner.__cause__ is not None:
        inner = inner.__cause__
    return printable(" ".join(str(inner).split()))
