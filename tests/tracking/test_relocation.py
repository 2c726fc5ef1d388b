"""Databases of MLflow that are copied with what lies beside them, and looked into there."""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from study.config.trial import TrialConfig
from study.errors import TrackingError
from study.metrics.reports import TrialStatus
from study.tracking import studies
from study.tracking.client import Client
from study.tracking.records import Records, StudyRecord
from study.tracking.relocation import artifact_location, database_file, relocate
from study.tracking.runs import Runs
from study.tracking.settings import dataset
from study.tracking.tracker import Tracker
from tests.support.studies import tiny


@pytest.fixture
def first(tmp_path: Path, tracker: Tracker) -> Path:
    """A folder with a database and all that a study of one trial left beside it."""
    config = tiny(data={"root": str(tmp_path / "data")})
    for name in ("data", "ray_results/tiny"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "tiny.yaml").write_text("")
    record = studies.create(
        tracker.client, config, str(tmp_path / "tiny.yaml"), str(tmp_path / "ray_results/tiny")
    )
    tracker.open_study(record)
    sample = {"coeff": 0.5, "n_power_iterations": 1, "dropout": 0.1}
    tracker.start_trial("0000", sample, config.resolve(sample, seed=0))
    run = MlflowClient(tracker.client.tracking_uri).create_logged_model(
        record.experiment_id, "model", source_run_id=tracker._trials["0000"].run_id
    )
    assert run.artifact_location.startswith(str(tmp_path))
    studies.close(tracker.client, record, TrialStatus.INTERRUPTED)
    return tmp_path


@pytest.fixture
def copy(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(first, tmp_path_factory.mktemp("second") / "copy"))


