"""The Ray worker: trains what a suggestion says, reports, checkpoints, and is restored."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from study.importing import importing

# Ray starts a process for each worker, which imports all of this.
with importing():
    import torch
    from ray import tune
    from ray.util import get_node_ip_address

    from study.config.study import StudyConfig
    from study.errors import GpuError, GpuMemoryError, StorageError, reason
    from study.execution.trials import damaged
    from study.metrics.artifacts import (
        OUTCOME,
        REPORTS,
        TRAINING_STATE,
        read_reports,
        write_reports,
    )
    from study.metrics.reports import EpochReport, TrialReport, TrialStatus
    from study.search.suggestion import Suggestion
    from study.trial.data import sources
    from study.trial.device import check_gpus, memory_errors
    from study.trial.ladder import Projection, save_outcome, with_projections
    from study.trial.randomness import choose_algorithms
    from study.trial.state_file import read_state, state_bytes
    from study.trial.time_spent import TimeSpent
    from study.trial.training import Training

# Ray has no error class for a missing checkpoint, only this text.
_GONE = "does not exist on storage"
# Messages that the driver takes in a second, from all trials, with a tenth of a core.
_MESSAGES_A_SECOND = 25.0
# However large the study, a report waits no longer than this for later ones.
_LONGEST_WAIT_SECONDS = 4.0


def longest_wait(n_at_once: int) -> float:
    """Seconds that a report may wait for later ones of its trial, with n_at_once trials running."""
    return min(_LONGEST_WAIT_SECONDS, n_at_once / _MESSAGES_A_SECOND)


@dataclass(frozen=True)
class Batching:
    """Collects reports of a trial into one message, as long as no decision waits for them.

    Attributes:
        longest_wait_seconds: longest time from a report to its message, unless an epoch takes much
            longer than the one before.
        rungs: epochs at which the scheduler decides whether a trial goes on.
    """

    longest_wait_seconds: float
    rungs: frozenset[int]

    def batch(self, next_report: Callable[[], TrialReport], epoch: int) -> TrialReport:
        """Train on from `epoch` up to the next report that the driver should have; returns that
        report, with the reports before it in `earlier`."""
        earlier: list[EpochReport] = []
        first = None
        while True:
            start = time.monotonic()
            report = next_report()
            now = time.monotonic()
            first = now if first is None else first
            is_late = now - first + (now - start) > self.longest_wait_seconds
            if report.status is not TrialStatus.RUNNING or report.epoch is None or is_late:
                break
            # A report between rungs counts for the rung before it.
            if not self.rungs.isdisjoint(range(epoch + 1, report.epoch.epoch + 1)):
                break
            epoch = report.epoch.epoch
            earlier.append(report.epoch)
        return replace(report, earlier=tuple(earlier))


@contextmanager
def _of_this_node() -> Iterator[None]:
    """Add the node's address to GPU errors within the context."""
    try:
        with memory_errors():
            yield
    except (GpuError, GpuMemoryError) as error:
        raise type(error)(f"node {get_node_ip_address()}: resources.gpus: {error}") from error


@contextmanager
def _of_checkpoint(done: str) -> Iterator[None]:
    """Raise StorageError if a checkpoint cannot be written or read; GPU errors keep their class."""
    try:
        with _of_this_node():
            yield
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and _GONE not in str(error):
            raise
        raise StorageError(f"a checkpoint cannot be {done}: {reason(error)}") from error


