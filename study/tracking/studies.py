"""Writing of a study's own run and, once the study has ended, of the marks of its networks."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mlflow.entities import Metric

from study.config.file import to_yaml
from study.config.study import StudyConfig
from study.errors import NameTakenError, OutageError, TrackingError
from study.metrics.artifacts import STUDY_FILE
from study.metrics.reports import TrialStatus
from study.tracking import pages, tags
from study.tracking.records import Records
from study.tracking.server import files
from study.tracking.server.client import Client
from study.tracking.server.locations import artifact_location
from study.tracking.study_record import StudyRead, StudyRecord, TrialRecord


def create(
    client: Client,
    config: StudyConfig,
    source: str,
    storage: str,
    provenance: Mapping[str, str] | None = None,
) -> StudyRecord:
    """Create the experiment and run of a study. If calls with one name run at once, one succeeds.

    Args:
        source: path of the study file.
        storage: folder or bucket where Tune keeps its state.
        provenance: tags that say which code runs it.

    Raises:
        NameTakenError: if the name is not free.
        TrackingError: if MLflow refuses or cannot be reached.
    """
    try:
        experiment_id = client.call(
            client.api.create_experiment,
            config.name,
            artifact_location(client.tracking_uri, config.name),
            tags={
                tags.NOTE: pages.describe_study(config),
                **{tags.SHARED_VIEW + name: view for name, view in pages.views(config).items()},
            },
        )
    except TrackingError as error:
        if not isinstance(error, OutageError) and Records(client).is_taken(config.name):
            raise NameTakenError.of(config.name) from error
        raise
    run = client.call(
        client.api.create_run,
        experiment_id,
        tags={
            tags.KIND: tags.STUDY,
            tags.STATE: TrialStatus.RUNNING.value,
            tags.CONFIG: json.dumps(config.to_dict()),
            tags.SOURCE: source,
            tags.STORAGE: storage,
            **(provenance or {}),
        },
        run_name=config.name,
    )
    files.log_text(client, run, to_yaml(config), STUDY_FILE)
    run_id = run.info.run_id
    return StudyRecord(config.name, experiment_id, run_id, config, source, storage, finished=False)


def extend(client: Client, study: StudyRecord, extended: StudyRecord) -> None:
    """Store the new limits of an extended study, which can then be resumed."""
    of_run = {
        tags.CONFIG: json.dumps(extended.config.to_dict()),
        tags.EXTENSION: json.dumps({"n_searches": extended.n_searches}),
        tags.END_OF_SEARCH: "",
        tags.PUBLISHED: "",
        # Makes the study resumable, in the request that also stores the new limits.
        tags.STATE: TrialStatus.INTERRUPTED.value,
    }
    client.log(study.run_id, tags=of_run)
    files.log_text(client, client.get_run(study.run_id), to_yaml(extended.config), STUDY_FILE)
    experiment = client.call(client.api.get_experiment, study.experiment_id)
    # A note that a user wrote stays.
    note = experiment.tags.get(tags.NOTE, "").replace(
        pages.describe_study(study.config), pages.describe_study(extended.config)
    )
    client.call(client.api.set_experiment_tag, study.experiment_id, tags.NOTE, note)


def note_end_of_search(client: Client, study: StudyRecord, reason: str) -> None:
    """Store why the study ended before its last possible trial."""
    client.call(client.api.set_tag, study.run_id, tags.END_OF_SEARCH, reason[: tags.LONGEST])


def close(client: Client, study: StudyRead, status: TrialStatus) -> StudyRead:
    """Store the status in which a study is left, and mark trials that still run as interrupted.
    Returns the study as it is then."""
    networks = []
    for network in study.networks:
        if network.state is TrialStatus.RUNNING:
            client.set_state(network.run_id, TrialStatus.INTERRUPTED)
            network = replace(network, state=TrialStatus.INTERRUPTED)
        networks.append(network)
    client.set_state(study.record.run_id, status)
    record = replace(study.record, finished=status is TrialStatus.COMPLETED)
    return StudyRead(record, tuple(networks))


def mark(
    client: Client,
    study: StudyRecord,
    networks: Sequence[tuple[TrialRecord, TrialRecord]],
    figures: Mapping[str, float],
    note: str,
) -> None:
    """Store how each network stands in the results of an ended study, where that differs from what
    MLflow has: a study may be resumed and end again.

    Args:
        networks: (before, now) of each: as MLflow has it; with its present mark, aliases and why.
        figures: metrics of the study's own run.
        note: the results in Markdown, for the study's run and above the table of all its runs.
    """
    for before, now in networks:
        if now == before:
            continue
        of_run = {tags.MARK: now.mark or ""}
        if now.aliases or before.aliases or before.why:
            # Set to empty if the network lost its alias: deleting an absent tag is an error.
            of_run |= {tags.ALIAS: ",".join(now.aliases), tags.WHY: now.why}
        client.log(now.run_id, tags=of_run)
    now_ms = round(time.time() * 1000)
    metrics = [Metric(name, value, now_ms, 0) for name, value in figures.items()]
    client.log(study.run_id, metrics, tags={tags.NOTE: note[: tags.LONGEST]})
    # MLflow's pages show the experiment's note above its runs. A user may have written another.
    experiment = client.call(client.api.get_experiment, study.experiment_id)
    ours = pages.describe_study(study.config)
    if ours in experiment.tags.get(tags.NOTE, ""):
        above = f"{note}\n\n{ours}"[: tags.LONGEST]
        client.call(client.api.set_experiment_tag, study.experiment_id, tags.NOTE, above)


def note_published(client: Client, study: StudyRecord) -> None:
    """Store that all results of an ended study are in MLflow."""
    client.call(client.api.set_tag, study.run_id, tags.PUBLISHED, "true")