def uri(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def study(folder: Path) -> StudyRecord:
    record = Records(Client(uri(folder))).find_study("tiny")
    assert record is not None
    return record


def edit(folder: Path, sql: str, *values: str) -> None:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        assert database.execute(sql, values).rowcount > 0


def strings(folder: Path) -> set[str]:
    """Every text in the database."""
    found = set[str]()
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for row in database.execute(f"SELECT * FROM {table}"):
                found |= {value for value in row if isinstance(value, str)}
    return found


def test_a_new_study_keeps_its_artifacts_beside_its_database(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("elsewhere", "records"):
        (tmp_path / name).mkdir()
    shutil.copy(empty_database, tmp_path / "records" / "mlflow.db")
    monkeypatch.chdir(tmp_path / "elsewhere")
    record = studies.create(Client("sqlite:///../records/mlflow.db"), tiny(), "/x", "/x/tiny")
    assert (tmp_path / "records" / "mlruns" / "tiny" / record.run_id / "artifacts").is_dir()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_addresses_that_are_no_files_are_none() -> None:
    for address in ("http://x:5000", "postgresql://x/y", "sqlite://", "sqlite:///"):
        assert database_file(address) is None
        assert artifact_location(address, "tiny") is None


def test_every_path_below_the_old_folder_is_one_below_the_new(first: Path, copy: Path) -> None:
    # Beside the study, which says nothing of them, MLflow's own experiment and a user's data set.
    (moved,), left = relocate(copy / "mlflow.db")
    assert (moved.name, moved.old, moved.new, left) == ("tiny", first, copy, [])
    record = study(copy)
    assert record.storage == f"{copy}/ray_results/tiny"
    assert record.source == f"{copy}/tiny.yaml"
    assert record.config.data.root == f"{copy}/data"
    texts = "\n".join(strings(copy))
    # MLflow's experiment "Default" is none of ours.
    assert texts.count(str(first)) == texts.count(f"{first}/mlruns/0") <= 1
    api = MlflowClient(uri(copy))
    (logged,) = api.search_logged_models([record.experiment_id])
    assert logged.artifact_location.startswith(f"{copy}/mlruns/tiny/models/")
    for run in api.search_runs([record.experiment_id]):
        assert run.info.artifact_uri == f"{copy}/mlruns/tiny/{run.info.run_id}/artifacts"
    assert relocate(copy / "mlflow.db") == ([], [])
    # The first is as it was.
    assert relocate(first / "mlflow.db") == ([], [])
    assert study(first).storage == f"{first}/ray_results/tiny"


def test_a_trial_goes_on_with_the_moved_data_in_its_own_run(copy: Path) -> None:
    """MLflow refuses a parameter that has another value, and a second data set would be there."""
    relocate(copy / "mlflow.db")
    tracker, record = Tracker(Client(uri(copy))), study(copy)
    tracker.open_study(record)
    (trial,) = Records(tracker.client).trials(record)
    config: TrialConfig = record.config.resolve(trial.sample, seed=0)
    tracker.start_trial("0000", trial.sample, config)
    (again,) = Records(tracker.client).trials(record)
    assert again.run_id == trial.run_id
    run = Runs(tracker.client).get(again.run_id)
    assert run.inputs is not None
    (given,) = run.inputs.dataset_inputs
    assert given.dataset.digest == dataset(config.data).dataset.digest


def test_what_was_not_copied_along_stays_where_it_is(first: Path, copy: Path) -> None:
    for name in ("data", "ray_results"):
        shutil.rmtree(copy / name)
    relocate(copy / "mlflow.db")
    record = study(copy)
    assert record.storage == f"{first}/ray_results/tiny"
    assert record.config.data.root == f"{first}/data"
    assert record.source == f"{copy}/tiny.yaml"


def test_a_database_alone_is_left_as_it_is(first: Path, copy: Path) -> None:
    shutil.rmtree(copy / "mlruns")
    before = strings(copy)
    assert relocate(copy / "mlflow.db") == ([], [])
    assert strings(copy) == before


@pytest.mark.parametrize(
    "place", ["s3://bucket/mlruns/tiny", "mlflow-artifacts:/tiny", "/elsewhere/files/tiny"]
)
def test_artifacts_in_a_bucket_or_elsewhere_stay(copy: Path, place: str) -> None:
    edit(copy, "UPDATE experiments SET artifact_location = ? WHERE name = 'tiny'", place)
    before = strings(copy)
    assert relocate(copy / "mlflow.db") == ([], [])
    assert strings(copy) == before


def test_a_storage_in_a_bucket_stays(copy: Path) -> None:
    edit(copy, "UPDATE tags SET value = 's3://b/tiny' WHERE key = 'study.storage'")
    assert len(relocate(copy / "mlflow.db")[0]) == 1
    assert study(copy).storage == "s3://b/tiny"


def test_a_folder_with_two_names_is_one(first: Path, copy: Path) -> None:
    """As after a move that left a link behind, or by way of another mount."""
    shutil.rmtree(first)
    first.symlink_to(copy)
    before = strings(copy)
    assert relocate(copy / "mlflow.db") == ([], [])
    assert strings(copy) == before


def test_a_study_that_may_be_running_elsewhere_is_left_unless_it_is_resumed(
    first: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(copy, "UPDATE tags SET value = 'running' WHERE key = 'study.state'")
    before = strings(copy)
    client = Client(uri(copy))
    client.relocate()
    assert "--resume --name tiny goes on with it here" in capsys.readouterr().err
    assert strings(copy) == before
    client.relocate(resumed="other")
    assert strings(copy) == before
    client.relocate(resumed="tiny")
    assert study(copy).storage == f"{copy}/ray_results/tiny"


def test_studies_of_earlier_versions_move_too(first: Path, copy: Path) -> None:
    """MLflow named their folders by the experiment's number, below the working directory."""
    (copy / "mlruns" / "tiny").rename(copy / "mlruns" / "1")
    for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
        edit(copy, f"UPDATE {table} SET {column} = replace({column}, '/tiny', '/1')")
    (moved,), _ = relocate(copy / "mlflow.db")
    assert moved.old == first
    record = study(copy)
    assert b"tiny" in Records(Client(uri(copy))).artifact(record.run_id, "study.yaml")


def test_runs_and_data_sets_of_users_are_no_trouble(copy: Path) -> None:
    edit(copy, "UPDATE datasets SET dataset_source = 'https://x/y.csv'")
    assert len(relocate(copy / "mlflow.db")[0]) == 1
    assert "https://x/y.csv" in strings(copy)


def test_a_database_that_cannot_be_changed_is_said_and_whole(
    copy: Path,
) -> None:
    before = strings(copy)
    trigger = "BEFORE UPDATE ON tags BEGIN SELECT RAISE(ABORT, 'no room'); END"
    with closing(sqlite3.connect(copy / "mlflow.db")) as database:
        database.execute(f"CREATE TRIGGER full {trigger}")
    with pytest.raises(TrackingError, match=r"^MLflow at sqlite:[^\n]*: no room$"):
        Records(Client(uri(copy))).find_study("tiny")
    assert strings(copy) == before


def test_a_file_that_is_no_database_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("nothing of the kind" * 99)
    with pytest.raises(TrackingError, match=r"^MLflow at sqlite:[^\n]*$"):
        Records(Client(uri(tmp_path))).find_study("tiny")


def test_registered_versions_move_with_the_models(first: Path, copy: Path) -> None:
    api = MlflowClient(uri(copy))
    (logged,) = api.search_logged_models([study(first).experiment_id])
    sources: list[Any] = [f"{logged.artifact_location}", "s3://bucket/model"]
    fields = "name, version, creation_time, last_updated_time, current_stage, status, workspace"
    with closing(sqlite3.connect(copy / "mlflow.db")) as database, database:
        database.execute("INSERT INTO registered_models (name, workspace) VALUES ('m', 'default')")
        for number, source in enumerate(sources, start=1):
            database.execute(
                f"INSERT INTO model_versions ({fields}, source, storage_location, run_id) "
                "VALUES ('m', ?, 0, 0, 'None', 'READY', 'default', ?, ?, ?)",
                [number, source, source, logged.source_run_id],
            )
    relocate(copy / "mlflow.db")
    found = [MlflowClient(uri(copy)).get_model_version_download_uri("m", n) for n in ("1", "2")]
    assert found == [str(sources[0]).replace(str(first), str(copy)), sources[1]]


def test_the_settings_of_a_study_are_the_same_but_for_its_data(first: Path, copy: Path) -> None:
    before = study(first).config
    relocate(copy / "mlflow.db")
    after = study(copy).config
    assert replace(after, data=before.data) == before
    assert json.dumps(after.to_dict()) != json.dumps(before.to_dict())
