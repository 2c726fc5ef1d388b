"""Writes of how each network of a study stands in its results, once the study has ended."""

from collections.abc import Mapping, Sequence

from mlflow.entities import Metric

from study.tracking import pages, tags
from study.tracking.client import Client
from study.tracking.records import StudyRecord, TrialRecord


def write(
    client: Client,
    study: StudyRecord,
    networks: Sequence[tuple[TrialRecord, TrialRecord]],
    figures: Mapping[str, float],
    note: str,
    timestamp: float,
) -> None:
    """Write the marks, each only if it is another one than MLflow has: a study may end again, after
    it was resumed.

    Args:
        networks: each as MLflow has it, and with its mark, aliases and why as they are now.
        figures: metrics of the study's own run.
        note: what came out, in Markdown: of the study's run, and above the table of all its runs.
        timestamp: of the figures, seconds since 1970-01-01 UTC.
    """
    for before, now in networks:
        if now == before:
            continue
        of_run = {tags.MARK: now.mark or ""}
        if now.aliases or before.aliases or before.why:
            # Empty where an alias moved on: to delete a tag that is not there is an error.
            of_run |= {tags.ALIAS: ",".join(now.aliases), tags.WHY: now.why}
        client.log(now.run_id, tags=of_run)
    metrics = [Metric(name, value, round(timestamp * 1000), 0) for name, value in figures.items()]
    client.log(study.run_id, metrics, tags={tags.NOTE: note[: tags.LONGEST]})
    # Of the two, MLflow's pages show the experiment's, above the table of its runs. A user may have
    # written another one.
    experiment = client.call(client.api.get_experiment, study.experiment_id)
    ours = pages.describe_study(study.config)
    if ours in experiment.tags.get(tags.NOTE, ""):
        above = f"{note}\n\n{ours}"[: tags.LONGEST]
        client.call(client.api.set_experiment_tag, study.experiment_id, tags.NOTE, above)
