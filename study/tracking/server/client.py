"""One tracking server or database: requests to it, and what its errors mean."""

import functools
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ParamSpec, TypeVar
from urllib.parse import parse_qsl, urlsplit

import requests
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.entities import Run as Run
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils
from mlflow.store.entities import PagedList
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from study.errors import OutageError, TrackingError, quoted, reason
from study.metrics.reports import TrialStatus
from study.tracking.server.database import is_of_others, make_whole
from study.tracking.server.locations import database_file
from study.tracking.tags import STATE

# Runs in one page of a search.
_PAGE = 1000
_MAX_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
# ImportError: a store whose library is not installed. UnicodeError: a database with damaged text.
_EXPECTED = (MlflowException, SQLAlchemyError, sqlite3.Error, OSError, ImportError, UnicodeError)
# Libraries whose errors MLflow passes through unwrapped; they need not be installed.
_CLIENTS_OF_BUCKETS = ("azure", "boto3", "botocore", "google")
# Codes of requests that MLflow will never accept. Any other may be temporary: a server that loses
# its database answers BAD_REQUEST.
_REFUSALS = frozenset(
    {
        "CUSTOMER_UNAUTHORIZED", "ENDPOINT_NOT_FOUND", "INVALID_PARAMETER_VALUE", "INVALID_STATE",
        "NOT_FOUND", "NOT_IMPLEMENTED", "PERMISSION_DENIED", "RESOURCE_ALREADY_EXISTS",
        "RESOURCE_DOES_NOT_EXIST", "UNAUTHENTICATED",
    }
)  # fmt: skip
MLFLOW_STATUS = {
    TrialStatus.COMPLETED: "FINISHED",
    TrialStatus.STOPPED_EARLY: "KILLED",
    TrialStatus.FAILED: "FAILED",
    TrialStatus.INTERRUPTED: "KILLED",
}

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Client:
    """One tracking server or database. Methods raise TrackingError if it refuses or is down."""

    def __init__(self, tracking_uri: str, max_retries: int = 2) -> None:
        """
        Args:
            tracking_uri: must contain no password.
            max_retries: of an unanswered request; few, so that an outage is reported in seconds.
        """
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        # MLflow would print the address of each ended run among our own output.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        # A uv project in the working directory is not part of a model.
        os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        # It logs each database error with its traceback, and raises it too.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        # The address appears in messages, commands and pages.
        if _has_secret(tracking_uri):
            raise TrackingError(
                "an address must hold no password; give it in MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or as the database takes it from its environment",
                key="tracking_uri",
            )
        self.tracking_uri = tracking_uri
        self._max_retries = max_retries
        # For a message.
        self.place = f"in MLflow at {tracking_uri}"

    @functools.cached_property
    def api(self) -> MlflowClient:
        """MLflow's own client; its methods are called through `call`."""
        # Created on first use: connecting to a SQLite file creates it.
        database = database_file(self.tracking_uri)
        if database is not None:
            if is_of_others(database):
                rule = f"must be a database of MLflow, but {database} has the tables of others"
                raise TrackingError(rule, key="tracking_uri")
            self.call(make_whole, database)
        return self.call(MlflowClient, self.tracking_uri)

    def call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call a function; errors of MLflow and of its server become TrackingError."""
        try:
            with _RETRIES.set_to(self._max_retries):
                return function(*args, **kwargs)
        except Exception as error:
            if not isinstance(error, _EXPECTED) and not _is_of_a_bucket(error):
                raise
            kind = OutageError if _may_pass(error, self.tracking_uri) else TrackingError
            raise kind(f"MLflow at {self.tracking_uri}: {reason(error)}") from error

    def is_absent(self) -> bool:
        """Whether the database is a file that does not exist: connecting would create it."""
        database = database_file(self.tracking_uri)
        # `Path.exists` raises OSError for a name that is too long.
        return database is not None and not os.path.exists(database)

    def search_runs(
        self, experiment_ids: list[str], condition: str, view: int = ViewType.ACTIVE_ONLY
    ) -> Iterator[Run]:
        """Runs of experiments that match MLflow's filter, latest first; `view` is its ViewType."""
        if not experiment_ids:
            return iter(())
        latest_first = ["attributes.start_time DESC"]
        search = self.api.search_runs
        return self.pages(search, experiment_ids, condition, view, _PAGE, latest_first)

    def pages(self, search: Callable[..., PagedList[_T]], *args: object) -> Iterator[_T]:
        """The results of an MLflow search, page by page."""
        token = None
        while True:
            page = self.call(search, *args, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def get_run(self, run_id: str) -> Run:
        """A run as it is now."""
        if self.is_absent():
            raise TrackingError(f"MLflow at {self.tracking_uri}: there is no run {run_id}")
        return self.call(self.api.get_run, run_id)

    def log(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log everything to a run in as few requests as MLflow allows."""
        run_params = [Param(key, str(value)) for key, value in (params or {}).items()]
        run_tags = [RunTag(name, value) for name, value in (tags or {}).items()]
        self.call(self.api.log_batch, run_id, metrics, run_params, run_tags)

    def set_state(
        self, run_id: str, status: TrialStatus, tags: Mapping[str, str] | None = None
    ) -> None:
        """Set a run's status in MLflow and, with other tags, in our own tag STATE, which counts: a
        run that a crash leaves with only one of the two counts as running, and is ended again."""
        of_run = {**(tags or {}), STATE: status.value}
        if status is TrialStatus.RUNNING:
            self.log(run_id, tags=of_run)
            self.call(self.api.update_run, run_id, "RUNNING")
        else:
            self.call(self.api.set_terminated, run_id, MLFLOW_STATUS[status])
            self.log(run_id, tags=of_run)

    def delete_run(self, run_id: str) -> None:
        """Delete a run and its models."""
        self.delete_models(self.get_run(run_id))
        self.call(self.api.delete_run, run_id)

    def delete_models(self, run: Run) -> None:
        """Delete the logged models of a run."""
        for model_id in self.model_ids(run):
            self.call(self.api.delete_logged_model, model_id)

    def model_ids(self, run: Run) -> list[str]:
        """Ids of the logged models of a run."""
        condition = f"source_run_id = '{run.info.run_id}'"
        models = self.call(self.api.search_logged_models, [run.info.experiment_id], condition)
        return [model.model_id for model in models]


class _Retries:
    """Sets how often MLflow retries, for the time of a `with` block.

    MLflow has two limits: one for requests, in the environment, and one for connections to a
    database, in a module of its own. Threads inside such blocks at the same time share the limit
    that was set last. When the last block ends, both have the values from before the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_inside = 0
        self._before: dict[str, str] = {}
        self._of_databases = utils.MAX_RETRY_COUNT

    @contextmanager
    def set_to(self, number: int) -> Iterator[None]:
        with self._lock:
            if self._n_inside == 0:
                self._before = {k: v for k, v in os.environ.items() if k == _MAX_RETRIES}
                self._of_databases = utils.MAX_RETRY_COUNT
            self._n_inside += 1
            os.environ[_MAX_RETRIES] = str(number)
            # A limit of attempts. MLflow's own, ten, takes almost a minute for each of two stores.
            utils.MAX_RETRY_COUNT = number + 1
        try:
            yield
        finally:
            with self._lock:
                self._n_inside -= 1
                if self._n_inside == 0:
                    del os.environ[_MAX_RETRIES]
                    os.environ.update(self._before)
                    utils.MAX_RETRY_COUNT = self._of_databases


_RETRIES = _Retries()


def _may_pass(error: Exception, tracking_uri: str) -> bool:
    """Whether the same call may succeed later: the server is down, or the database busy."""
    if tracking_uri.startswith("sqlite"):
        return "locked" in str(error)
    if isinstance(error, MlflowException):
        return error.error_code not in _REFUSALS
    is_of_server = isinstance(error, (requests.RequestException, SQLAlchemyError))
    return is_of_server or _is_of_a_bucket(error)


def _is_of_a_bucket(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in _CLIENTS_OF_BUCKETS


def _has_secret(tracking_uri: str) -> bool:
    """Whether an address has a password, or a token before the host or in the query."""
    try:
        parts = urlsplit(tracking_uri)
    except ValueError as error:
        raise TrackingError(
            f"must be an address, but got {quoted(tracking_uri)}: {error}", key="tracking_uri"
        ) from error
    is_token = parts.scheme in ("http", "https") and parts.username is not None
    keys = {key.lower() for key, _ in parse_qsl(parts.query)}
    return (
        parts.password is not None
        or is_token
        or any(word in key for key in keys for word in ("password", "passwd", "token", "secret"))
    )
