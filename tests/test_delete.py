"""The command on copies of a real study: gone for good, nothing else touched, or nothing at all."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow.cli
import pytest
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from study.delete import app
from study.execution.files import storage
from study.metrics.reports import TrialStatus
from study.tracking import removal, studies
from study.tracking.records import Records
from study.tracking.server.client import Client
from tests.support.commands import printed, refused
from tests.support.launched import Books, twin
from tests.support.served import served
from tests.support.studies import tiny


@pytest.fixture
def folder(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a finished study, and one besides that somebody put into MLflow's trash."""
    folder = twin(finished)
    monkeypatch.chdir(folder)
    client = Client(f"sqlite:///{folder}/mlflow.db")
    other = studies.create(
        client, replace(tiny(), name="other"), "/x", f"{folder}/ray_results/other"
    )
    client.api.create_logged_model(other.experiment_id, "model", source_run_id=other.run_id)
    client.api.delete_experiment(other.experiment_id)
    return folder


def rows(folder: Path) -> dict[str, int]:
    """Table -> how many rows it has, of those that have any."""
    books = Books(folder)
    tables = [
        name for (name,) in books.query("SELECT name FROM sqlite_master WHERE type = 'table'")
    ]
    counts = {table: books.query(f"SELECT COUNT(*) FROM {table}")[0][0] for table in tables}
    return {table: count for table, count in counts.items() if count}


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")} - {"mlflow.db"}


def tag(folder: Path, key: str, value: str) -> None:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        sql = "UPDATE tags SET value = ? WHERE key = ? AND run_uuid IN (SELECT run_uuid FROM tags "
        sql += "WHERE key = 'study.kind' AND value = 'study')"
        assert database.execute(sql, [value, key]).rowcount > 0


def test_all_of_a_study_is_gone_and_nothing_else(
    folder: Path, finished: Path, empty_database: Path
) -> None:
    of_finished = files(finished)
    size = (folder / "mlflow.db").stat().st_size
    out = printed(app, "tiny", "--yes")
    n_runs = len(Books(finished).runs(("study", "trial", "projection")))
    assert (
        f"tiny: {n_runs} runs and {n_runs - 1} models in MLflow\n{folder}/ray_results/tiny\n" in out
    )
    assert out.endswith("deleted: tiny\n")
    # Nothing is left but the other study, which is where it was.
    assert not list(folder.glob("ray_results/*"))
    assert [path.name for path in folder.glob("mlruns/*")] == ["other"]
    left = rows(folder)
    with_other = {"runs": 1, "logged_models": 1, "experiments": 2, "tags": left["tags"]}
    assert {table: left[table] for table in with_other} == with_other
    assert left.keys() - rows(empty_database.parent).keys() == {
        "runs", "logged_models", "tags", "experiment_tags",
    }  # fmt: skip
    assert (folder / "mlflow.db").stat().st_size < size
    assert files(finished) == of_finished
    client = Client(f"sqlite:///{folder}/mlflow.db")
    assert not Records(client).is_taken("tiny")
    studies.create(client, tiny(), "/x", "/x/tiny")


def test_it_says_what_and_asks(folder: Path) -> None:
    before = files(folder), rows(folder)
    for given in ("n\n", ""):
        out = printed(app, "tiny", exit_code=130, given=given)
        assert "Delete all of it for good? [y/N]" in out
        assert out.endswith("Nothing was deleted.\n")
    assert (files(folder), rows(folder)) == before
    assert "deleted: tiny" in printed(app, "tiny", given="y\n")


def test_versions_in_the_registry_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    model = Books(folder).query("SELECT model_id, source_run_id FROM logged_models LIMIT 1")[0]
    MlflowClient().create_registered_model("mine")
    MlflowClient().create_model_version("mine", f"models:/{model[0]}", model[1], model_id=model[0])
    assert "whose models are deleted with it: mine 1" in printed(
        app, "tiny", exit_code=130, given="n\n"
    )


