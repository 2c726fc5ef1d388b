"""What the front admits, and how a trial's reports become points in the space of losses."""

import math
from collections.abc import Mapping, Sequence

from study import pareto
from study.metrics import TrialReport, TrialStatus
from study.pareto import Losses
from study.study_config import Constraint, Objective


def admitted(
    metrics: Mapping[str, float],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
) -> bool:
    """Whether what completed may be on a front: finite objectives, and constraints that hold."""
    finite = all(math.isfinite(metrics.get(o.metric, math.nan)) for o in objectives)
    return finite and all(c.holds(metrics.get(c.metric, math.nan)) for c in constraints)


def losses(metrics: Sequence[Mapping[str, float]], objectives: Sequence[Objective]) -> Losses:
    """Admitted points (n) as losses (n, m), less is better."""
    values = [[point[o.metric] for o in objectives] for point in metrics]
    return pareto.losses(values, [o.direction for o in objectives])


def reference_losses(objectives: Sequence[Objective]) -> list[float]:
    """The reference point of the hypervolume (m,), as losses."""
    values = [[o.reference for o in objectives]]
    reference: list[float] = pareto.losses(values, [o.direction for o in objectives])[0].tolist()
    return reference


def of_report(
    report: TrialReport | None,
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
) -> dict[float | None, Mapping[str, float]]:
    """Admitted points of a trial's last report: its own network's under None, those of its
    projections under their coefficients; empty unless the trial completed."""
    if report is None or report.status is not TrialStatus.COMPLETED:
        return {}
    assert report.epoch is not None
    points: dict[float | None, Mapping[str, float]] = {None: report.epoch.metrics()}
    points.update((projection.coeff, projection.metrics()) for projection in report.projections)
    return {
        key: metrics
        for key, metrics in points.items()
        if admitted(metrics, objectives, constraints)
    }
