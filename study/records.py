"""MLflow -> study and trial records: what stands there, read.

One experiment a study, one parent run for the study, one child run for each trial, and below it
one for each projection of it.
"""

import functools
import json
import logging
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from study.config import parse
from study.errors import ConfigError, TrackingError, shown
from study.metrics import TrialStatus
from study.search_space import Value
from study.study_config import StudyConfig

KIND = "study.kind"
TRIAL_ID = "study.trial_id"
REPEAT_OF = "study.repeat_of"
SAMPLE = "study.sample"
PROJECTED_FROM = "study.projected_from"
PROJECTED_TO = "study.projected_to"
END_OF_SEARCH = "study.end_of_search"
STATE = "study.state"
CERTIFIED = "study.certified"
CONFIG = "study.config"
SOURCE = "study.source"
STORAGE = "study.storage"
EPOCH = "study.epoch"
NODE = "study.node"
REASON = "study.reason"
PARENT = "mlflow.parentRunId"

_PAGE = 1000
# MLflow stores an infinite metric as the largest double.
LARGEST = 1.7976931348623157e308
_MAX_EPOCHS = "max_epochs"


@dataclass(frozen=True)
class StudyRecord:
    """A study as MLflow knows it; source is its file, storage where Tune keeps its state."""

    name: str
    experiment_id: str
    run_id: str
    config: StudyConfig
    source: str
    storage: str
    finished: bool


@dataclass(frozen=True)
class TrialRecord:
    """A trial, or a projection of one, as MLflow knows it.

    Attributes:
        params: as text.
        metrics: the last value of each.
        sample: what the search proposed.
        repeat_of: the id of the first trial of the same sample; a first one's own.
        projected_to: the coefficient of a projection of this trial; None for the trial itself.
        n_epochs: epochs that it was trained for so far; a projection adds none, 0.
        started: when its run was made, seconds since 1970-01-01 UTC.
        ended: when it came to its end, likewise; None while it runs.
    """

    trial_id: str
    run_id: str
    state: TrialStatus
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    sample: Mapping[str, Value]
    repeat_of: str
    projected_to: float | None = None
    reason: str | None = None
    n_epochs: int = 0
    started: float = 0.0
    ended: float | None = None


def default_tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or a SQLite file in the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').resolve()}"


