"""The results as a study of Optuna: every point a trial.

`study.best_trials` of such a study has the objectives' values of our front, and no others. Of
networks that are equal as reported Optuna has all, where our front has the first.

A projection has the sample of the trial that it comes from, and the coefficient that it was
projected to as a user attribute. As a parameter it would lie outside the space, or say that a
network was trained with it.
"""

import math
from collections.abc import Mapping
from typing import Any

from study.metrics.goals import Objective
from study.metrics.reports import TrialStatus
from study.results.front import Mark, Point, Results
from study.results.recommended import aliases_of
from study.search import optuna_study
from study.search.optuna_study import Network


def check(results: Results, url: str) -> None:
    """Whether the results can be written into a storage of Optuna. Nothing is changed there.

    Raises:
        UserError: if not.
    """
    optuna_study.as_trials(results.study.config.space, networks(results))
    optuna_study.check(url, results.study.name)


def write(results: Results, url: str) -> str:
    """Write the results into a storage of Optuna, as a study of the study's name; returns the URL
    without its password.

    Raises:
        UserError: if that cannot be done; the storage then has no such study.
    """
    return optuna_study.write(
        url,
        results.study.name,
        [(objective.metric, objective.direction) for objective in results.objectives],
        optuna_study.as_trials(results.study.config.space, networks(results)),
        {
            "constraints": {c.metric: str(c) for c in results.constraints},
            "reference_point": {
                o.metric: o.reference for o in results.objectives if math.isfinite(o.reference)
            },
            "experiment_id": results.study.experiment_id,
        },
    )


def networks(results: Results) -> list[Network]:
    """Every point as what Optuna is given of it, in the order of the trials."""
    aliases = aliases_of(results)
    return [_network(results, point, aliases) for point in results.points]


def _network(results: Results, point: Point, aliases: Mapping[str, str]) -> Network:
    state = _state(point, results.objectives)
    values, others = None, dict(point.metrics)
    if state is TrialStatus.COMPLETED:
        names = [objective.metric for objective in results.objectives]
        values = [point.metrics[name] for name in names]
        others = {name: value for name, value in others.items() if name not in names}
    first = point.first
    attributes: dict[str, Any] = {
        "network": results.handle(point),
        "mark": point.mark.value,
        "run_id": first.run_id,
        "run_ids": [r.run_id for r in point.records] if len(point.records) > 1 else None,
        "projected_to": first.projected_to,
        "origin": first.origin or None,
        "recommended": aliases.get(point.label),
        "reason": first.reason,
        **others,
    }
    return Network(
        name=results.handle(point),
        sample=first.sample,
        state=state,
        values=values,
        # Of the values before they are rounded, in each training: as the front is decided.
        violations={
            c.metric: max(c.violation(r.metrics.get(c.metric, math.nan)) for r in point.records)
            for c in results.constraints
            if state is TrialStatus.COMPLETED
        },
        attributes={name: value for name, value in attributes.items() if value is not None},
        started=first.started,
        ended=first.started if first.ended is None else first.ended,
    )


def _state(point: Point, objectives: tuple[Objective, ...]) -> TrialStatus:
    """How Optuna knows a point. A trial that runs or was interrupted gave nothing: it would never
    end there."""
    if point.mark is Mark.STOPPED_EARLY:
        return TrialStatus.STOPPED_EARLY
    is_completed = point.mark in (Mark.FRONT, Mark.DOMINATED, Mark.INFEASIBLE)
    is_finite = all(math.isfinite(point.metrics.get(o.metric, math.nan)) for o in objectives)
    return TrialStatus.COMPLETED if is_completed and is_finite else TrialStatus.FAILED
