"""Writing of a study's trials to MLflow, each value once.

A trial is identified by its number in the study. A value that is written again, after a crash or a
retry, is stored once: a metric that already has the value is not sent again.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mlflow.entities import Metric

from study.config.space import Value
from study.config.trial import TrialConfig
from study.metrics.artifacts import projection_folder
from study.metrics.definitions import (
    BLOCK_LIPSCHITZ_UPPER_BOUND,
    INVERSE_LIPSCHITZ_UPPER_BOUND,
    meaning,
)
from study.metrics.reports import EpochReport, ProjectionReport, TrialStatus
from study.tracking import pages, projection_run, stored_model, tags
from study.tracking.server.client import MLFLOW_STATUS, Client
from study.tracking.study_record import StudyRecord
from study.tracking.values import objectives_first, restored, seconds, settings, stored

# Longest name that MLflow's databases accept.
_NAME_LENGTH = 250
# MLflow's prefix of system metrics.
_SYSTEM = "system/"


@dataclass
class _TrialRun:
    """The run of a trial, as far as it is known.

    Attributes:
        state: None if the run was cut off before its parameters were logged.
        projections: run ids of its projections.
        logged: (metric, epoch) -> value in MLflow; None until it is read.
    """

    run_id: str
    state: TrialStatus | None
    sample: str
    projections: list[str] = field(default_factory=list)
    logged: dict[tuple[str, int], float] | None = None


# What `Tracker.together` holds back for a run: metrics, parameters and tags.
_Held = tuple[list[Metric], dict[str, object], dict[str, str]]


class Tracker:
    """Writes the trials of one study, and remembers what it wrote. After a failed write, `reread`
    learns what arrived. Methods raise TrackingError as Client's do."""

    def __init__(
        self, client: Client, study: StudyRecord, provenance: Mapping[str, str] | None = None
    ) -> None:
        """Mark the study as running, and read which trials it has. `provenance`: tags of each trial
        that say which code runs it."""
        self.client, self._study = client, study
        self._provenance = dict(provenance or {})
        self._call = client.call
        self._latest: dict[str, Path] = {}
        self._held: dict[str, _Held] | None = None
        self._trials: dict[str, _TrialRun] = {}
        client.set_state(study.run_id, TrialStatus.RUNNING)
        self.reread()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Hold back what is logged to a run, and send it in one request when the context ends, or
        when a later step needs it in MLflow. If the context fails, the unsent rest is dropped."""
        self._held = {}
        try:
            yield
            for run_id in list(self._held):
                self._send(run_id)
        finally:
            self._held = None

    def _log(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log to a run as `Client.log` does; within `together`, later."""
        if self._held is None:
            self.client.log(run_id, metrics, params, tags)
            return
        held = self._held.setdefault(run_id, ([], {}, {}))
        held[0].extend(metrics)
        held[1].update(params or {})
        held[2].update(tags or {})

    def _send(self, run_id: str) -> None:
        """Send what is held back for a run."""
        if self._held and run_id in self._held:
            self.client.log(run_id, *self._held.pop(run_id))

    def reread(self, trial_id: str | None = None) -> None:
        """Read which runs exist, of one trial or of all, and delete duplicates and orphans: a write
        that seemed to fail may have arrived."""
        if trial_id is None:
            self._trials, condition = {}, ""
        else:
            self._trials.pop(trial_id, None)
            condition = f" and tags.`{tags.TRIAL_ID}` = '{trial_id}'"
        experiments = [self._study.experiment_id]
        # The study's run may have other runs below it.
        of_study = f"tags.`{tags.PARENT}` = '{self._study.run_id}'"
        of_trials = f"{of_study} and tags.`{tags.KIND}` = '{tags.TRIAL}'{condition}"
        trials = self.client.search_runs(experiments, of_trials)
        # Oldest first: of a run created twice, since an answer got lost, one stays.
        for run in sorted(trials, key=lambda run: seconds(run.info.start_time) or 0.0):
            of_run, run_id = run.data.tags, run.info.run_id
            if of_run[tags.TRIAL_ID] in self._trials:
                self.client.delete_run(run_id)
                continue
            state = TrialStatus(of_run[tags.STATE]) if run.data.params else None
            if state in MLFLOW_STATUS and run.info.status == "RUNNING":
                self._call(self.client.api.set_terminated, run_id, MLFLOW_STATUS[state])
            self._trials[of_run[tags.TRIAL_ID]] = _TrialRun(run_id, state, of_run[tags.SAMPLE])
        by_run = {trial.run_id: trial for trial in self._trials.values()}
        of_projections = f"tags.`{tags.KIND}` = '{tags.PROJECTION}'{condition}"
        for run in list(self.client.search_runs(experiments, of_projections)):
            parent = by_run.get(run.data.tags[tags.PROJECTED_FROM])
            if parent is None:
                self.client.delete_run(run.info.run_id)
            else:
                parent.projections.append(run.info.run_id)

    def start_trial(
        self,
        trial_id: str,
        sample: Mapping[str, Value],
        config: TrialConfig,
        repeat_of: str | None = None,
        is_given: bool = False,
    ) -> None:
        """Create the run of a trial, or go on with it.

        Args:
            repeat_of: id of the first trial of this sample, if this is not the first.
            is_given: whether the sample is one of search.first.
        """
        trial = self._trials.get(trial_id)
        text = json.dumps(sample)
        if trial is not None and trial.sample != text:
            # The run's trial was proposed after the last snapshot that survived, and its number now
            # means another trial. Parameters cannot be changed, so the run is deleted.
            self._delete(trial_id)
            trial = None
        of_run = {tags.REPEAT_OF: repeat_of or trial_id}
        if is_given:
            of_run[tags.GIVEN] = "true"
        if trial is None:
            run = self._call(
                self.client.api.create_run,
                self._study.experiment_id,
                run_name=f"{trial_id}: {pages.name_sample(sample)}"[:_NAME_LENGTH],
                tags={
                    tags.KIND: tags.TRIAL,
                    tags.PARENT: self._study.run_id,
                    tags.TRIAL_ID: trial_id,
                    tags.SAMPLE: text,
                    tags.STATE: TrialStatus.RUNNING.value,
                    **of_run,
                    **self._provenance,
                },
            )
            trial = _TrialRun(run.info.run_id, None, text, logged={})
            self._trials[trial_id] = trial
        else:
            self.client.set_state(trial.run_id, TrialStatus.RUNNING, of_run)
        # Last: parameters mark a run as begun.
        if trial.state is None:
            self._log(trial.run_id, params=settings(sample, config))
        trial.state = TrialStatus.RUNNING

    def log_reports(
        self, trial_id: str, reports: Sequence[EpochReport], node: str | None = None
    ) -> None:
        """Log the metrics of some epochs, with the times at which they were measured.

        Args:
            reports: in any order; reports of a checkpoint may be logged after later ones.
            node: address of the node that measured them, if known.
        """
        trial = self._trials[trial_id]
        logged = self._logged(trial)

        def stands(name: str, epoch: int, value: float) -> bool:
            if name.startswith(_SYSTEM):
                # Differs in each training and is not read back: a logged epoch has it.
                return (BLOCK_LIPSCHITZ_UPPER_BOUND, epoch) in logged
            there = logged.get((name, epoch))
            if there is None or meaning(name).repeatable:
                return there in (value, stored(value))
            return True

        metrics = [
            Metric(name, value, round(report.timestamp * 1000), report.epoch)
            # A trial that restarts at once brings the reports of its checkpoint twice.
            for report in {report.epoch: report for report in reports}.values()
            for name, value in [
                *objectives_first(self._study.config, report.metrics()),
                *((_SYSTEM + name, value) for name, value in report.device_use.items()),
            ]
            if not stands(name, report.epoch, value)
        ]
        if not metrics:
            return
        device = next((report.device for report in reports if report.device), None)
        of_run = {
            tags.EPOCH: str(max(report.epoch for report in reports)),
            tags.NODE: node,
            tags.DEVICE: device,
        }
        known = {tag: value for tag, value in of_run.items() if value is not None}
        self._log(trial.run_id, metrics=metrics, tags=known)
        logged.update({(metric.key, metric.step): metric.value for metric in metrics})

    def log_networks(
        self, trial_id: str, outcome: Path, projections: Sequence[ProjectionReport]
    ) -> None:
        """Log a completed trial from the folder of its outcome: the JSON files, pictures and model;
        and a run for each projection, in the order of their folders."""
        trial = self._trials[trial_id]
        self._send(trial.run_id)
        run = self.client.get_run(trial.run_id)
        # A trial has one model: replace any that was logged before a crash, and its projections.
        self.client.delete_models(run)
        stored_model.log(self.client, run, outcome, self._latest)
        self._delete_projections(trial)
        for index, report in enumerate(projections):
            folder, epoch = projection_folder(outcome, index), self._last_epoch(trial)
            trial.projections.append(
                projection_run.log(
                    self.client, self._study.config, run, report, folder, epoch, self._latest
                )
            )

    def end_trial(self, trial_id: str, status: TrialStatus, reason: str | None = None) -> None:
        """End a trial, and tag it as certified if it did not fail and its last network is proven to
        be invertible."""
        trial = self._trials[trial_id]
        last_epoch, logged = self._last_epoch(trial), self._logged(trial)
        bound = restored(logged.get((INVERSE_LIPSCHITZ_UPPER_BOUND, last_epoch), math.inf))
        proven = bound < math.inf and status is not TrialStatus.FAILED
        what = status.value.replace("_", " ").capitalize()
        authors = self._study.config.resolve(json.loads(trial.sample), seed=0).proven_by
        proof = pages.describe_inverse(bound, authors)
        why = reason or proof if status is TrialStatus.FAILED else proof
        of_run = {
            tags.CERTIFIED: str(proven).lower(),
            tags.NOTE: f"{what} after {last_epoch} epochs. {why}"[: tags.LONGEST],
        }
        if reason is not None:
            of_run[tags.REASON] = reason[: tags.LONGEST]
        if status is not TrialStatus.COMPLETED:
            # It may have completed before a crash, and been stopped when it was trained again.
            self._delete_projections(trial)
        # The tag STATE counts, and is logged last. If a crash leaves MLflow's own status as it was,
        # `reread` ends the run.
        self._log(trial.run_id, tags={**of_run, tags.STATE: status.value})
        self._send(trial.run_id)
        self._call(self.client.api.set_terminated, trial.run_id, MLFLOW_STATUS[status])
        trial.state = status

    def keep_only(self, trial_ids: set[str]) -> None:
        """Delete the runs of all trials except these, and of their projections."""
        for trial_id in self._trials.keys() - trial_ids:
            self._delete(trial_id)

    def trial_state(self, trial_id: str, sample: Mapping[str, Value]) -> TrialStatus | None:
        """The state of the trial with this id and sample; None if it has no run that began."""
        trial = self._trials.get(trial_id)
        return None if trial is None or trial.sample != json.dumps(sample) else trial.state

    def _logged(self, trial: _TrialRun) -> dict[tuple[str, int], float]:
        """The values of a trial in MLflow: (metric, epoch) -> value."""
        if trial.logged is None:
            trial.logged = {
                (metric, point.step): point.value
                for metric in self._study.config.known_metrics
                for point in self._call(self.client.api.get_metric_history, trial.run_id, metric)
            }
        return trial.logged

    def _last_epoch(self, trial: _TrialRun) -> int:
        """The last epoch with a metric in MLflow; 0 if there is none."""
        return max((epoch for _, epoch in self._logged(trial)), default=0)

    def _delete(self, trial_id: str) -> None:
        trial = self._trials.pop(trial_id)
        self._delete_projections(trial)
        self.client.delete_run(trial.run_id)

    def _delete_projections(self, trial: _TrialRun) -> None:
        while trial.projections:
            self.client.delete_run(trial.projections.pop())
