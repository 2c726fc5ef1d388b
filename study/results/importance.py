"""How much each hyperparameter accounts for, of a study's completed trials."""

import math

from study.metrics.reports import TrialStatus
from study.results.front import Point, Results
from study.search.importance import FEWEST_TRIALS, MOST_TRIALS, N_RESAMPLES, Share, importance


def importances(results: Results) -> dict[str, dict[str, Share]]:
    """Objective -> parameter -> share of the variance; objectives without an estimate are left out.

    Projections do not count: their values are no choice of a hyperparameter.
    """
    space = results.study.config.space
    shares = {}
    for objective in results.objectives:
        pairs = [
            (point.first.sample, value)
            for point in results.points
            if _counts(point)
            and math.isfinite(value := point.metrics.get(objective.metric, math.nan))
        ]
        of_objective = importance(space, [s for s, _ in pairs], [v for _, v in pairs])
        if of_objective is not None:
            shares[objective.metric] = of_objective
    return shares


def _counts(point: Point) -> bool:
    return point.is_trial and point.first.state is TrialStatus.COMPLETED


def note(results: Results) -> str:
    """What the shares are, in a sentence."""
    n_completed = sum(map(_counts, results.points))
    if n_completed < FEWEST_TRIALS:
        return (
            "Which hyperparameter matters how much is not said: that takes "
            f"{FEWEST_TRIALS} completed trials, and there are {n_completed}."
        )
    return (
        "Share of the variance that each hyperparameter accounts for by itself: fANOVA on "
        f"{min(n_completed, MOST_TRIALS)} completed trials, an estimate; the thin bars have the "
        f"range of {N_RESAMPLES} resamples of the trials."
    )
