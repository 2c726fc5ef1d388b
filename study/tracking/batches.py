"""What is logged to runs, in as few requests as its order allows."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from mlflow.entities import Metric

from study.tracking.client import Client


@dataclass
class _Batch:
    metrics: list[Metric] = field(default_factory=list)
    params: dict[str, object] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class Batches:
    """Logs to runs at once or, within `together`, to each run in one request. Methods raise
    TrackingError as Client's do."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._held: dict[str, _Batch] | None = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Hold what is logged until the context ends, or until `send`. What is held when the
        context fails is dropped."""
        self._held = {}
        try:
            yield
            for run_id in list(self._held):
                self.send(run_id)
        finally:
            self._held = None

    def log(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log to a run as `Client.log` does; within `together`, later."""
        if self._held is None:
            self._client.log(run_id, metrics, params, tags)
            return
        batch = self._held.setdefault(run_id, _Batch())
        batch.metrics += metrics
        batch.params |= params or {}
        batch.tags |= tags or {}

    def send(self, run_id: str) -> None:
        """Send what is held of a run now: what follows must find it in MLflow."""
        batch = None if self._held is None else self._held.pop(run_id, None)
        if batch is not None:
            self._client.log(run_id, batch.metrics, batch.params, batch.tags)
