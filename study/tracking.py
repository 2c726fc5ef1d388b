"""Trials -> MLflow: what a study writes, each thing once.

A trial is known by its number in the study, so whatever is written twice, after a crash or a retry,
is there once: a metric that stands there already with the same value is not sent again.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag

from study import mlflow_pages
from study.config import to_yaml
from study.metrics import (
    LIPSCHITZ_UPPER_BOUND,
    METRICS,
    REPORTED_METRICS,
    EpochReport,
    ProjectionReport,
    TrialStatus,
)
from study.records import (
    CERTIFIED,
    CONFIG,
    END_OF_SEARCH,
    EPOCH,
    KIND,
    LARGEST,
    NODE,
    PARENT,
    PROJECTED_FROM,
    PROJECTED_TO,
    REASON,
    REPEAT_OF,
    SAMPLE,
    SOURCE,
    STATE,
    STORAGE,
    TRIAL_ID,
    Records,
    StudyRecord,
    restored,
)
from study.study_config import StudyConfig
from study.trial_config import DataConfig, TrialConfig

if TYPE_CHECKING:
    from models import IResNet

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
_COEFF = "coeff"
# MLflow refuses longer tags, and its databases longer names.
_TAG_LENGTH = 8000
_NAME_LENGTH = 250
# MLflow takes 1000 entries in one request, 100 of them parameters and 100 tags at most; its client
# cuts a larger one up, with all tags in the first part.
_METRICS_AT_ONCE = 800


@dataclass
class _Batch:
    """What is to be logged of a run."""

    metrics: list[Metric] = field(default_factory=list)
    params: list[Param] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class _ChildRun:
    """A trial's run.

    Attributes:
        is_begun: whether its parameters and its dataset are there.
        projections: coefficient -> the run of a projection, and its metrics once it is complete.
    """

    run_id: str
    state: TrialStatus
    sample: str
    is_begun: bool
    projections: dict[float, tuple[str, dict[str, float]]] = field(default_factory=dict)
    # (metric, step) -> value, of what MLflow holds; None until it is read.
    logged: dict[tuple[str, int], float] | None = None


class Tracker(Records):
    """Writes studies and trials to one tracking server or database, and reads them back.

    It remembers what it wrote; after a write that failed, `reread` learns what stands there.

    Raises:
        TrackingError: from any method, if the server refuses or cannot be reached.
    """

    def __init__(self, tracking_uri: str) -> None:
        super().__init__(tracking_uri)
        self._children: dict[str, _ChildRun] = {}
        self._objectives: set[str] = set()
        self._held: _Batch | None = None  # of the trial whose writes are sent together

    # Studies

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

    def open_study(self, study: StudyRecord) -> None:
        """Before trials are written: mark it as running, and learn which trials are there."""
        self._end(study.run_id, TrialStatus.RUNNING)
        self._study = study
        self._objectives = {objective.metric for objective in study.config.objectives}
        self._children = {}
        self._adopt(
            self._search([study.experiment_id], _trials_of(study)),
            self._search([study.experiment_id], _PROJECTIONS),
        )

    def reread(self, trial_id: str) -> None:
        """Learn anew what stands there of a trial: a write that failed may have arrived."""
        self._children.pop(trial_id, None)
        one = f" and tags.`{TRIAL_ID}` = '{trial_id}'"
        experiments = [self._study.experiment_id]
        self._adopt(
            self._search(experiments, _trials_of(self._study) + one),
            self._search(experiments, _PROJECTIONS + one),
        )

    def _adopt(self, trials: Iterable[Run], projections: Iterable[Run]) -> None:
        """Take runs as those of trials and of their projections; what nobody knows goes."""
        # The oldest first: one that was made twice, since an answer got lost, stays once.
        for run in sorted(trials, key=lambda run: run.info.start_time):
            tags = run.data.tags
            if tags[TRIAL_ID] in self._children:
                self._delete_run(run.info.run_id)
                continue
            is_begun = bool(run.data.params)
            child = _ChildRun(run.info.run_id, TrialStatus(tags[STATE]), tags[SAMPLE], is_begun)
            self._children[tags[TRIAL_ID]] = child
        by_run = {child.run_id: child for child in self._children.values()}
        for run in projections:
            tags = run.data.tags
            trial = by_run.get(tags[PROJECTED_FROM])
            coeff = float(tags[PROJECTED_TO])
            if trial is None or coeff in trial.projections:
                self._delete_run(run.info.run_id)
                continue
            whole = tags[STATE] == TrialStatus.COMPLETED
            metrics = {name: restored(v) for name, v in run.data.metrics.items()} if whole else {}
            trial.projections[coeff] = (run.info.run_id, metrics)

    def _logged(self, child: _ChildRun) -> dict[tuple[str, int], float]:
        """What MLflow holds of a trial's metrics."""
        if child.logged is None:
            found = {}
            for metric in REPORTED_METRICS:
                for point in self._call(self._client.get_metric_history, child.run_id, metric):
                    found[metric, point.step] = point.value
            child.logged = found
        return child.logged

    def _last_epoch(self, child: _ChildRun) -> int:
        return max((step for _, step in self._logged(child)), default=0)

    def note_end_of_search(self, study: StudyRecord, reason: str) -> None:
        """Say why the study proposed no more trials than it did."""
        self._call(self._client.set_tag, study.run_id, END_OF_SEARCH, reason[:_TAG_LENGTH])

    def close_study(self, study: StudyRecord, status: TrialStatus) -> None:
        """Say how the study was left; a trial that still runs was interrupted with it."""
        for trial in self.records(study):
            if trial.state is TrialStatus.RUNNING:
                self._end(trial.run_id, TrialStatus.INTERRUPTED)
        self._end(study.run_id, status)

    # Trials

    @contextmanager
    def together(self, trial_id: str) -> Iterator[None]:
        """Reports and the end of a trial within: metrics and tags go in as few requests as MLflow
        allows when this is left, or before its networks do; all else goes at once. After an error
        they are not sent, and `reread` is due.
        """
        self._held = _Batch()
        try:
            yield
            self._send_held(trial_id)
        finally:
            self._held = None

    def _send_held(self, trial_id: str) -> None:
        if self._held is not None and self._held != _Batch():
            held, self._held = self._held, _Batch()
            self._send(self._children[trial_id].run_id, held)

    def _log(self, child: _ChildRun, metrics: list[Metric], tags: dict[str, str]) -> None:
        if self._held is None:
            self._send(child.run_id, _Batch(metrics, tags=tags))
        else:
            self._held.metrics += metrics
            self._held.tags.update(tags)

    def _send(self, run_id: str, batch: _Batch) -> None:
        rest = batch.metrics
        while len(rest) > _METRICS_AT_ONCE:
            some, rest = rest[:_METRICS_AT_ONCE], rest[_METRICS_AT_ONCE:]
            self._call(self._client.log_batch, run_id, metrics=some)
        # With the last of the metrics: by a tag a run counts as ended.
        tags = [RunTag(name, value) for name, value in batch.tags.items()]
        self._call(self._client.log_batch, run_id, rest, batch.params, tags)

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
            # What a crash may have cut off: the same again is no error.
            self._call(self._client.log_inputs, child.run_id, datasets=datasets)
            running = {REPEAT_OF: repeat_of or trial_id, STATE: TrialStatus.RUNNING.value}
            # The tag first: by it a run counts as one that runs, and is ended with its study.
            self._send(child.run_id, _Batch(params=params, tags=running))
            self._call(self._client.update_run, child.run_id, "RUNNING")
            child.state, child.is_begun = TrialStatus.RUNNING, True
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
        # The parameters last: a run that has them is begun.
        self._call(self._client.log_inputs, run.info.run_id, datasets=datasets)
        self._send(run.info.run_id, _Batch(params=params))
        self._children[trial_id] = _ChildRun(
            run.info.run_id, TrialStatus.RUNNING, text, is_begun=True, logged={}
        )

    def log_reports(
        self, trial_id: str, reports: Sequence[EpochReport], node: str | None = None
    ) -> None:
        """The metrics of some epochs, with the times at which they were measured.

        An epoch that was trained again after a crash, and came out the same, stands already.

        Args:
            reports: in any order; those of a checkpoint may come behind later ones.
            node: address of the node on which they were measured, where it is known.
        """
        child = self._children[trial_id]
        logged = self._logged(child)

        def stands(name: str, epoch: int, value: float) -> bool:
            there = logged.get((name, epoch))
            if there is None or METRICS[name].repeatable:
                return there in (value, _stored(value))
            return True

        metrics = [
            Metric(name, value, round(report.timestamp * 1000), report.epoch)
            # Whoever starts twice in a moment brings what its checkpoint holds twice.
            for report in {report.epoch: report for report in reports}.values()
            for name, value in self._ordered(report.metrics())
            if not stands(name, report.epoch, value)
        ]
        if not metrics:
            return
        tags = {EPOCH: str(max(report.epoch for report in reports))}
        if node is not None:
            tags[NODE] = node
        self._log(child, metrics, tags)
        logged.update({(metric.key, metric.step): metric.value for metric in metrics})

    def _ordered(self, metrics: Mapping[str, float]) -> list[tuple[str, float]]:
        """With the objectives first: MLflow's pages show first what was logged first."""
        return sorted(metrics.items(), key=lambda item: item[0] not in self._objectives)

    def log_outcome(self, trial_id: str, folder: Path, model: "IResNet") -> None:
        """What a completed trial leaves: the folder's JSON files and pictures, and the model."""
        self._send_held(trial_id)
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
        self._send_held(trial_id)
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
            epoch = self._last_epoch(child)
            milliseconds = round(report.timestamp * 1000)
            points = [Metric(k, v, milliseconds, epoch) for k, v in self._ordered(report.metrics())]
            settings = [Param(key, str(value)) for key, value in params.items()]
            self._send(run_id, _Batch(points, settings))
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
        last_epoch = self._last_epoch(child)
        bound = self._logged(child).get((LIPSCHITZ_UPPER_BOUND, last_epoch), math.inf)
        proven = bound < 1 and status is not TrialStatus.FAILED
        what = status.value.replace("_", " ").capitalize()
        note = f"{what} after {last_epoch} epochs. "
        proof = mlflow_pages.describe_bound(bound)
        note += reason or proof if status is TrialStatus.FAILED else proof
        tags = {
            CERTIFIED: str(proven).lower(),
            _NOTE: note[:_TAG_LENGTH],
            STATE: status.value,
        }
        if reason is not None:
            tags[REASON] = reason[:_TAG_LENGTH]
        if status is not TrialStatus.COMPLETED:
            # It may have completed before a crash, and be stopped when it was trained again.
            for coeff in list(child.projections):
                self._delete_projection(child, coeff)
        # Before the tag, by which it counts as ended: one that was cut off between is ended again.
        self._call(self._client.set_terminated, child.run_id, _RUN_STATUS[status])
        self._log(child, [], tags)
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

    def trial_state(self, trial_id: str, sample: Mapping[str, Any]) -> TrialStatus | None:
        """Where MLflow thinks a trial of this sample stands; None if it has no run, or one that was
        cut off before it was begun."""
        child = self._children.get(trial_id)
        if child is None or not child.is_begun or child.sample != json.dumps(sample):
            return None
        return child.state

    def log_file(self, run_id: str, path: Path) -> None:
        """Add a file to a run; one of that name makes room."""
        self._call(self._client.log_artifact, run_id, str(path))

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
        self._send(run_id, _Batch(tags={STATE: status.value}))


def _trials_of(study: StudyRecord) -> str:
    """The filter for a study's trials; other runs may hang below its parent too."""
    return f"tags.`{PARENT}` = '{study.run_id}' and tags.`{KIND}` = 'trial'"


# The filter for the projections of a study's trials: it has its experiment for itself.
_PROJECTIONS = f"tags.`{KIND}` = 'projection'"


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
    return math.copysign(LARGEST, value) if math.isinf(value) else value