class TrialTrainable(tune.Trainable):
    """A worker process, which trains one trial after another and keeps the data in memory.

    A step is one reporting epoch or a batch of them, or all reports again after a restore. Each
    checkpoint also holds all reports of its trial, from which MLflow gets those that it lacks after
    an outage or a crash.
    """

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], study: StudyConfig, batching: Batching
    ) -> None:
        """`study` and `batching` are passed by tune.with_parameters."""
        self._study, self._batching = study, batching
        torch.set_num_threads(max(1, int(study.resources.cpus)))
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._suggestion = Suggestion(**config)
        self._reports: list[EpochReport] = []
        # Drop the previous trial: a GPU may not have the memory for two.
        self._made: tuple[Training, TimeSpent] | None = None
        self._projections: list[Projection] = []
        self._last_report: dict[str, Any] = {}
        self._is_restored = False
        self._restores_from = ""

    def _training(self) -> tuple[Training, TimeSpent]:
        """The training of this trial and its clock. Created lazily: if an error is raised before
        the first step, Ray passes only its text to the driver."""
        if self._made is None:
            trial = self._study.resolve(self._suggestion.sample, self._suggestion.seed)
            choose_algorithms(trial.training.deterministic, trial.training.compile)
            if trial.training.compile:
                # torch limits how often a piece of code is compiled, and what was compiled for
                # earlier trials is of no use: their settings are part of the code.
                torch.compiler.reset()
            device = torch.device("cuda" if self._study.resources.gpus > 0 else "cpu")
            if device.type == "cuda":
                check_gpus()
            time_spent = TimeSpent(device, self._study.resources)
            self._made = Training(trial, device, sources.load(trial.data)), time_spent
        return self._made

    @_of_this_node()
    def step(self) -> dict[str, Any]:
        failed = self._suggestion.failed
        if failed is not None:
            return {**TrialReport(TrialStatus.FAILED, reason=failed).to_result(), "done": True}
        training, time_spent = self._training()
        # A restored trial repeats its reports before it trains: the driver may have died before it
        # acted on them, and the scheduler may have to stop the trial here.
        result = self._last_report
        if self._is_restored:
            self._is_restored = False
            result = self._with_earlier_reports()
        elif training.status is TrialStatus.RUNNING:
            report = self._batching.batch(
                partial(self._next_report, training, time_spent), training.epoch
            )
            # The checkpoint has the earlier reports in its own file.
            self._last_report = replace(report, earlier=()).to_result()
            result = report.to_result()
        return {**result, "done": training.status is not TrialStatus.RUNNING}

    def _next_report(self, training: Training, time_spent: TimeSpent) -> TrialReport:
        # The projections are kept for the checkpoint.
        report, self._projections = with_projections(training, training.run_to_report())
        if report.epoch is None:
            return report
        # Stamped here, since proofs and projections take time too.
        self._reports.append(time_spent.stamped(report.epoch))
        return replace(report, epoch=self._reports[-1])

    def _with_earlier_reports(self) -> dict[str, Any]:
        report = TrialReport.from_result(self._last_report)
        assert report is not None
        n_earlier = len(self._reports) - (report.epoch is not None)
        earlier = tuple(self._reports[:n_earlier])
        return replace(report, is_repeated=True, earlier=earlier).to_result()

    @_of_checkpoint("written")
    def save(self, *args: Any, **kwargs: Any) -> Any:
        return super().save(*args, **kwargs)

    def restore(self, *args: Any, **kwargs: Any) -> Any:
        # Tune passes the checkpoint in a result. Files in a bucket are read from a local copy.
        self._restores_from = str(getattr(args[0], "checkpoint", args[0]).path)
        if self._suggestion.failed is None:
            # Outside _of_checkpoint: errors in creating the training are not the storage's.
            with _of_this_node():
                self._training()
        with _of_checkpoint("read"):
            return super().restore(*args, **kwargs)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        folder = Path(checkpoint_dir)
        write_reports(folder, self._reports)
        if self._suggestion.failed is not None:
            return
        training, _ = self._training()
        state = {"training": training.state_dict(), "last_result": self._last_report}
        (folder / TRAINING_STATE).write_bytes(state_bytes(state))
        if training.status is not TrialStatus.COMPLETED:
            return
        save_outcome(folder / OUTCOME, training, self._projections)

    def load_checkpoint(self, checkpoint: str | dict[str, Any] | None) -> None:
        assert isinstance(checkpoint, str)
        try:
            self._reports = read_reports((Path(checkpoint) / REPORTS).read_bytes())
            if self._suggestion.failed is not None:
                return
            state = read_state(Path(checkpoint) / TRAINING_STATE)
        except ValueError as error:
            raise damaged(self._restores_from, error) from error
        training, time_spent = self._training()
        training.load_state_dict(state["training"])
        report = TrialReport.from_result(state["last_result"])
        assert report is not None
        # The state lacks the projected networks.
        report, self._projections = with_projections(training, report)
        self._last_report = report.to_result()
        self._is_restored = True
        if self._reports:
            time_spent.go_on_from(self._reports[-1])
