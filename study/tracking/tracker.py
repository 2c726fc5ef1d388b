"""Writes of the trials of a study, each thing once.

A trial is known by its number in the study. So what is written again, after a crash or a retry,
stands there once: a metric that has the same value already is not sent again.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow.entities import Metric, Run

from study.config.space import Value
from study.config.trial import TrialConfig
from study.metrics.definitions import LIPSCHITZ_UPPER_BOUND, METRICS
from study.metrics.reports import EpochReport, ProjectionReport, TrialStatus
from study.tracking import pages, stored_model, tags
from study.tracking.client import Client
from study.tracking.handles import network_label
from study.tracking.records import StudyRecord
from study.tracking.runs import Runs
from study.tracking.settings import FINE_TUNE_STEPS, PROJECTED_TO, settings
from study.tracking.shared_files import SharedFiles
from study.tracking.trial_runs import TrialRun, TrialRuns
from study.tracking.values import stored

# Databases of MLflow refuse longer names.
_NAME_LENGTH = 250
# By which MLflow knows a system metric.
_SYSTEM = "system/"


class Tracker:
    """Writes the trials of one study; `open_study` comes first.

    It remembers what it wrote. After a write that failed, `reread` learns what stands there.

    Raises:
        TrackingError: from any method, if the server refuses or cannot be reached.
    """

    def __init__(self, client: Client, provenance: Mapping[str, str] | None = None) -> None:
        """
        Args:
            provenance: tags of each trial that say which code runs it.
        """
        self.client = client
        self._provenance = dict(provenance or {})
        self._call = client.call
        self._runs = Runs(client)
        self._shared = SharedFiles()

    def open_study(self, study: StudyRecord) -> None:
        """Mark a study as running, and learn which of its trials are there."""
        self._runs.set_state(study.run_id, TrialStatus.RUNNING)
        self._study = study
        self._objectives = {objective.metric for objective in study.config.objectives}
        self._trials = TrialRuns(self.client, study)

    def reread(self, trial_id: str) -> None:
        """Read again what MLflow has of a trial: a write that failed may have arrived."""
        self._trials.reread(trial_id)

    def start_trial(
        self,
        trial_id: str,
        sample: Mapping[str, Value],
        config: TrialConfig,
        repeat_of: str | None = None,
        is_given: bool = False,
    ) -> None:
        """The run of a trial, new or there already; it is then running.

        Args:
            repeat_of: the id of the first trial of this sample, if this is not the first.
            is_given: whether the study file has the sample, in search.first.
        """
        trial = self._trials.get(trial_id)
        text = json.dumps(sample)
        if trial is not None and trial.sample != text:
            # It was proposed after the last snapshot that survived, and its number now means
            # another trial. Parameters cannot be changed, so the run is deleted.
            self._trials.delete(trial_id)
            trial = None
        of_run = {
            tags.REPEAT_OF: repeat_of or trial_id,
            tags.STATE: TrialStatus.RUNNING.value,
            **({tags.GIVEN: "true"} if is_given else {}),
        }
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
                    **of_run,
                    **self._provenance,
                },
            )
            trial = TrialRun(run.info.run_id, TrialStatus.RUNNING, text, logged={})
            self._trials[trial_id] = trial
        else:
            # First the tag, by which a run counts as one that runs and is ended with its study.
            self._runs.log(trial.run_id, tags=of_run)
            self._runs.set_running(trial.run_id)
        # Last: a run that has parameters is begun. To log the same again is no error.
        self._runs.log(trial.run_id, params=settings(sample, config))
        trial.state, trial.is_begun = TrialStatus.RUNNING, True

    def log_reports(
        self, trial_id: str, reports: Sequence[EpochReport], node: str | None = None
    ) -> None:
        """The metrics of some epochs, with the times at which they were measured.

        An epoch that was trained again after a crash, with the same values, is not sent again.

        Args:
            reports: in any order; those of a checkpoint may come behind later ones.
            node: address of the node on which they were measured, where it is known.
        """
        trial = self._trials[trial_id]
        logged = self._trials.logged(trial)

        def stands(name: str, epoch: int, value: float) -> bool:
            if name.startswith(_SYSTEM):
                # It is another value in each training, and is not read again: the epoch has one.
                return (LIPSCHITZ_UPPER_BOUND, epoch) in logged
            there = logged.get((name, epoch))
            if there is None or METRICS[name].repeatable:
                return there in (value, stored(value))
            return True

        metrics = [
            Metric(name, value, round(report.timestamp * 1000), report.epoch)
            # A trial that starts twice in a moment brings the reports of its checkpoint twice.
            for report in {report.epoch: report for report in reports}.values()
            for name, value in [
                *self._objectives_first(report.metrics()),
                *((_SYSTEM + name, value) for name, value in report.device_use.items()),
            ]
            if not stands(name, report.epoch, value)
        ]
        if not metrics:
            return
        of_run = {tags.EPOCH: str(max(report.epoch for report in reports))}
        if node is not None:
            of_run[tags.NODE] = node
        device = next((report.device for report in reports if report.device), None)
        if device is not None:
            of_run[tags.DEVICE] = device
        self._runs.log(trial.run_id, metrics, tags=of_run)
        logged.update({(metric.key, metric.step): metric.value for metric in metrics})

    def _objectives_first(self, metrics: Mapping[str, float]) -> list[tuple[str, float]]:
        """MLflow's pages show first what was logged first."""
        return sorted(metrics.items(), key=lambda item: item[0] not in self._objectives)

    def log_outcome(self, trial_id: str, folder: Path) -> None:
        """What a completed trial leaves: the folder's JSON files and pictures, and the model."""
        run = self._runs.get(self._trials[trial_id].run_id)
        # A trial has one model: one that was logged before a crash is replaced.
        self._runs.delete_models(run)
        stored_model.log(self.client, run, folder, self._shared)

    def log_projections(
        self, trial_id: str, networks: Sequence[tuple[ProjectionReport, Path]]
    ) -> None:
        """The networks to which a completed trial's was projected, each as a run below it.

        What stands there already is not sent again. What is no longer among the networks, or has
        other metrics now, is deleted.
        """
        trial = self._trials[trial_id]
        run = self._runs.get(trial.run_id)
        new = {report.coeff: (report, folder) for report, folder in networks}
        outdated = [
            coeff
            for coeff, (_, metrics) in trial.projections.items()
            if coeff not in new or metrics != new[coeff][0].metrics()
        ]
        self._trials.delete_projections(trial, outdated)
        for coeff, (report, folder) in new.items():
            if coeff not in trial.projections:
                run_id = self._log_projection(trial_id, run, report, folder)
                trial.projections[coeff] = (run_id, report.metrics())

    def _log_projection(
        self, trial_id: str, of_trial: Run, report: ProjectionReport, folder: Path
    ) -> str:
        """The run of one projection below the trial's; returns its id."""
        trial = self._trials[trial_id]
        proof = pages.describe_bound(report.lipschitz_upper_bound)
        run = self._call(
            self.client.api.create_run,
            of_trial.info.experiment_id,
            run_name=network_label(trial_id, report.coeff),
            tags={
                tags.KIND: tags.PROJECTION,
                tags.PARENT: trial.run_id,
                tags.TRIAL_ID: trial_id,
                tags.REPEAT_OF: of_trial.data.tags[tags.REPEAT_OF],
                tags.SAMPLE: trial.sample,
                **{tag: value for tag, value in of_trial.data.tags.items() if tag == tags.GIVEN},
                tags.PROJECTED_FROM: trial.run_id,
                tags.PROJECTED_TO: repr(report.coeff),
                tags.STATE: TrialStatus.RUNNING.value,
                tags.CERTIFIED: str(report.lipschitz_upper_bound < 1).lower(),
                tags.NOTE: f"The network of trial {trial_id}, scaled so that every block's proven "
                f"bound is at most {report.coeff:g}^3. {proof}",
            },
        )
        run_id = str(run.info.run_id)
        added = {PROJECTED_TO: report.coeff, FINE_TUNE_STEPS: report.fine_tune_steps}
        epoch, milliseconds = self._trials.last_epoch(trial), round(report.timestamp * 1000)
        metrics = [
            Metric(name, value, milliseconds, epoch)
            for name, value in self._objectives_first(report.metrics())
        ]
        self._runs.log(run_id, metrics, {**of_trial.data.params, **added})
        stored_model.log(self.client, run, folder, self._shared)
        self._runs.set_state(run_id, TrialStatus.COMPLETED)
        return run_id

    def end_trial(self, trial_id: str, status: TrialStatus, reason: str | None = None) -> None:
        """How a trial ended; certified if its last bound is below 1 and it did not fail."""
        trial = self._trials[trial_id]
        last_epoch = self._trials.last_epoch(trial)
        bound = self._trials.logged(trial).get((LIPSCHITZ_UPPER_BOUND, last_epoch), math.inf)
        proven = bound < 1 and status is not TrialStatus.FAILED
        what = status.value.replace("_", " ").capitalize()
        proof = pages.describe_bound(bound)
        why = reason or proof if status is TrialStatus.FAILED else proof
        of_run = {
            tags.CERTIFIED: str(proven).lower(),
            tags.NOTE: f"{what} after {last_epoch} epochs. {why}"[: tags.LONGEST],
            tags.STATE: status.value,
        }
        if reason is not None:
            of_run[tags.REASON] = reason[: tags.LONGEST]
        if status is not TrialStatus.COMPLETED:
            # It may have completed before a crash, and be stopped when it was trained again.
            self._trials.delete_projections(trial, list(trial.projections))
        # MLflow's status first, then the tag, by which the trial counts as ended: after a crash in
        # between it is ended again.
        self._runs.set_ended(trial.run_id, status)
        self._runs.log(trial.run_id, tags=of_run)
        trial.state = status

    def keep_only(self, trial_ids: set[str]) -> None:
        """Delete the runs of all other trials, and their projections."""
        self._trials.keep_only(trial_ids)

    def trial_state(self, trial_id: str, sample: Mapping[str, Value]) -> TrialStatus | None:
        """What MLflow says of a trial of this sample; None if it has no run, or one that was cut
        off before it was begun."""
        trial = self._trials.get(trial_id)
        if trial is None or not trial.is_begun or trial.sample != json.dumps(sample):
            return None
        return trial.state
