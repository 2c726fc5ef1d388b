"""Writes of how each network of a study stands in its results, once the study has ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlflow.entities import Metric

from study.tracking import tags
from study.tracking.client import Client
from study.tracking.records import StudyRecord, TrialRecord
from study.tracking.runs import Batch


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
        note: its description, in Markdown.
        timestamp: of the figures, seconds since 1970-01-01 UTC.
    """
    for network in networks:
        record = network.record
        if (record.mark, record.aliases) == (network.mark, network.aliases):
            continue
        of_run = {tags.MARK: network.mark}
        if network.aliases:
            of_run |= {tags.ALIAS: ",".join(network.aliases), tags.WHY: network.why}
        elif record.aliases:
            for tag in (tags.ALIAS, tags.WHY):
                client.call(client.api.delete_tag, record.run_id, tag)
        Batch(tags=of_run).send(client, record.run_id)
    metrics = [Metric(name, value, round(timestamp * 1000), 0) for name, value in figures.items()]
    Batch(metrics, tags={tags.NOTE: note[: tags.LONGEST]}).send(client, study.run_id)
