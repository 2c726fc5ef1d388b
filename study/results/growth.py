"""How the front grew: its hypervolume as trials ended."""

import math
from collections import defaultdict
from dataclasses import dataclass

from study.metrics.reports import TrialStatus
from study.pareto import points
from study.pareto.growing import GrowingFront
from study.results.covered import Covered
from study.results.front import Results
from study.tracking.records import TrialRecord


@dataclass(frozen=True)
class Growth:
    """Hypervolume after each trial that ended, exact, against what had been spent by then.

    Attributes:
        epochs: trained by all trials that had ended, stopped and failed ones too.
        hours: of the clock in which at least one trial ran; pauses of a study that was resumed or
            extended do not count.
        hypervolume: of all points until then, each training by itself.
    """

    epochs: list[int]
    hours: list[float]
    hypervolume: list[float]


def growth(results: Results) -> Growth | None:
    """None where an objective has no reference value, or no trial has ended."""
    if not all(math.isfinite(objective.reference) for objective in results.objectives):
        return None
    ended = _ended_trials(results)
    if not ended:
        return None
    covered = Covered([(trial.started, end) for end, trial, _ in ended])
    grown = Growth([], [], [])
    front = GrowingFront(points.reference_losses(results.objectives))
    n_epochs = 0
    for end, trial, records in sorted(ended, key=lambda one: one[0]):
        n_epochs += trial.n_epochs
        admitted = [
            record.metrics
            for record in records
            if record.state is TrialStatus.COMPLETED
            and points.admitted(record.metrics, results.objectives, results.constraints)
        ]
        front.add(points.losses(admitted, results.objectives))
        grown.epochs.append(n_epochs)
        grown.hours.append(covered.until(end) / 3600)
        grown.hypervolume.append(front.hypervolume)
    return grown


def _ended_trials(results: Results) -> list[tuple[float, TrialRecord, list[TrialRecord]]]:
    """(time of its end, the trial, the trial and its projections) of each trial that ended."""
    by_trial: dict[str, list[TrialRecord]] = defaultdict(list)
    for point in results.points:
        for record in point.records:
            by_trial[record.trial_id].append(record)
    ended = []
    for records in by_trial.values():
        trial = next((r for r in records if r.projected_to is None), None)
        # A filter may have left the projection and not its trial.
        if trial is not None and trial.ended is not None:
            ended.append((trial.ended, trial, records))
    return ended