@pytest.mark.parametrize("fails", ["storage", "artifacts", "rows"])
def test_typed_again_it_finishes(folder: Path, fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something breaks behind the storage, in the middle of the artifacts, or before the rows."""
    with monkeypatch.context() as patch:
        if fails == "storage":
            patch.setattr(removal, "delete", broken(1, removal.delete))
        elif fails == "artifacts":
            patch.setattr(removal, "_delete_artifacts", broken(4, removal._delete_artifacts))
        else:
            patch.setattr(removal, "_delete_rows", broken(1, removal._delete_rows))
        done = CliRunner().invoke(app, ["tiny", "--yes"])
        assert done.exit_code != 0
    assert not (folder / "ray_results" / "tiny").exists()
    assert "ray_results/tiny is not there" in printed(app, "tiny", "--yes")
    assert not (folder / "mlruns" / "tiny").exists()
    assert rows(folder)["experiments"] == 2


def broken(at: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that cannot at its n-th call."""
    calls = []

    def call(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == at:
            raise OSError("no more")
        return function(*arguments)

    return call


def test_what_mlflow_itself_deleted_is_deleted_for_good(folder: Path) -> None:
    api = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = api.get_experiment_by_name("tiny")
    assert experiment is not None
    api.delete_experiment(experiment.experiment_id)
    printed(app, "tiny", "--yes")
    assert not Records(Client(f"sqlite:///{folder}/mlflow.db")).is_taken("tiny")


def test_what_is_not_there_or_not_ours_is_refused(folder: Path) -> None:
    MlflowClient(f"sqlite:///{folder}/mlflow.db").create_experiment("mine")
    before = files(folder), rows(folder)
    for name in ("nothing", "mine", "Default"):
        assert f"there is no study '{name}'" in refused(app, name, "--yes")
    assert "there is no study 'x'" in refused(
        app, "x", "--yes", "--tracking-uri", f"sqlite:///{folder}/no.db"
    )
    assert (files(folder), rows(folder)) == before


def test_a_study_that_runs_is_refused(folder: Path) -> None:
    with storage.locked(f"{folder}/ray_results/tiny"):
        before = files(folder), rows(folder)
        assert refused(app, "tiny", "--yes").startswith(
            "error: a study must not be running, but the one"
        )
    assert (files(folder), rows(folder)) == before
    # One whose driver died is only marked so.
    tag(folder, "study.state", TrialStatus.RUNNING)
    assert "deleted: tiny" in printed(app, "tiny", "--yes")


def test_a_storage_that_is_not_where_mlflow_says_is_refused(folder: Path) -> None:
    victim = folder / "elsewhere" / "tiny"
    victim.mkdir(parents=True)
    before = files(folder), rows(folder)
    assert "--storage-path: it must be where tiny is kept" in refused(
        app, "tiny", "--yes", "--storage-path", str(folder / "elsewhere")
    )
    tag(folder, "study.storage", str(victim))
    assert "which MLflow says is in" in refused(app, "tiny", "--yes")
    assert (files(folder), rows(folder)) == before


def test_artifacts_that_are_no_run_s_are_refused(folder: Path) -> None:
    """A database can name any folder."""
    (folder / "home").mkdir()
    ((own,),) = Books(folder).query("SELECT run_uuid FROM runs WHERE name = 'tiny'")
    ((other,),) = Books(folder).query("SELECT run_uuid FROM runs WHERE name = 'other'")
    for place in (
        f"{folder}/home",
        f"{folder}/home/artifacts",
        f"{folder}/home/{own}/artifacts",
        f"file://{folder}/home#/mlruns/{own}/artifacts",
        f"file://{folder}/home?/mlruns/{own}/artifacts",
        f"{folder}/mlruns/../home/{own}/artifacts",
        f"{folder}/mlruns/other/{other}/artifacts",
        f"s3://bucket/mlruns/{own}/artifacts",
        "mlflow-artifacts:/1/x/artifacts",
    ):
        with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
            database.execute("UPDATE runs SET artifact_uri = ? WHERE name = 'tiny'", [place])
        before = files(folder), rows(folder)
        assert place in refused(app, "tiny", "--yes")
        assert (files(folder), rows(folder)) == before


def test_a_study_in_a_bucket_that_is_marked_as_running_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag(folder, "study.state", TrialStatus.RUNNING)
    tag(folder, "study.storage", "s3://bucket/tiny")
    monkeypatch.setattr(storage, "exists", lambda _: True)
    assert "STUDY: it must not be running, but tiny is marked so" in refused(
        app, "tiny", "--yes", "--storage-path", "s3://bucket"
    )


def test_of_a_server_it_says_what_its_owner_has_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And that deletes the study for good, and nothing else of what is in the trash."""
    client = Client(f"sqlite:///{folder}/mlflow.db")
    trashed = client.api.create_run(client.api.create_experiment("active")).info.run_id
    client.api.delete_run(trashed)
    other, tiny = (client.api.get_experiment_by_name(name) for name in ("other", "tiny"))
    (model,) = client.api.search_logged_models([other.experiment_id])
    client.api.delete_logged_model(model.model_id)
    with served(folder) as uri:
        out = printed(app, "tiny", "--yes", "--tracking-uri", uri)
        assert not (folder / "ray_results" / "tiny").exists()
        assert "there is no study 'tiny'" in refused(app, "tiny", "--yes", "--tracking-uri", uri)
        command = out.partition("until its owner runs: ")[2]
        command = command.replace("ITS_DATABASE", f"sqlite:///{folder}/mlflow.db")
        assert command.startswith("mlflow gc")
        # In this process, which has imported MLflow; the address is for this test alone.
        monkeypatch.setattr(
            mlflow.cli,
            "set_tracking_uri",
            lambda uri: monkeypatch.setenv("MLFLOW_TRACKING_URI", uri),
        )
        mlflow.cli.cli.main(command.split()[1:], "mlflow", standalone_mode=False)
    books = Books(folder)
    for table in ("runs", "logged_models"):
        counts = dict(books.query(f"SELECT experiment_id, COUNT(*) FROM {table} GROUP BY 1"))
        assert int(tiny.experiment_id) not in counts
        assert counts[int(other.experiment_id)] == 1
    assert books.query(f"SELECT COUNT(*) FROM runs WHERE run_uuid = '{trashed}'") == [(1,)]
    assert not [path for path in (folder / "mlruns" / "tiny").rglob("*") if path.is_file()]
