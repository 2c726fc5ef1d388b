"""The MLflow run of a projection, of a member of a family or of a control, below its training's."""

import json
import math
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Run

from study.config.study import StudyConfig
from study.metrics.reports import ProjectionReport, TrialStatus, is_control
from study.tracking import pages, stored_model, tags
from study.tracking.handles import network_label
from study.tracking.server.client import Client
from study.tracking.values import FINE_TUNE_STEPS, PROJECTED_TO, objectives_first


def log(
    client: Client,
    study: StudyConfig,
    of_trial: Run,
    report: ProjectionReport,
    folder: Path,
    epoch: int,
    latest: dict[str, Path],
) -> str:
    """Log a network that a training gave besides its own; returns the id of its run.

    Args:
        of_trial: the run of its training.
        folder: with its files, as `save_network` writes them.
        epoch: the last one of its training.
        latest: as for `stored_model.log`.
    """
    of_parent, parent = of_trial.data.tags, of_trial.info.run_id
    trial_id, sample = of_parent[tags.TRIAL_ID], of_parent[tags.SAMPLE]
    trial = study.resolve(json.loads(sample), seed=0)
    bound = report.inverse_lipschitz_upper_bound
    proof = pages.describe_inverse(bound, trial.proven_by)
    known_by: dict[str, str] = {}
    added: dict[str, Any] = {}
    if report.projected_to is not None:
        known_by[tags.PROJECTED_TO] = repr(report.projected_to)
        added = {PROJECTED_TO: report.projected_to, FINE_TUNE_STEPS: report.fine_tune_steps}
    if report.member is not None:
        known_by[tags.MEMBER] = json.dumps(report.member)
        family = trial.alone.family if is_control(report.variant) else trial.family
        added.update(zip((name for name, _ in family), report.member, strict=True))
    run = client.call(
        client.api.create_run,
        of_trial.info.experiment_id,
        run_name=network_label(trial_id, report.variant),
        tags={
            tags.KIND: tags.PROJECTION,
            tags.PARENT: parent,
            tags.TRIAL_ID: trial_id,
            tags.REPEAT_OF: of_parent[tags.REPEAT_OF],
            tags.SAMPLE: sample,
            **{tag: value for tag, value in of_parent.items() if tag == tags.GIVEN},
            tags.PROJECTED_FROM: parent,
            **known_by,
            tags.STATE: TrialStatus.RUNNING.value,
            tags.CERTIFIED: str(bound < math.inf).lower(),
            tags.NOTE: f"{pages.describe_projection(trial_id, report, trial.proven_by)} {proof}",
        },
    )
    run_id = str(run.info.run_id)
    values, now = objectives_first(study, report.metrics()), round(report.timestamp * 1000)
    metrics = [Metric(name, value, now, epoch) for name, value in values]
    client.log(run_id, metrics, {**of_trial.data.params, **added})
    stored_model.log(client, run, folder, latest)
    client.set_state(run_id, TrialStatus.COMPLETED)
    return run_id