class Records:
    """What one tracking server or database holds of studies and trials.

    Raises:
        TrackingError: from any method, if the server refuses or cannot be reached.
    """

    def __init__(self, tracking_uri: str) -> None:
        # A server that is down shall say so in seconds, not after minutes of retries.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        # It prints the address of each run that ends, into whatever else is printed.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        # It warns of pickle at each model; what is pickled here is our own network.
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        # It stands in messages, in commands to copy and in pages.
        if _has_secret(tracking_uri):
            raise TrackingError(
                "--tracking-uri: an address must hold no password; give it in "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or as the database "
                "takes it from its environment"
            )
        self.tracking_uri = tracking_uri

    @functools.cached_property
    def _client(self) -> MlflowClient:
        # Made when it is needed: to connect to a SQLite file is to create it.
        client: MlflowClient = self._call(MlflowClient, self.tracking_uri)
        return client

    def is_taken(self, name: str) -> bool:
        """Whether there is an experiment of that name, deleted ones included."""
        if self._is_absent():
            return False
        return self._experiment(name) is not None

    def find_study(self, name: str) -> StudyRecord | None:
        """The study of that name; None if there is none."""
        if self._is_absent():
            return None
        experiment = self._experiment(name)
        if experiment is None or experiment.lifecycle_stage != "active":
            return None
        return next(self._studies([experiment.experiment_id]), None)

    def studies(self) -> Iterator[StudyRecord]:
        """All studies, the latest first."""
        if self._is_absent():
            return iter(())
        experiments = self._call(self._client.search_experiments)
        return self._studies([experiment.experiment_id for experiment in experiments])

    def _experiment(self, name: str) -> Any:
        return self._call(self._client.get_experiment_by_name, name)

    def _is_absent(self) -> bool:
        """Whether the database is a file that is not there: to look into it would create it."""
        scheme, _, path = self.tracking_uri.partition("?")[0].partition(":///")
        return scheme == "sqlite" and not Path(path).exists()

    def _studies(self, experiment_ids: list[str]) -> Iterator[StudyRecord]:
        for run in self._search(experiment_ids, f"tags.`{KIND}` = 'study'"):
            tags = run.data.tags
            try:
                config = parse(json.loads(tags[CONFIG]), run.info.run_name)
            except (ConfigError, KeyError):
                continue  # written by another version, or by somebody else: not a study of ours
            yield StudyRecord(
                name=config.name,
                experiment_id=run.info.experiment_id,
                run_id=run.info.run_id,
                config=config,
                source=tags[SOURCE],
                storage=tags[STORAGE],
                finished=tags[STATE] == TrialStatus.COMPLETED,
            )

    def end_of_search(self, study: StudyRecord) -> str | None:
        """What note_end_of_search said; None if it did not."""
        run = self._call(self._client.get_run, study.run_id)
        reason: str | None = run.data.tags.get(END_OF_SEARCH)
        return reason

    def trials(self, study: StudyRecord) -> list[TrialRecord]:
        """The trials of a study, by trial id."""
        return [record for record in self.records(study) if record.projected_to is None]

    def projections(self, study: StudyRecord) -> list[TrialRecord]:
        """The projections of a study's trials, by trial id and falling coefficient."""
        return [record for record in self.records(study) if record.projected_to is not None]

    def records(self, study: StudyRecord, where: str = "") -> list[TrialRecord]:
        """The trials of a study, by trial id, each with its projections behind it, by falling
        coefficient; `where` is an MLflow search filter."""
        # One search: MLflow reads through the experiment for each.
        condition = f"tags.`{KIND}` != 'study'" + (f" and {where}" if where else "")
        runs = self._search([study.experiment_id], condition)
        found = [_record(run) for run in runs if _is_of(study, run)]
        return sorted(found, key=lambda r: (int(r.trial_id), -(r.projected_to or math.inf)))

    # What a run left

    def metrics_and_artifacts(self, run_id: str) -> tuple[Mapping[str, float], set[str]]:
        """The last value of each metric of a run, and the names of its files.

        Raises:
            TrackingError: if there is no such run.
        """
        if self._is_absent():
            raise TrackingError(f"MLflow at {self.tracking_uri}: there is no run {run_id}")
        run = self._call(self._client.get_run, run_id)
        metrics = {name: restored(value) for name, value in run.data.metrics.items()}
        return metrics, {file.path for file in self._call(self._client.list_artifacts, run_id)}

    def artifact(self, run_id: str, name: str) -> bytes:
        """A file of a run."""
        with tempfile.TemporaryDirectory() as folder:
            path = self._call(self._client.download_artifacts, run_id, name, folder)
            return Path(path).read_bytes()

    def fetch_model(self, run_id: str, folder: Path) -> Path:
        """Copy the model of a run into a folder; where it is now."""
        from study import logged_model  # with torch, for which a report need not wait

        path: Path = self._call(logged_model.fetch, self.tracking_uri, run_id, folder)
        return path

    def _search(self, experiment_ids: list[str], condition: str) -> Iterator[Run]:
        token = None
        while experiment_ids:
            page = self._call(
                self._client.search_runs,
                experiment_ids,
                condition,
                ViewType.ACTIVE_ONLY,
                _PAGE,
                ["attributes.start_time DESC"],
                token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def _call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            if not isinstance(error, _EXPECTED) and not _is_of_a_bucket(error):
                raise
            message = " ".join(str(error).split())[:500]
            raise TrackingError(
                f"MLflow at {self.tracking_uri}: {message}",
                may_pass=_may_pass(error, self.tracking_uri),
            ) from error


_EXPECTED = (MlflowException, SQLAlchemyError, OSError)
# MLflow lets through what these raise, each of its own kind, and they need not be installed.
_CLIENTS_OF_BUCKETS = ("azure", "boto3", "botocore", "google")
# What MLflow refuses for good; anything else that a server says may be its own trouble. Its code
# for an error of its database's connection is BAD_REQUEST.
_REFUSALS = frozenset(
    {
        "CUSTOMER_UNAUTHORIZED", "ENDPOINT_NOT_FOUND", "INVALID_PARAMETER_VALUE", "INVALID_STATE",
        "NOT_FOUND", "NOT_IMPLEMENTED", "PERMISSION_DENIED", "RESOURCE_ALREADY_EXISTS",
        "RESOURCE_DOES_NOT_EXIST", "UNAUTHENTICATED",
    }
)  # fmt: skip


def _may_pass(error: Exception, tracking_uri: str) -> bool:
    """Whether the same call may succeed later: a server that is down, a database that is busy."""
    if tracking_uri.startswith("sqlite"):
        return "locked" in str(error)
    if isinstance(error, MlflowException):
        return error.error_code not in _REFUSALS
    is_of_server = isinstance(error, (requests.RequestException, SQLAlchemyError))
    return is_of_server or _is_of_a_bucket(error)


def _is_of_a_bucket(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in _CLIENTS_OF_BUCKETS


def _has_secret(tracking_uri: str) -> bool:
    """Whether an address holds a password, or what may be one: a token before the host, or in the
    query."""
    try:
        parts = urlsplit(tracking_uri)
    except ValueError as error:
        raise TrackingError(
            f"--tracking-uri: it must be an address, but got {shown(tracking_uri)}: {error}"
        ) from error
    is_token = parts.scheme in ("http", "https") and parts.username is not None
    keys = {key.lower() for key, _ in parse_qsl(parts.query)}
    return (
        parts.password is not None
        or is_token
        or any(word in key for key in keys for word in ("password", "passwd", "token", "secret"))
    )


def _is_of(study: StudyRecord, run: Run) -> bool:
    """Whether a run is a trial of a study or a projection; users may put runs beside them."""
    tags = run.data.tags
    if tags[KIND] == "trial":
        return bool(tags.get(PARENT) == study.run_id)
    return bool(tags[KIND] == "projection")


def _record(run: Run) -> TrialRecord:
    tags, params = run.data.tags, run.data.params
    state = TrialStatus(tags[STATE])
    projected_to = float(tags[PROJECTED_TO]) if PROJECTED_TO in tags else None
    if projected_to is not None:
        n_epochs = 0
    elif state is TrialStatus.COMPLETED:
        n_epochs = int(params[_MAX_EPOCHS])
    else:
        n_epochs = int(tags.get(EPOCH, 0))
    return TrialRecord(
        trial_id=tags[TRIAL_ID],
        run_id=run.info.run_id,
        state=state,
        params=params,
        metrics={name: restored(v) for name, v in run.data.metrics.items()},
        sample=json.loads(tags[SAMPLE]),
        repeat_of=tags.get(REPEAT_OF, tags[TRIAL_ID]),  # studies had no repeats once
        projected_to=projected_to,
        reason=tags.get(REASON),
        n_epochs=n_epochs,
        started=run.info.start_time / 1000,
        # A run that was ended and goes on keeps the time of its first end.
        ended=run.info.end_time / 1000
        if run.info.end_time is not None and state is not TrialStatus.RUNNING
        else None,
    )


def restored(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) >= LARGEST else value
