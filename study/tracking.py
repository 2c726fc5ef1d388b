"""Trials -> MLflow; MLflow -> trial records. The only place that knows MLflow.

One experiment a study, one parent run for the study, one child run for each trial. A trial
is known by its number in the study, so whatever is written twice, after a crash or a retry,
is there once: a metric that stands there already with the same value is not sent again.
"""

import functools
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pytorch
import numpy as np
import torch
from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import Schema, TensorSpec
from sqlalchemy.exc import SQLAlchemyError

import models
from study.config import parse, to_yaml
from study.errors import ConfigError, TrackingError
from study.metrics import (
    LIPSCHITZ_UPPER_BOUND,
    METRICS,
    EpochReport,
    ProjectionReport,
    TrialStatus,
)
from study.search_space import Value
from study.study_config import StudyConfig
from study.trial_config import TrialConfig

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
REASON = "study.reason"
PARENT = "mlflow.parentRunId"

_RUN_STATUS = {
    TrialStatus.COMPLETED: "FINISHED",
    TrialStatus.STOPPED_EARLY: "KILLED",
    TrialStatus.FAILED: "FAILED",
    TrialStatus.INTERRUPTED: "KILLED",
}
_PAGE = 1000
# MLflow stores an infinite metric as the largest double.
_LARGEST = 1.7976931348623157e308
_COEFF = "coeff"
# MLflow refuses longer tags.
_TAG_LENGTH = 8000


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


@dataclass
class _ChildRun:
    """A trial's run. projections: coefficient -> the run of a projection, and its metrics once it
    is complete."""

    run_id: str
    state: TrialStatus
    sample: str
    projections: dict[float, tuple[str, dict[str, float]]] = field(default_factory=dict)
    # (metric, step) -> value, of what MLflow holds.
    logged: dict[tuple[str, int], float] = field(default_factory=dict)

    @property
    def last_epoch(self) -> int:
        return max((step for _, step in self.logged), default=0)


def default_tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or a SQLite file in the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').resolve()}"


