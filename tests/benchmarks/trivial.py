"""Trials that do nothing but report, for benchmarks of the system around them.

By itself, since a worker imports the whole module of its trial.
"""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray import tune

from study.metrics import TrialReport, TrialStatus
from tests.studies import epoch_report

N_REPORTS = 5
_REPORTS_FILE = "reports.json"  # as study.trainable has it, which imports torch


class Trivial(tune.Trainable):
    """Reports made-up figures; it ends as a trial does that a scheduler stops."""

    def setup(self, config: dict[str, Any], **unused: Any) -> None:
        self._reports: list[Any] = []

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._reports = []
        return True

    def step(self) -> dict[str, Any]:
        self._reports.append(epoch_report(len(self._reports) + 1, timestamp=time.time()))
        report = TrialReport(TrialStatus.RUNNING, self._reports[-1])
        return {**report.to_result(), "done": len(self._reports) == N_REPORTS}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        reports = json.dumps([asdict(report) for report in self._reports])
        (Path(checkpoint_dir) / _REPORTS_FILE).write_text(reports)


class Flat(Trivial):
    """Says its figures by their names, as Tune and its callbacks expect them."""

    def step(self) -> dict[str, Any]:
        result = super().step()
        return {**asdict(self._reports[-1]), "done": result["done"]}
