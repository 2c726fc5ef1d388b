"""The report in other programs: MLflow's runs, and a study of Optuna.

`best_trials` of the Optuna study has the objectives' values of our front, and no others. Where
networks are equal as reported, Optuna has all of them, our front only the first. A projection has
the sample of its trial, and its bound as a user attribute: as a parameter, the bound would lie
outside the space, or claim that a network was trained with it.
"""

import math
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from study.metrics.artifacts import PAGE
from study.metrics.definitions import HYPERVOLUME, N_COMPLETED, N_FRONT
from study.metrics.goals import as_in_a_file
from study.metrics.reports import TrialStatus
from study.results.front import Mark, Point
from study.results.report import Report
from study.results.views import report_view
from study.results.views.page import write_page
from study.search import optuna_study
from study.search.optuna_study import FrozenTrial
from study.tracking import pages, studies
from study.tracking.server import files

# Mark of every training of a sample but the first, which has the sample's mark.
_REPEAT = "repeat"


def publish(report: Report) -> None:
    """Write the results of a study that has ended into MLflow: the mark of each network, the
    recommendations with their reasons, and the figures of the study. The report must have all
    points and the study's own objectives. Raises TrackingError if MLflow refuses or cannot be
    reached."""
    recommended = {one.point.first.run_id: one for one in report.recommended}
    networks = []
    for point in report.points:
        one = recommended.get(point.first.run_id)
        aliases, why = (one.aliases, one.sentence) if one is not None else ((), "")
        marked = replace(point.first, mark=point.mark.value, aliases=aliases, why=why)
        networks.append((point.first, marked))
        # Repeats get another mark, so that as many runs as rows of the report have each mark.
        networks += [
            (record, replace(record, mark=_REPEAT, aliases=(), why=""))
            for record in point.records[1:]
        ]
    study = report.study
    note = pages.describe_results(
        study.experiment_id,
        study.run_id,
        [(one.point.handle, " and ".join(one.aliases), one.sentence) for one in report.recommended],
    )
    studies.mark(report.files.client, study, networks, figures(report), note)


def publish_page(report: Report) -> None:
    """Store a finished study's page in its run, and note there that all results are published."""
    client, study = report.files.client, report.study
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PAGE
        write_page(path, report_view.view(report))
        files.log_file(client, client.get_run(study.run_id), path)
    studies.note_published(client, study)


def figures(report: Report) -> Mapping[str, float]:
    """Figures of a study by name; a hypervolume that is not defined is absent."""
    volume = {} if report.hypervolume is None else {HYPERVOLUME: report.hypervolume}
    return {
        **volume,
        N_FRONT: len(report.front),
        N_COMPLETED: sum(trial.state is TrialStatus.COMPLETED for trial in report.trainings),
        **report.costs,
    }


def export(report: Report, url: str) -> str:
    """Write the report into an Optuna storage, as a study of the same name; returns the URL without
    its password. Raises UserError if that fails; the storage then has no such study."""
    objectives = report.objectives
    return optuna_study.write(
        url,
        report.study.name,
        [(objective.metric, objective.direction) for objective in objectives],
        trials(report),
        {
            "constraints": as_in_a_file(report.constraints),
            "reference_point": {
                o.metric: o.reference for o in objectives if math.isfinite(o.reference)
            },
            "experiment_id": report.study.experiment_id,
        },
    )


def trials(report: Report) -> list[FrozenTrial]:
    """Every point as an Optuna trial, in the order of the trials. Raises UserError if a sample is
    not of the study's space."""
    return [_trial(report, point) for point in report.points]


def _trial(report: Report, point: Point) -> FrozenTrial:
    names = [objective.metric for objective in report.objectives]
    is_finite = all(math.isfinite(point.metrics.get(name, math.nan)) for name in names)
    # Trials that run or were interrupted count as failed too: in Optuna they would never end.
    state = TrialStatus.FAILED
    if point.mark is Mark.STOPPED_EARLY:
        state = TrialStatus.STOPPED_EARLY
    elif point.is_admitted or (point.mark is Mark.INFEASIBLE and is_finite):
        state = TrialStatus.COMPLETED
    is_completed = state is TrialStatus.COMPLETED
    first = point.first
    attributes: dict[str, Any] = {
        "network": point.handle,
        "mark": point.mark.value,
        "run_id": first.run_id,
        "run_ids": [r.run_id for r in point.records] if len(point.records) > 1 else None,
        "projected_to": first.projected_to,
        "origin": first.origin or None,
        "recommended": report.aliases.get(point.handle),
        "reason": first.reason,
        **{k: v for k, v in point.metrics.items() if not (is_completed and k in names)},
    }
    return optuna_study.as_trial(
        report.study.config.space,
        network=point.handle,
        sample=first.sample,
        state=state,
        values=[point.metrics[name] for name in names] if is_completed else None,
        # By unrounded values of each training, as for the front.
        violations={
            c.metric: max(c.violation(r.metrics.get(c.metric, math.nan)) for r in point.records)
            for c in report.constraints
            if is_completed
        },
        attributes={name: value for name, value in attributes.items() if value is not None},
        started=first.started,
        ended=first.started if first.ended is None else first.ended,
    )