class Tracker:
    """Writes studies and trials to one tracking server or database, and reads them back.

    Raises:
        TrackingError: from any method, if the server refuses or cannot be reached.
    """

    def __init__(self, tracking_uri: str) -> None:
        # A server that is down shall say so in seconds, not after minutes of retries.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        # It warns of pickle at each model; what is pickled here is our own network.
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self.tracking_uri = tracking_uri
        self._children: dict[str, _ChildRun] = {}

    @functools.cached_property
    def _client(self) -> MlflowClient:
        # Made when it is needed: to connect to a SQLite file is to create it.
        client: MlflowClient = self._call(MlflowClient, self.tracking_uri)
        return client

    # Studies

    def is_taken(self, name: str) -> bool:
        """Whether there is an experiment of that name, deleted ones included."""
        if self._is_absent():
            return False
        return self._experiment(name) is not None

    def create_study(self, config: StudyConfig, source: str, storage: str) -> StudyRecord:
        """A new experiment with the study's parent run."""
        experiment_id = self._call(self._client.create_experiment, config.name)
        tags = {
            KIND: "study",
            STATE: TrialStatus.RUNNING.value,
            CONFIG: json.dumps(config.to_dict()),
            SOURCE: source,
            STORAGE: storage,
        }
        run = self._call(self._client.create_run, experiment_id, tags=tags, run_name=config.name)
        run_id = run.info.run_id
        self._call(self._client.log_text, run_id, to_yaml(config), "study.yaml")
        return StudyRecord(config.name, experiment_id, run_id, config, source, storage, False)

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

    def open_study(self, study: StudyRecord) -> None:
        """Before trials are written: mark it as running, and learn which trials are there."""
        self._end(study.run_id, TrialStatus.RUNNING)
        self._children = {}
        for run in self._search([study.experiment_id], _of(study)):
            child = _ChildRun(
                run.info.run_id, TrialStatus(run.data.tags[STATE]), run.data.tags[SAMPLE]
            )
            for metric in run.data.metrics:
                for point in self._call(self._client.get_metric_history, run.info.run_id, metric):
                    child.logged[metric, point.step] = point.value
            self._children[run.data.tags[TRIAL_ID]] = child
        by_run = {child.run_id: child for child in self._children.values()}
        for run in self._search([study.experiment_id], _PROJECTIONS):
            tags = run.data.tags
            whole = tags[STATE] == TrialStatus.COMPLETED
            trial = by_run.get(tags[PROJECTED_FROM])
            if trial is None:  # its trial made room for another
                self._delete_run(run.info.run_id)
                continue
            metrics = {name: _restored(v) for name, v in run.data.metrics.items()} if whole else {}
            trial.projections[float(tags[PROJECTED_TO])] = (run.info.run_id, metrics)

    def note_end_of_search(self, study: StudyRecord, reason: str) -> None:
        """Say why the study proposed no more trials than it did."""
        self._call(self._client.set_tag, study.run_id, END_OF_SEARCH, reason[:_TAG_LENGTH])

    def end_of_search(self, study: StudyRecord) -> str | None:
        """What note_end_of_search said; None if it did not."""
        run = self._call(self._client.get_run, study.run_id)
        reason: str | None = run.data.tags.get(END_OF_SEARCH)
        return reason

    def close_study(self, study: StudyRecord, status: TrialStatus) -> None:
        """Say how the study was left; a trial that still runs was interrupted with it."""
        for trial in [*self.trials(study), *self.projections(study)]:
            if trial.state is TrialStatus.RUNNING:
                self._end(trial.run_id, TrialStatus.INTERRUPTED)
        self._end(study.run_id, status)

    # Trials

    def start_trial(
        self,
        study: StudyRecord,
        trial_id: str,
        sample: Mapping[str, Any],
        trial: TrialConfig,
        repeat_of: str | None = None,
    ) -> None:
        """The run of a trial, new or found again; it is then running.

        Args:
            repeat_of: the id of the first trial of this sample, if this is not the first.
        """
        child = self._children.get(trial_id)
        text = json.dumps(sample)
        if child is not None and child.sample != text:
            # It was proposed after the last snapshot that survived, and its number now means
            # another sample. Parameters cannot be changed, so it makes room.
            self._forget(trial_id)
            child = None
        params = [Param(key, str(value)) for key, value in _params(sample, trial).items()]
        if child is not None:
            # The parameters again, in case the crash came before them: the same are no error.
            tags = [RunTag(REPEAT_OF, repeat_of or trial_id)]
            self._call(self._client.log_batch, child.run_id, params=params, tags=tags)
            self._end(child.run_id, TrialStatus.RUNNING)
            child.state = TrialStatus.RUNNING
            return
        run = self._call(
            self._client.create_run,
            study.experiment_id,
            run_name=f"{study.name}-{trial_id}",
            tags={
                KIND: "trial",
                PARENT: study.run_id,
                TRIAL_ID: trial_id,
                REPEAT_OF: repeat_of or trial_id,
                STATE: TrialStatus.RUNNING.value,
                SAMPLE: text,
            },
        )
        self._call(self._client.log_batch, run.info.run_id, params=params)
        self._children[trial_id] = _ChildRun(run.info.run_id, TrialStatus.RUNNING, text)

    def log_report(self, trial_id: str, report: EpochReport) -> None:
        """The metrics of one epoch, with the time at which they were measured.

        An epoch that was trained again after a crash, and came out the same, stands already.
        """
        child = self._children[trial_id]

        def stands(name: str, value: float) -> bool:
            logged = child.logged.get((name, report.epoch))
            if logged is None or METRICS[name].repeatable:
                return logged in (value, _stored(value))
            return True

        new = {n: value for n, value in report.metrics().items() if not stands(n, value)}
        if not new:
            return
        milliseconds = round(report.timestamp * 1000)
        metrics = [Metric(k, v, milliseconds, report.epoch) for k, v in new.items()]
        self._call(self._client.log_batch, child.run_id, metrics=metrics)
        child.logged.update({(name, report.epoch): value for name, value in new.items()})

    def log_outcome(self, trial_id: str, folder: Path, model: models.IResNet) -> None:
        """What a completed trial leaves: certificate.json, inverse.json, and the model."""
        run_id = self._children[trial_id].run_id
        run = self._call(self._client.get_run, run_id)
        # A model that was logged before a crash makes room: a trial has one.
        self._delete_models(run_id, run.info.experiment_id)
        self._log_network(run_id, folder, model)

    def log_projections(
        self, trial_id: str, networks: Sequence[tuple[ProjectionReport, Path, models.IResNet]]
    ) -> None:
        """The networks to which a completed trial's was projected, each as a run below it.

        What stands there already is not sent again; what has come out differently makes room,
        and so does what is no longer among them.
        """
        child = self._children[trial_id]
        of_trial = self._call(self._client.get_run, child.run_id)
        new = {report.coeff: (report, folder, model) for report, folder, model in networks}
        for coeff, (_, metrics) in list(child.projections.items()):
            if coeff not in new or metrics != new[coeff][0].metrics():
                self._delete_projection(child, coeff)
        for coeff, (report, folder, model) in new.items():
            if coeff in child.projections:
                continue
            run = self._call(
                self._client.create_run,
                of_trial.info.experiment_id,
                run_name=f"{of_trial.info.run_name}-at-{coeff:g}",
                tags={
                    KIND: "projection",
                    PARENT: child.run_id,
                    TRIAL_ID: trial_id,
                    REPEAT_OF: of_trial.data.tags[REPEAT_OF],
                    SAMPLE: child.sample,
                    PROJECTED_FROM: child.run_id,
                    PROJECTED_TO: repr(coeff),
                    STATE: TrialStatus.RUNNING.value,
                    CERTIFIED: str(report.lipschitz_upper_bound < 1).lower(),
                },
            )
            run_id = run.info.run_id
            changed = {_COEFF: coeff, "fine_tune_steps": report.fine_tune_steps}
            params = {**of_trial.data.params, **changed}
            epoch = child.last_epoch
            milliseconds = round(report.timestamp * 1000)
            self._call(
                self._client.log_batch,
                run_id,
                metrics=[Metric(k, v, milliseconds, epoch) for k, v in report.metrics().items()],
                params=[Param(key, str(value)) for key, value in params.items()],
            )
            self._log_network(run_id, folder, model)
            self._end(run_id, TrialStatus.COMPLETED)
            child.projections[coeff] = (run_id, report.metrics())

    def _log_network(self, run_id: str, folder: Path, model: models.IResNet) -> None:
        """certificate.json, inverse.json, and the model."""
        for name in ("certificate.json", "inverse.json"):
            self._call(self._client.log_artifact, run_id, str(folder / name))
        n_classes = model.n_classes
        with _current(self.tracking_uri), mlflow.start_run(run_id=run_id):
            # Pickled, since the other format keeps the forward pass alone; the code of
            # `models` goes with it, so that it loads where this project is not installed.
            self._call(
                mlflow.pytorch.log_model,
                model,
                name="model",
                serialization_format="pickle",
                code_paths=[str(Path(models.__file__).parent)],
                pip_requirements=[f"torch=={torch.__version__.split('+')[0]}", "numpy"],
                signature=ModelSignature(
                    Schema([TensorSpec(np.dtype("float32"), (-1, *model.in_shape))]),
                    Schema([TensorSpec(np.dtype("float32"), (-1, n_classes))]),
                ),
            )

    def end_trial(self, trial_id: str, status: TrialStatus, reason: str | None = None) -> None:
        """How a trial ended; certified if its last bound is below 1 and it did not fail."""
        child = self._children[trial_id]
        proven = child.logged.get((LIPSCHITZ_UPPER_BOUND, child.last_epoch), math.inf) < 1
        tags = [RunTag(CERTIFIED, str(proven and status is not TrialStatus.FAILED).lower())]
        if reason is not None:
            tags.append(RunTag(REASON, reason[:_TAG_LENGTH]))
        self._call(self._client.log_batch, child.run_id, tags=tags)
        if status is not TrialStatus.COMPLETED:
            # It may have completed before a crash, and be stopped when it was trained again.
            for coeff in list(child.projections):
                self._delete_projection(child, coeff)
        self._end(child.run_id, status)
        child.state = status

    def keep_only(self, trial_ids: set[str]) -> None:
        """Delete the runs of all other trials, and their projections."""
        for trial_id in self._children.keys() - trial_ids:
            self._forget(trial_id)

    def _forget(self, trial_id: str) -> None:
        child = self._children.pop(trial_id)
        for coeff in list(child.projections):
            self._delete_projection(child, coeff)
        self._delete_run(child.run_id)

    def _delete_projection(self, child: _ChildRun, coeff: float) -> None:
        run_id, _ = child.projections.pop(coeff)
        self._delete_run(run_id)

    def _delete_run(self, run_id: str) -> None:
        run = self._call(self._client.get_run, run_id)
        self._delete_models(run_id, run.info.experiment_id)
        self._call(self._client.delete_run, run_id)

    def _delete_models(self, run_id: str, experiment_id: str) -> None:
        for model in self._call(
            self._client.search_logged_models, [experiment_id], f"source_run_id = '{run_id}'"
        ):
            self._call(self._client.delete_logged_model, model.model_id)

    def trial_state(self, trial_id: str) -> TrialStatus | None:
        """Where MLflow thinks a trial stands; None if it has no run."""
        child = self._children.get(trial_id)
        return None if child is None else child.state

    def trials(self, study: StudyRecord, where: str = "") -> list[TrialRecord]:
        """The trials of a study, by trial id; `where` is an MLflow search filter."""
        records = self._records(study, _of(study), where)
        return sorted(records, key=lambda record: int(record.trial_id))

    def projections(self, study: StudyRecord, where: str = "") -> list[TrialRecord]:
        """The projections of a study's trials, by trial id and falling coefficient."""
        records = self._records(study, _PROJECTIONS, where)
        return sorted(records, key=lambda r: (int(r.trial_id), -(r.projected_to or 0.0)))

    def _records(self, study: StudyRecord, condition: str, where: str) -> list[TrialRecord]:
        def record(run: Run) -> TrialRecord:
            tags = run.data.tags
            return TrialRecord(
                trial_id=tags[TRIAL_ID],
                run_id=run.info.run_id,
                state=TrialStatus(tags[STATE]),
                params=run.data.params,
                metrics={name: _restored(v) for name, v in run.data.metrics.items()},
                sample=json.loads(tags[SAMPLE]),
                repeat_of=tags.get(REPEAT_OF, tags[TRIAL_ID]),  # studies had no repeats once
                projected_to=float(tags[PROJECTED_TO]) if PROJECTED_TO in tags else None,
                reason=tags.get(REASON),
            )

        condition += f" and {where}" if where else ""
        return [record(run) for run in self._search([study.experiment_id], condition)]

    def _end(self, run_id: str, status: TrialStatus) -> None:
        if status is TrialStatus.RUNNING:
            self._call(self._client.update_run, run_id, "RUNNING")
        else:
            self._call(self._client.set_terminated, run_id, _RUN_STATUS[status])
        # Last: a run counts as ended by its tag, and one that was cut off before is ended again.
        self._call(self._client.set_tag, run_id, STATE, status.value)

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
        except (MlflowException, SQLAlchemyError, OSError) as error:
            message = " ".join(str(error).split())[:500]
            raise TrackingError(f"MLflow at {self.tracking_uri}: {message}") from error


