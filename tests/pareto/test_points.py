import math
from dataclasses import replace

import numpy as np
import pytest

from study.metrics.definitions import INVERSE_LIPSCHITZ_UPPER_BOUND, Direction
from study.metrics.goals import Objective
from study.metrics.reports import CONTROL, ProjectionReport, TrialReport, TrialStatus
from study.pareto import points
from study.pareto.dominance import hypervolume, nondominated
from tests.support.studies import epoch_report, projection_report, tiny

STUDY = tiny()


def found(report: TrialReport | None) -> dict[float | None, float]:
    admitted = points.of_report(report, STUDY.objectives, STUDY.constraints)
    return {key: metrics["val_accuracy"] for key, metrics in admitted.items()}


def report(status: TrialStatus, *projections: ProjectionReport, **changes: float) -> TrialReport:
    return TrialReport(status, epoch_report(3, **changes), projections=projections)


def test_a_completed_trial_and_its_projections_are_points_without_the_control() -> None:
    accuracies = {0.7: 0.4, 0.5: 0.5, CONTROL: 1.0}
    projections = [projection_report(at, val_accuracy=a) for at, a in accuracies.items()]
    completed = report(TrialStatus.COMPLETED, *projections, val_accuracy=0.9)
    assert found(completed) == {None: 0.9, 0.7: 0.4, 0.5: 0.5}


def test_what_is_not_real_is_no_point() -> None:
    assert found(None) == {}
    assert found(TrialReport(TrialStatus.FAILED, reason="diverged")) == {}
    for status in set(TrialStatus) - {TrialStatus.COMPLETED}:
        assert found(report(status)) == {}
    for bad in (1.0, 1.5, math.inf, math.nan):
        broken = report(
            TrialStatus.COMPLETED, projection_report(0.7), block_lipschitz_upper_bound=bad
        )
        assert found(broken) == {0.7: 0.5}
    assert found(report(TrialStatus.COMPLETED, val_accuracy=math.nan)) == {}


def test_losses_turn_what_is_maximized_around() -> None:
    metrics = {"val_accuracy": 0.9, "block_lipschitz_upper_bound": 0.3, "inverse_steps": 4.0}
    assert points.losses([metrics], STUDY.objectives).tolist() == [[-0.9, 0.3, 4.0]]
    assert points.losses([], STUDY.objectives).shape == (0, 3)
    assert points.reference_losses(STUDY.objectives) == [0.0, 1.0, 100.0]


INVERTED = (
    Objective("val_accuracy", Direction.MAXIMIZE, 0.5),
    Objective(INVERSE_LIPSCHITZ_UPPER_BOUND, Direction.MINIMIZE, 1e6),
)


def of_inverse(accuracy: float, bound: float) -> dict[str, float]:
    return {"val_accuracy": accuracy, INVERSE_LIPSCHITZ_UPPER_BOUND: bound}


def test_a_bound_of_the_inverse_counts_by_its_decades() -> None:
    networks = [of_inverse(0.9, 1e4), of_inverse(0.7, 10.0)]
    volume = hypervolume(
        points.scaled_losses(networks, INVERTED), points.reference_losses(INVERTED)
    )
    # By hand: 0.4 wide over the two decades from 1e4 to 1e6, and 0.2 over the three below.
    assert volume == pytest.approx(0.4 * 2 + 0.2 * 3)


def test_scales_change_nothing_about_who_dominates() -> None:
    rng = np.random.default_rng(0)
    accuracies, bounds = rng.random(200).tolist(), (10 ** rng.uniform(0, 8, 200)).tolist()
    networks = list(map(of_inverse, accuracies, bounds))
    kept = nondominated(points.losses(networks, INVERTED))
    assert kept.tolist() == nondominated(points.scaled_losses(networks, INVERTED)).tolist()


@pytest.mark.parametrize("direction", Direction)
def test_unscaled_losses_are_the_losses(direction: Direction) -> None:
    objectives = [INVERTED[0], replace(INVERTED[1], direction=direction)]
    networks = [of_inverse(0.9, 3.25e4), of_inverse(0.7, 12.5), of_inverse(0.8, 1.0)]
    scaled = points.scaled_losses(networks, objectives)
    back = points.unscaled(scaled, objectives)
    np.testing.assert_allclose(back, points.losses(networks, objectives), rtol=1e-12)


def test_a_bound_of_zero_has_a_finite_place() -> None:
    of_zero = [replace(INVERTED[1], direction=Direction.MAXIMIZE, reference=0.0)]
    assert math.isfinite(points.reference_losses(of_zero)[0])
