"""A single run: its metrics, parameters and tags, its end, its files and models."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow.entities import Metric, Param, Run, RunTag

from study.metrics.reports import TrialStatus
from study.tracking.client import Client
from study.tracking.tags import STATE

_MLFLOW_STATUS = {
    TrialStatus.COMPLETED: "FINISHED",
    TrialStatus.STOPPED_EARLY: "KILLED",
    TrialStatus.FAILED: "FAILED",
    TrialStatus.INTERRUPTED: "KILLED",
}


class Runs:
    """Writes to runs, each known by its id.

    Raises:
        TrackingError: from any method, if the server refuses or cannot be reached.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._call = client.call

    def get(self, run_id: str) -> Run:
        """A run as it stands."""
        return self._call(self._client.api.get_run, run_id)

    def log(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log all of it, in as few requests as MLflow allows."""
        run_params = [Param(key, str(value)) for key, value in (params or {}).items()]
        run_tags = [RunTag(name, value) for name, value in (tags or {}).items()]
        self._call(self._client.api.log_batch, run_id, metrics, run_params, run_tags)

    def set_state(
        self, run_id: str, status: TrialStatus, tags: Mapping[str, str] | None = None
    ) -> None:
        """Say how a run stands: in MLflow's own status and, with other tags, by the tag that counts
        here. A run that a crash leaves between the two counts as running, and is ended again."""
        of_run = {**(tags or {}), STATE: status.value}
        if status is TrialStatus.RUNNING:
            self.log(run_id, tags=of_run)
            self._call(self._client.api.update_run, run_id, "RUNNING")
        else:
            self._call(self._client.api.set_terminated, run_id, _MLFLOW_STATUS[status])
            self.log(run_id, tags=of_run)

    def delete(self, run_id: str) -> None:
        """Delete a run and its models."""
        self.delete_models(self.get(run_id))
        self._call(self._client.api.delete_run, run_id)

    def delete_models(self, run: Run) -> None:
        """Delete the logged models of a run."""
        for model_id in self.model_ids(run):
            self._call(self._client.api.delete_logged_model, model_id)

    def model_ids(self, run: Run) -> list[str]:
        """Ids of the logged models of a run."""
        models = self._call(
            self._client.api.search_logged_models,
            [run.info.experiment_id],
            f"source_run_id = '{run.info.run_id}'",
        )
        return [model.model_id for model in models]

    def log_file(self, run_id: str, path: Path) -> None:
        """Add a file to a run; it replaces one of that name."""
        self._call(self._client.api.log_artifact, run_id, str(path))