def _of(study: StudyRecord) -> str:
    """The filter for a study's trials; other runs may hang below its parent too."""
    return f"tags.`{PARENT}` = '{study.run_id}' and tags.`{KIND}` = 'trial'"


# The filter for the projections of a study's trials: it has its experiment for itself.
_PROJECTIONS = f"tags.`{KIND}` = 'projection'"


@contextmanager
def _current(tracking_uri: str) -> Iterator[None]:
    """Models can only be logged to MLflow's current server, which is a setting of the process."""
    # MLflow keeps it in the environment too, which child processes would inherit.
    variable = os.environ.get("MLFLOW_TRACKING_URI")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if variable is not None:
            os.environ["MLFLOW_TRACKING_URI"] = variable


def page_hint(tracking_uri: str, study: StudyRecord) -> tuple[str | None, str]:
    """(the command that serves the MLflow page, or None where a server does; the address)."""
    served = tracking_uri.startswith(("http://", "https://"))
    command = None if served else f"mlflow server --backend-store-uri {tracking_uri}"
    base = tracking_uri.rstrip("/") if served else "http://127.0.0.1:5000"
    return command, f"{base}/#/experiments/{study.experiment_id}"


def _params(sample: Mapping[str, Any], trial: TrialConfig) -> dict[str, Any]:
    """The sample and the seed, then every setting: keys of `data` with that prefix."""
    return {
        **asdict(trial.model),
        **asdict(trial.training),
        **asdict(trial.evaluation),
        "ladder": list(trial.ladder),
        "fine_tune_steps": trial.fine_tune_steps,
        **{f"data.{key}": value for key, value in asdict(trial.data).items()},
        "seed": trial.seed,
        **sample,
    }


def _stored(value: float) -> float:
    return math.copysign(_LARGEST, value) if math.isinf(value) else value


def _restored(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) >= _LARGEST else value
