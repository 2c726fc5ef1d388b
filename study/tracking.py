"""Trials -> MLflow; MLflow -> trial records. The only place that knows MLflow.

One experiment a study, one parent run for the study, one child run for each trial. A trial
is known by its number in the study, so whatever is written twice, after a crash or a retry,
is there once: a metric that stands there already with the same value is not sent again.
"""

import functools
import hashlib
import json
import logging
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    Param,
    Run,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from study import mlflow_pages
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
from study.trial_config import DataConfig, TrialConfig

if TYPE_CHECKING:
    from models import IResNet

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
REASON = "study.reason"
PARENT = "mlflow.parentRunId"
# What MLflow's pages show as the description of an experiment or a run.
_NOTE = "mlflow.note.content"
# How MLflow keeps a table of runs that somebody shared, by a name that stands in its address too.
_SHARED_VIEW = "mlflow.sharedViewState."

_RUN_STATUS = {
    TrialStatus.COMPLETED: "FINISHED",
    TrialStatus.STOPPED_EARLY: "KILLED",
    TrialStatus.FAILED: "FAILED",
    TrialStatus.INTERRUPTED: "KILLED",
}
_PAGE = 1000
# MLflow stores an infinite metric as the largest double.
_LARGEST = 1.7976931348623157e308
_COEFF, _MAX_EPOCHS = "coeff", "max_epochs"
# MLflow refuses longer tags, and its databases longer names.
_TAG_LENGTH = 8000
_NAME_LENGTH = 250


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
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        # It warns of pickle at each model; what is pickled here is our own network.
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self.tracking_uri = tracking_uri
        self._children: dict[str, _ChildRun] = {}
        self._objectives: set[str] = set()

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
        experiment_id = self._call(
            self._client.create_experiment,
            config.name,
            tags={
                _NOTE: mlflow_pages.describe_study(config),
                _SHARED_VIEW + mlflow_pages.VIEW: mlflow_pages.table(config, (CERTIFIED, STATE)),
            },
        )
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
        self._objectives = {objective.metric for objective in study.config.objectives}
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
        for trial in self.records(study):
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
        datasets = [_dataset(trial.data)]
        if child is not None:
            # The parameters again, in case the crash came before them: the same are no error.
            tags = [RunTag(REPEAT_OF, repeat_of or trial_id)]
            self._call(self._client.log_batch, child.run_id, params=params, tags=tags)
            self._call(self._client.log_inputs, child.run_id, datasets=datasets)
            self._end(child.run_id, TrialStatus.RUNNING)
            child.state = TrialStatus.RUNNING
            return
        run = self._call(
            self._client.create_run,
            study.experiment_id,
            run_name=f"{trial_id}: {mlflow_pages.name_sample(sample)}"[:_NAME_LENGTH],
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
        self._call(self._client.log_inputs, run.info.run_id, datasets=datasets)
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
        metrics = [Metric(k, v, milliseconds, report.epoch) for k, v in self._ordered(new)]
        tags = [RunTag(EPOCH, str(report.epoch))]
        self._call(self._client.log_batch, child.run_id, metrics=metrics, tags=tags)
        child.logged.update({(name, report.epoch): value for name, value in new.items()})

    def _ordered(self, metrics: Mapping[str, float]) -> list[tuple[str, float]]:
        """With the objectives first: MLflow's pages show first what was logged first."""
        return sorted(metrics.items(), key=lambda item: item[0] not in self._objectives)

    def log_outcome(self, trial_id: str, folder: Path, model: "IResNet") -> None:
        """What a completed trial leaves: the folder's JSON files and pictures, and the model."""
        run_id = self._children[trial_id].run_id
        run = self._call(self._client.get_run, run_id)
        # A model that was logged before a crash makes room: a trial has one.
        self._delete_models(run_id, run.info.experiment_id)
        self._log_network(run, folder, model)

    def log_projections(
        self, trial_id: str, networks: Sequence[tuple[ProjectionReport, Path, "IResNet"]]
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
            proof = mlflow_pages.describe_bound(report.lipschitz_upper_bound)
            run = self._call(
                self._client.create_run,
                of_trial.info.experiment_id,
                run_name=f"{trial_id} at {coeff:g}",
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
                    _NOTE: f"The network of trial {trial_id}, scaled so that every layer's proven "
                    f"bound is at most {coeff:g}. {proof}",
                },
            )
            run_id = run.info.run_id
            inputs = [
                DatasetInput(one.dataset, list(one.tags)) for one in of_trial.inputs.dataset_inputs
            ]
            self._call(self._client.log_inputs, run_id, datasets=inputs)
            changed = {_COEFF: coeff, "fine_tune_steps": report.fine_tune_steps}
            params = {**of_trial.data.params, **changed}
            epoch = child.last_epoch
            milliseconds = round(report.timestamp * 1000)
            self._call(
                self._client.log_batch,
                run_id,
                metrics=[
                    Metric(k, v, milliseconds, epoch) for k, v in self._ordered(report.metrics())
                ],
                params=[Param(key, str(value)) for key, value in params.items()],
            )
            self._log_network(run, folder, model)
            self._end(run_id, TrialStatus.COMPLETED)
            child.projections[coeff] = (run_id, report.metrics())

    def _log_network(self, run: Run, folder: Path, model: "IResNet") -> None:
        """The files of a network that Training.save_network wrote, its pictures, and the model."""
        from study import logged_model  # with torch, for which a report need not wait

        for path in sorted(folder.iterdir()):
            if path.suffix in (".json", ".png"):
                self._call(self._client.log_artifact, run.info.run_id, str(path))
        tags = run.data.tags
        whose = {"run_id": run.info.run_id, "trial_id": tags[TRIAL_ID]}
        if PROJECTED_TO in tags:
            whose["projected_to"] = tags[PROJECTED_TO]
        study = self._call(self._client.get_experiment, run.info.experiment_id).name
        self._call(
            logged_model.log,
            self.tracking_uri,
            run.info.run_id,
            folder,
            model,
            {"name": study, **whose},
        )

    def end_trial(self, trial_id: str, status: TrialStatus, reason: str | None = None) -> None:
        """How a trial ended; certified if its last bound is below 1 and it did not fail."""
        child = self._children[trial_id]
        bound = child.logged.get((LIPSCHITZ_UPPER_BOUND, child.last_epoch), math.inf)
        proven = bound < 1 and status is not TrialStatus.FAILED
        what = status.value.replace("_", " ").capitalize()
        note = f"{what} after {child.last_epoch} epochs. "
        proof = mlflow_pages.describe_bound(bound)
        note += reason or proof if status is TrialStatus.FAILED else proof
        tags = [RunTag(CERTIFIED, str(proven).lower()), RunTag(_NOTE, note[:_TAG_LENGTH])]
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
        for model_id in self._models(run_id, experiment_id):
            self._call(self._client.delete_logged_model, model_id)

    def _models(self, run_id: str, experiment_id: str | None = None) -> list[str]:
        """Ids of the logged models of a run."""
        if experiment_id is None:
            experiment_id = self._call(self._client.get_run, run_id).info.experiment_id
        found = self._call(
            self._client.search_logged_models, [experiment_id], f"source_run_id = '{run_id}'"
        )
        return [model.model_id for model in found]

    def trial_state(self, trial_id: str) -> TrialStatus | None:
        """Where MLflow thinks a trial stands; None if it has no run."""
        child = self._children.get(trial_id)
        return None if child is None else child.state

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
        metrics = {name: _restored(value) for name, value in run.data.metrics.items()}
        return metrics, {file.path for file in self._call(self._client.list_artifacts, run_id)}

    def artifact(self, run_id: str, name: str) -> bytes:
        """A file of a run."""
        with tempfile.TemporaryDirectory() as folder:
            path = self._call(self._client.download_artifacts, run_id, name, folder)
            return Path(path).read_bytes()

    def log_file(self, run_id: str, path: Path) -> None:
        """Add a file to a run; one of that name makes room."""
        self._call(self._client.log_artifact, run_id, str(path))

    def fetch_model(self, run_id: str, folder: Path) -> Path:
        """Copy the model of a run into a folder; where it is now."""
        from study import logged_model  # see _log_network

        path: Path = self._call(logged_model.fetch, self.tracking_uri, run_id, folder)
        return path

    def register(
        self, name: str, run_id: str, aliases: Sequence[str], tags: Mapping[str, str]
    ) -> str:
        """The model of a run as a version of a registered model, with aliases; returns the
        version. A run that is a version already keeps it."""
        from study import logged_model  # see _log_network

        (model,) = self._models(run_id)
        versions = self._call(self._client.search_model_versions, f"run_id = '{run_id}'")
        # One that somebody made of other files of this run is no version of this model.
        of_model = (v for v in versions if v.name == name and v.source == f"models:/{model}")
        version = next((v.version for v in of_model), None)
        if version is None:
            version = self._call(logged_model.register, self.tracking_uri, run_id, name, dict(tags))
        for alias in aliases:
            self._call(self._client.set_registered_model_alias, name, alias, version)
        return str(version)

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
        metrics={name: _restored(v) for name, v in run.data.metrics.items()},
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


def _params(sample: Mapping[str, Any], trial: TrialConfig) -> dict[str, Any]:
    """The sample and the seed, then every setting: keys of `data` with that prefix."""
    return {
        **asdict(trial.model),
        **asdict(trial.training),
        **asdict(trial.evaluation),
        "fine_tune_steps": trial.fine_tune_steps,
        **{f"data.{key}": value for key, value in asdict(trial.data).items()},
        "seed": trial.seed,
        **sample,
    }


def _dataset(config: DataConfig) -> DatasetInput:
    """The images of a trial as an input of its run; known by the settings that choose them."""
    settings = json.dumps(asdict(config), sort_keys=True)
    digest = hashlib.sha256(settings.encode()).hexdigest()[:8]
    dataset = Dataset(config.name, digest, source_type="local", source=settings)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _stored(value: float) -> float:
    return math.copysign(_LARGEST, value) if math.isinf(value) else value


def _restored(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) >= _LARGEST else value
