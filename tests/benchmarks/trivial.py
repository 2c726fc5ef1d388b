"""Trials that do nothing but report, for benchmarks of the system around them.

By itself, since a worker imports the whole module of its trial.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ray import tune

from study.execution.worker import Batching
from study.metrics.artifacts import write_reports
from study.metrics.reports import EpochReport, TrialReport, TrialStatus
from tests.support.studies import epoch_report

N_REPORTS = 5


class Trivial(tune.Trainable):
    """Reports made-up figures; it ends as a trial does that a scheduler stops."""

    n_reports = N_REPORTS

    def setup(self, config: dict[str, Any], batching: Batching, **unused: Any) -> None:
        self._reports: list[EpochReport] = []
        # Nobody decides anything ahead of the last report.
        self._batching = replace(batching, rungs=frozenset({self.n_reports}))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._reports = []
        return True

    def _next_report(self) -> TrialReport:
        self._reports.append(epoch_report(len(self._reports) + 1, timestamp=time.time()))
        return TrialReport(TrialStatus.RUNNING, self._reports[-1])

    def step(self) -> dict[str, Any]:
        report = self._batching.batch(self._next_report, len(self._reports))
        return {**report.to_result(), "done": len(self._reports) == self.n_reports}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        write_reports(Path(checkpoint_dir), self._reports)


class Flat(Trivial):
    """Says its figures by their names, as Tune and its callbacks expect them."""

    def setup(self, config: dict[str, Any], **given: Any) -> None:
        super().setup(config, Batching(0.0, frozenset()), **given)

    def step(self) -> dict[str, Any]:
        result = super().step()
        return {**asdict(self._reports[-1]), "done": result["done"]}


def timed_fit(clock: Callable[[], float]) -> list[float]:
    """Let every Tuner.fit leave its seconds by a clock in the list that this returns."""
    fit, seconds = tune.Tuner.fit, list[float]()

    def timed(self: tune.Tuner) -> Any:
        start = clock()
        try:
            return fit(self)
        finally:
            seconds.append(clock() - start)

    tune.Tuner.fit = timed  # type: ignore[method-assign]
    return seconds
