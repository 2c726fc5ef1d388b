"""Writes of how each network of a study stands in its results, once the study has ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlflow.entities import Metric

from study.tracking import pages, tags
from study.tracking.client import Client
from study.tracking.records import StudyRecord, TrialRecord
from study.tracking.runs import Runs


@dataclass(frozen=True)
class Marked:
    """A network's run, and how it stands now.

    Attributes:
        aliases: as which it is recommended.
        why: a sentence that says so; empty if it is not recommended.
    """

    record: TrialRecord
    mark: str
    aliases: tuple[str, ...]
    why: str


def write(
    client: Client,
    study: StudyRecord,
    networks: Sequence[Marked],
    figures: Mapping[str, float],
    note: str,
    timestamp: float,
) -> None:
    """Write the marks, each only if it is another one than MLflow has: a study may end again, after
    it was resumed.

    Args:
        figures: metrics of the study's own run.
        note: what came out, in Markdown: of the study's run, and above the table of all its runs.
        timestamp: of the figures, seconds since 1970-01-01 UTC.
    """
    runs = Runs(client)
    for network in networks:
        record = network.record
        known = (record.mark, record.aliases, record.why)
        if known == (network.mark, network.aliases, network.why):
            continue
        of_run = {tags.MARK: network.mark}
        if network.aliases or record.aliases or record.why:
            # Empty where an alias moved on: to delete a tag that is not there is an error.
            of_run |= {tags.ALIAS: ",".join(network.aliases), tags.WHY: network.why}
        runs.log(record.run_id, tags=of_run)
    metrics = [Metric(name, value, round(timestamp * 1000), 0) for name, value in figures.items()]
    runs.log(study.run_id, metrics, tags={tags.NOTE: note[: tags.LONGEST]})
    # Of the two, MLflow's pages show the experiment's, above the table of its runs. A user may have
    # written another one.
    experiment = client.call(client.api.get_experiment, study.experiment_id)
    ours = pages.describe_study(study.config)
    if ours in experiment.tags.get(tags.NOTE, ""):
        above = f"{note}\n\n{ours}"[: tags.LONGEST]
        client.call(client.api.set_experiment_tag, study.experiment_id, tags.NOTE, above)
