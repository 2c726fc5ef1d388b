"""What MLflow has of a study, and its permanent deletion.

MLflow's own deletion can be undone: runs, models and the experiment's name stay until the owner of
the server runs `mlflow gc`. A SQLite database belongs to whoever runs this, so its rows are deleted
by SQL, in one transaction. `mlflow gc` is no alternative: version 3.17 took 40 s for 300 runs, SQL
0.8 s. It deletes runs in any order, so that a study is not recognized after an interruption, and
leaves the rows of inputs and the folders of runs.
"""

import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import ViewType

from study.errors import TrackingError, printable
from study.metrics.reports import TrialStatus
from study.tracking import tags
from study.tracking.server.client import Client
from study.tracking.server.locations import (
    ARTIFACTS,
    ID,
    check_not_moved,
    database_file,
    local_folder,
)

_OF_SERVER = "mlflow-artifacts:"
# Seconds for which another process may hold the database.
_PATIENCE = 30.0


@dataclass(frozen=True)
class Holdings:
    """What MLflow has of a study.

    Attributes:
        run_id: of the study's own run.
        storage: folder or bucket where Tune keeps its state.
        is_running: whether it is marked as running.
        database: SQLite database to delete everything from for good; None for a server's study.
        n_runs: number of runs: of trials, of projections, and the study's own.
        model_ids: of its models; in a SQLite database also those that MLflow's own deletion left.
        locations: of the artifacts of each run and model.
        versions: of its models in the model registry, as "name version".
    """

    name: str
    experiment_id: str
    run_id: str
    storage: str
    is_running: bool
    database: Path | None
    n_runs: int
    model_ids: tuple[str, ...]
    locations: tuple[str, ...]
    versions: tuple[str, ...]


def holdings(client: Client, name: str) -> Holdings | None:
    """What MLflow has of a study; None if it has nothing. In a SQLite database, that includes what
    MLflow's own deletion, or an interrupted `delete`, left behind.

    Raises:
        TrackingError: if MLflow refuses or cannot be reached, or the artifacts of a SQLite database
            were moved or are not where MLflow puts them, and so cannot be deleted from here.
    """
    if client.is_absent():
        return None
    experiment = client.call(client.api.get_experiment_by_name, name)
    database = database_file(client.tracking_uri)
    if experiment is None or (database is None and experiment.lifecycle_stage != "active"):
        return None
    experiment_id = experiment.experiment_id
    runs = list(client.search_runs([experiment_id], "", ViewType.ALL))
    own = next((run for run in runs if run.data.tags.get(tags.KIND) == tags.STUDY), None)
    if own is None:
        return None  # an experiment of somebody else
    if database is None:
        found = client.pages(client.api.search_logged_models, [experiment_id])
        models = {model.model_id: model.artifact_location for model in found}
    else:
        with closing(sqlite3.connect(database, timeout=_PATIENCE)) as connection:
            sql = "SELECT model_id, artifact_location FROM logged_models WHERE experiment_id = ?"
            models = dict(connection.execute(sql, [int(experiment_id)]).fetchall())
    locations = {run.info.run_id: str(run.info.artifact_uri) for run in runs} | models
    if database is not None:
        check_not_moved(client.tracking_uri, name, own.info.artifact_uri)
        _check(locations)
    ids = {run.info.run_id for run in runs}
    versions = client.pages(client.api.search_model_versions)
    return Holdings(
        name=name,
        experiment_id=experiment_id,
        run_id=own.info.run_id,
        storage=own.data.tags.get(tags.STORAGE, ""),
        is_running=own.data.tags.get(tags.STATE) == TrialStatus.RUNNING,
        database=database,
        n_runs=len(runs),
        model_ids=tuple(models),
        locations=tuple(locations.values()),
        versions=tuple(f"{v.name} {v.version}" for v in versions if v.run_id in ids),
    )


def _check(locations: Mapping[str, str]) -> None:
    """Check that artifacts (id of a run or model -> location) can be deleted from here, and nothing
    else with them: a database may come from anybody. Each folder must be one that MLflow makes, for
    this very run or model."""
    for owner, location in locations.items():
        if location.startswith(_OF_SERVER):
            raise TrackingError(
                "it must be the address of the server that keeps the artifacts of this study, but "
                f"is its database; they are in {printable(location)}",
                key="tracking_uri",
            )
        folder = local_folder(location)
        parts = () if folder is None else folder.parts
        below = (*(("models",) if owner.startswith("m-") else ()), owner, "artifacts")
        is_made_by_mlflow = (
            ID.fullmatch(owner) is not None
            and parts[-len(below) :] == below
            and ARTIFACTS in parts[: -len(below)]
            and ".." not in parts
        )
        if not is_made_by_mlflow:
            raise TrackingError(
                "its artifacts must be in folders that MLflow made for their run or model, below "
                f"{ARTIFACTS}, but are in {printable(location)}",
                key="study",
            )


def delete(client: Client, study: Holdings) -> None:
    """Delete a study from MLflow, and what an earlier call left. In a SQLite database it is deleted
    for good, with its artifacts; a server keeps it in its trash until `mlflow gc` is run. Raises
    TrackingError if MLflow refuses or cannot be reached, or a file cannot be deleted."""
    if study.database is None:
        for model_id in study.model_ids:
            client.call(client.api.delete_logged_model, model_id)
        # With all of its runs. Last, since the study is found by it.
        client.call(client.api.delete_experiment, study.experiment_id)
        return
    # Files first: the rows say where they are.
    for location in study.locations:
        client.call(_delete_artifacts, location)
    try:
        with closing(sqlite3.connect(study.database, timeout=_PATIENCE)) as connection:
            _delete_rows(connection, study.experiment_id)
            connection.execute("VACUUM")
    except sqlite3.Error as error:
        raise TrackingError(f"MLflow at {client.tracking_uri}: {error}") from error


def _delete_artifacts(location: str) -> None:
    artifacts = local_folder(location)
    assert artifacts is not None  # checked by `_check`
    if artifacts.parent.exists():
        shutil.rmtree(artifacts.parent)
    # The experiment's own folders, once they are empty.
    for folder in artifacts.parents[1:3]:
        is_below = ARTIFACTS in folder.parent.parts
        if is_below and folder.exists() and not any(folder.iterdir()):
            folder.rmdir()


def _delete_rows(connection: sqlite3.Connection, experiment_id: str) -> None:
    """Delete an experiment and every row below it."""
    sql = (
        "SELECT tables.name FROM sqlite_master tables JOIN pragma_table_info(tables.name) columns "
        "WHERE tables.type = 'table' AND columns.name = ?"
    )
    of_run, of_experiment = (
        [table for (table,) in connection.execute(sql, [column]) if table != "runs"]
        for column in ("run_uuid", "experiment_id")
    )
    of_runs = "(SELECT run_uuid FROM runs WHERE experiment_id = :experiment)"
    inputs = f"destination_id IN {of_runs} OR source_id IN {of_runs}"
    conditions = [
        # Inputs and outputs of a run, which no key binds to it.
        ("input_tags", f"input_uuid IN (SELECT input_uuid FROM inputs WHERE {inputs})"),
        ("inputs", inputs),
        *((table, f"run_uuid IN {of_runs}") for table in of_run),
        # Last, since the conditions above read it.
        *((table, "experiment_id = :experiment") for table in [*of_experiment, "runs"]),
    ]
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for table, condition in conditions:
            sql = f"DELETE FROM {table} WHERE {condition}"
            connection.execute(sql, {"experiment": int(experiment_id)})
