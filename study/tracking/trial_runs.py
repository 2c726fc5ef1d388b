"""The runs that MLflow has of a study's trials, and of their projections."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from mlflow.entities import Run

from study.metrics.reports import REPORTED_METRICS, TrialStatus
from study.tracking import tags
from study.tracking.client import Client
from study.tracking.records import StudyRecord
from study.tracking.runs import Runs
from study.tracking.values import restored


@dataclass
class TrialRun:
    """A trial's run, as far as it is known.

    Attributes:
        is_begun: whether its parameters are there.
        projections: coefficient -> the run of a projection, and its metrics once it is complete.
        logged: (metric, step) -> value, of what MLflow holds; None until it is read.
    """

    run_id: str
    state: TrialStatus
    sample: str
    is_begun: bool = False
    projections: dict[float, tuple[str, dict[str, float]]] = field(default_factory=dict)
    logged: dict[tuple[str, int], float] | None = None


class TrialRuns(dict[str, TrialRun]):
    """The runs of a study's trials, by trial id. What is there twice, or of no trial, is deleted.

    Raises:
        TrackingError: from any method, if the server refuses or cannot be reached.
    """

    def __init__(self, client: Client, study: StudyRecord) -> None:
        super().__init__()
        self._client = client
        self._runs = Runs(client)
        self._experiments = [study.experiment_id]
        # Other runs may hang below the study's run too.
        self._of_trials = (
            f"tags.`{tags.PARENT}` = '{study.run_id}' and tags.`{tags.KIND}` = '{tags.TRIAL}'"
        )
        # The study has its experiment for itself.
        self._of_projections = f"tags.`{tags.KIND}` = '{tags.PROJECTION}'"
        self._adopt(
            client.search_runs(self._experiments, self._of_trials),
            client.search_runs(self._experiments, self._of_projections),
        )

    def reread(self, trial_id: str) -> None:
        """Learn again what stands there of a trial."""
        self.pop(trial_id, None)
        one = f" and tags.`{tags.TRIAL_ID}` = '{trial_id}'"
        self._adopt(
            self._client.search_runs(self._experiments, self._of_trials + one),
            self._client.search_runs(self._experiments, self._of_projections + one),
        )

    def _adopt(self, trials: Iterable[Run], projections: Iterable[Run]) -> None:
        # The oldest first: a run that was made twice, since an answer got lost, stays once.
        for run in sorted(trials, key=lambda run: run.info.start_time):
            of_run = run.data.tags
            if of_run[tags.TRIAL_ID] in self:
                self._runs.delete(run.info.run_id)
                continue
            state, is_begun = TrialStatus(of_run[tags.STATE]), bool(run.data.params)
            trial = TrialRun(run.info.run_id, state, of_run[tags.SAMPLE], is_begun)
            self[of_run[tags.TRIAL_ID]] = trial
        by_run = {trial.run_id: trial for trial in self.values()}
        for run in projections:
            of_run = run.data.tags
            parent = by_run.get(of_run[tags.PROJECTED_FROM])
            coeff = float(of_run[tags.PROJECTED_TO])
            if parent is None or coeff in parent.projections:
                self._runs.delete(run.info.run_id)
                continue
            whole = of_run[tags.STATE] == TrialStatus.COMPLETED
            metrics = {name: restored(v) for name, v in run.data.metrics.items()} if whole else {}
            parent.projections[coeff] = (run.info.run_id, metrics)

    def logged(self, trial: TrialRun) -> dict[tuple[str, int], float]:
        """(metric, step) -> value, of what MLflow holds of a trial."""
        if trial.logged is None:
            history = self._client.api.get_metric_history
            trial.logged = {
                (metric, point.step): point.value
                for metric in REPORTED_METRICS
                for point in self._client.call(history, trial.run_id, metric)
            }
        return trial.logged

    def last_epoch(self, trial: TrialRun) -> int:
        """The last epoch that MLflow holds a metric of; 0 if there is none."""
        return max((step for _, step in self.logged(trial)), default=0)

    def keep_only(self, trial_ids: set[str]) -> None:
        """Delete the runs of all other trials, and their projections."""
        for trial_id in self.keys() - trial_ids:
            self.delete(trial_id)

    def delete(self, trial_id: str) -> None:
        """Delete the run of a trial, and its projections."""
        trial = self.pop(trial_id)
        self.delete_projections(trial, list(trial.projections))
        self._runs.delete(trial.run_id)

    def delete_projections(self, trial: TrialRun, coeffs: Iterable[float]) -> None:
        """Delete the runs of some projections of a trial."""
        for coeff in coeffs:
            run_id, _ = trial.projections.pop(coeff)
            self._runs.delete(run_id)
