"""How the front grew: its hypervolume as trials ended."""

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from study import pareto, points
from study.front import Report
from study.metrics import TrialStatus
from study.records import TrialRecord


@dataclass(frozen=True)
class Growth:
    """Hypervolume after each trial that ended, exact, against what had been spent by then.

    Attributes:
        epochs: trained by all trials that had ended, stopped and failed ones too.
        hours: since the first trial began, pauses of a study that was resumed included.
        hypervolume: of all points until then, each training by itself.
    """

    epochs: list[int]
    hours: list[float]
    hypervolume: list[float]


def growth(report: Report) -> Growth | None:
    """None where an objective has no reference value, or no trial has ended."""
    if not all(math.isfinite(objective.reference) for objective in report.objectives):
        return None
    reference = points.reference_losses(report.objectives)
    by_trial: dict[str, list[TrialRecord]] = defaultdict(list)
    for point in report.points:
        for record in point.records:
            by_trial[record.trial_id].append(record)
    ended: list[tuple[float, TrialRecord, list[TrialRecord]]] = []
    for records in by_trial.values():
        trial = next((r for r in records if r.projected_to is None), None)
        # A filter may have left the projection and not its trial.
        if trial is not None and trial.ended is not None:
            ended.append((trial.ended, trial, records))
    if not ended:
        return None
    start = min(trial.started for _, trial, _ in ended)
    found = Growth([], [], [])
    front = np.empty((0, len(reference)))
    volume, n_epochs = 0.0, 0
    for time, trial, records in sorted(ended, key=lambda one: one[0]):
        n_epochs += trial.n_epochs
        admitted = [
            r.metrics
            for r in records
            if r.state is TrialStatus.COMPLETED
            and points.admitted(r.metrics, report.objectives, report.constraints)
        ]
        losses = np.concatenate([front, points.losses(admitted, report.objectives)])
        kept = pareto.nondominated(losses)
        if kept[len(front) :].any():
            front = np.unique(losses[kept], axis=0)
            volume = pareto.hypervolume(front, reference)
        found.epochs.append(n_epochs)
        found.hours.append((time - start) / 3600)
        found.hypervolume.append(volume)
    return found
