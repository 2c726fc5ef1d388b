"""The gate of all files: only where it lets through is anything read, written or asked."""

import os
import shutil
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from mlflow.entities import LoggedModel, Run
from typer.testing import CliRunner

from study import report, verify
from study.errors import LocationError, TrackingError
from study.metrics.reports import TrialStatus
from study.tracking import stored_model
from study.tracking.records import Records
from study.tracking.server import files
from study.tracking.server.client import Client
from study.tracking.server.files import allowed
from study.tracking.study_record import StudyRecord
from study.tracking.tracker import Tracker
from tests.support.studies import epoch_report
from tests.support.tracked import start

RUN, MODEL = "0123456789abcdef" * 2, "m-" + "0123456789abcdef" * 2
DATABASE, SERVER = "sqlite:////home/me/mlflow.db", "http://127.0.0.1:5000"
HOST = "127.0.0.1:9"
"""Of a host that somebody else's database names."""
POSTGRESQL = "postgresql://127.0.0.1/mlflow"
OWN = f"/home/me/mlruns/digits/{RUN}/artifacts"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The hosts that are asked, while the user's passwords and keys are in the environment."""
    hosts = list[object]()

    def refused(*address: object, **_: object) -> None:
        hosts.append(address)
        raise OSError("refused")

    for owner, name in ((socket, "getaddrinfo"), (socket.socket, "connect")):
        monkeypatch.setattr(owner, name, refused)
    for name, value in {
        "MLFLOW_TRACKING_USERNAME": "me",
        "MLFLOW_TRACKING_PASSWORD": "hunter2",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "MLFLOW_S3_ENDPOINT_URL": f"http://{HOST}",
        "AWS_ENDPOINT_URL": f"http://{HOST}",
    }.items():
        monkeypatch.setenv(name, value)
    return hosts


@pytest.fixture
def of_trial(tracker: Tracker, study: StudyRecord) -> tuple[Run, LoggedModel]:
    """The run and the model of a trial that counts as completed."""
    start(tracker, study)
    tracker.log_reports("0000", [epoch_report(epoch) for epoch in range(1, 4)])
    tracker.end_trial("0000", TrialStatus.COMPLETED)
    (trial,) = Records(tracker.client).trials(study)
    api = tracker.client.api
    model = api.create_logged_model(study.experiment_id, "model", source_run_id=trial.run_id)
    tracker.client.log(trial.run_id, tags={"study.model_files": "{}"})
    return api.get_run(trial.run_id), model


def relocated(tracker: Tracker, location: str) -> tuple[Client, Run, LoggedModel]:
    """A client, the run and the model, which a database says have their files there."""
    database = tracker.client.tracking_uri.removeprefix("sqlite:///")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE runs SET artifact_uri = ?", [location])
        connection.execute("UPDATE logged_models SET artifact_location = ?", [location])
        ((run_id,),) = connection.execute(
            "SELECT run_uuid FROM tags WHERE key = 'study.kind' AND value = 'trial'"
        )
        ((model_id,),) = connection.execute("SELECT model_id FROM logged_models")
    client = Client(tracker.client.tracking_uri, max_retries=0)
    return client, client.api.get_run(run_id), client.api.get_logged_model(model_id)


ELSEWHERE = (
    # As MLflow's own server has it, and so MLflow's client asks there.
    "http://HOST/api/2.0/mlflow-artifacts/artifacts/1/x", "http://HOST/x/artifacts",
    "https://HOST/x/artifacts", "HTTP://HOST/x/artifacts", " http://HOST/x/artifacts",
    "http://me:hunter2@HOST/x", "mlflow-artifacts://HOST/x/artifacts",
    "mlflow-artifacts:/x/artifacts", "s3://bucket/x/artifacts",
    "s3://bucket@HOST/x/artifacts", "r2://bucket@HOST/x/artifacts",
    "b2://bucket@HOST/x/artifacts", "gs://bucket/x/artifacts",
    "wasbs://container@HOST/x/artifacts", "abfss://container@HOST/x/artifacts",
    "ftp://HOST/x/artifacts", "sftp://HOST/x/artifacts", "hdfs://HOST/x/artifacts",
    "viewfs://HOST/x/artifacts", "dbfs:/x/artifacts", "dbfs://profile@HOST/x/artifacts",
    "runs:/RUN/x", "models:/name/1", "file://HOST/RUN/artifacts", "//HOST/RUN/../x",
    "unknown://HOST/x", "http://[x", "/etc", "file:///etc", "/RUN/artifacts/..",
    "/RUN/artifacts/../../etc", "file:///RUN/artifacts/%2e%2e/%2e%2e/etc",
    "/RUN/artifacts/%2e%2e/%2e%2e/etc", "/RUN/artifacts\0/etc", "/RUN/artifacts%00", "",
)  # fmt: skip
"""HOST: of a host, RUN: the id of the run, in places that are not allowed."""


def attempts(
    client: Client, run: Run, model: LoggedModel, folder: Path
) -> list[Callable[[], object]]:
    """Every way in which files are read or written."""
    records, run_id = Records(client), run.info.run_id
    return [
        partial(records.artifacts, run_id),
        partial(records.artifact, run_id, "network.json"),
        partial(stored_model.data_digest, records, run_id),
        partial(files.log_text, client, run, "mine", "text.txt"),
        partial(files.log_file, client, run, folder / "text.txt"),
        partial(files.log_model, client, model, folder),
        partial(files.fetch_model, client, model.model_id, folder),
    ]


@pytest.mark.slow
def test_nobody_is_asked_and_nothing_read_or_written_elsewhere(
    tracker: Tracker,
    of_trial: tuple[Run, LoggedModel],
    asked: list[object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "walk", lambda *_: pytest.fail("files were listed"))
    (tmp_path / "text.txt").write_text("mine")
    for place in ELSEWHERE:
        location = place.replace("HOST", HOST).replace("RUN", of_trial[0].info.run_id)
        client, run, model = relocated(tracker, location)
        for attempt in attempts(client, run, model, tmp_path):
            with pytest.raises(LocationError) as error:
                attempt()
            line = str(error.value)
            assert run.info.run_id in line or model.model_id in line
            assert line.isprintable()
    assert asked == []


@pytest.mark.parametrize("place", [ELSEWHERE[0], "mlflow-artifacts://HOST/x", "/etc"])
def test_report_and_verify_say_where_files_are_not_read(
    place: str,
    tracker: Tracker,
    of_trial: tuple[Run, LoggedModel],
    asked: list[object],
    tmp_path: Path,
) -> None:
    relocated(tracker, place.replace("HOST", HOST))
    page = tmp_path / "page.html"
    for app, arguments in (
        (report.app, ["tiny"]),
        (report.app, ["tiny", "--html", str(page)]),
        (verify.app, ["tiny/0000"]),
    ):
        options = ["--tracking-uri", tracker.client.tracking_uri]
        done = CliRunner().invoke(app, [*arguments, *options])
        assert (done.exit_code, done.stdout) == (2, ""), done.output
        assert done.stderr.startswith("error: the files of ")
        assert done.stderr.count("\n") == 1
    assert asked == []
    assert not page.exists()


@pytest.mark.parametrize("location", ELSEWHERE)
@pytest.mark.parametrize("uri", [DATABASE, POSTGRESQL, SERVER])
def test_a_place_elsewhere_is_refused_for_every_kind_of_records(uri: str, location: str) -> None:
    place = location.replace("HOST", "example.org").replace("RUN", RUN)
    if (uri, location) == (SERVER, "mlflow-artifacts:/x/artifacts"):
        assert allowed(uri, RUN, place) == place
        return
    with pytest.raises(LocationError, match=RUN):
        allowed(uri, RUN, place)


@pytest.mark.parametrize(
    ("owner", "location"),
    [
        (RUN, f"/home/me/mlruns/digits/{RUN}"),
        (RUN, f"/home/me/mlruns/digits/{RUN}/artifacts/more"),
        (RUN, f"/home/me/mlruns/digits/{RUN}/artifacts/../files"),
        ("me", "/home/me/artifacts"),
        ("", "/home/me/artifacts"),
        ("..", "/home/me/../artifacts"),
        (RUN.upper(), f"/home/me/mlruns/{RUN.upper()}/artifacts"),
        (RUN + "\n", f"/home/me/mlruns/{RUN}\n/artifacts"),
    ],
)
def test_a_folder_is_one_that_mlflow_makes(owner: str, location: str) -> None:
    with pytest.raises(LocationError):
        allowed(DATABASE, owner, location)


@pytest.mark.parametrize("uri", [DATABASE, POSTGRESQL, SERVER])
@pytest.mark.parametrize("before", ["", "file://", "file://localhost"])
def test_folders_that_mlflow_makes_are_allowed(uri: str, before: str) -> None:
    assert allowed(uri, RUN, before + OWN) == f"file://{OWN}"
    of_model = f"/home/me/mlruns/digits/models/{MODEL}/artifacts"
    assert allowed(uri, MODEL, before + of_model) == f"file://{of_model}"


@pytest.mark.parametrize("server", [SERVER, "https://mlflow.example.org", f"{SERVER}/prefix"])
def test_a_server_gives_its_own_files_and_nobody_else_s(server: str) -> None:
    netloc = server.split("/")[2]
    api = "/api/2.0/mlflow-artifacts/artifacts/1/x"
    scheme = server.partition(":")[0]
    own = (
        "mlflow-artifacts:/1/x", f"mlflow-artifacts://{netloc}/1/x", f"{scheme}://{netloc}{api}",
    )  # fmt: skip
    for location in own:
        assert allowed(server, RUN, location) == location
    for location in (
        f"mlflow-artifacts://{netloc}0/1/x",
        f"mlflow-artifacts://me@{netloc}/1/x",
        f"{scheme}://{netloc}@example.org{api}",
        f"{scheme}://{netloc}\\@example.org{api}",
        f"{scheme}://example.org/{netloc}{api}",
        f"{'http' if scheme == 'https' else 'https'}://{netloc}{api}",
        f"{scheme}://{netloc}.example.org{api}",
    ):
        with pytest.raises(LocationError):
            allowed(server, RUN, location)
    for uri in (DATABASE, POSTGRESQL):
        with pytest.raises(LocationError, match="through the server that keeps them"):
            allowed(uri, RUN, own[0])


@pytest.mark.parametrize(
    "named", ["s3://bucket", "s3://bucket/", "s3://bucket/a", "s3://bucket/a/"]
)
def test_a_bucket_is_read_once_the_user_names_it(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = f"s3://bucket/a/1/{RUN}/artifacts"
    for uri in (DATABASE, POSTGRESQL, SERVER):
        monkeypatch.delenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", raising=False)
        with pytest.raises(LocationError, match="below MLFLOW_DEFAULT_ARTIFACT_ROOT"):
            allowed(uri, RUN, location)
        monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", named)
        assert allowed(uri, RUN, location) == location
        for other in (
            "s3://bucket2/a/x",
            "s3://other/a/x",
            "gs://bucket/a/x",
            "s3://key@bucket/a/x",
            "s3://bucket/a/../b",
            "http://bucket/a/x",
            *(["s3://bucket/ab/x", "s3://bucket/b"] if "/a" in named else []),
        ):
            with pytest.raises(LocationError):
                allowed(uri, RUN, other)


@pytest.mark.parametrize("named", ["", "/", "mlflow-artifacts:/", "s3:", "s3:///a", "http://[x"])
def test_what_names_no_host_or_bucket_allows_none(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", named)
    for location in ELSEWHERE:
        with pytest.raises(LocationError):
            allowed(DATABASE, RUN, location)


def test_a_link_leads_nowhere_else(
    tracker: Tracker, of_trial: tuple[Run, LoggedModel], tmp_path: Path
) -> None:
    """Neither in the place of the folder, nor of a folder above, nor of a file."""
    client, (run, _) = tracker.client, of_trial
    folder, run_id = Path(run.info.artifact_uri), run.info.run_id
    files.log_text(client, run, "{}", "network.json")
    assert Records(client).artifact(run_id, "network.json") == b"{}"
    secret = tmp_path / "secret" / "network.json"
    secret.parent.mkdir()
    secret.write_text("secret")
    (folder / "network.json").unlink()
    (folder / "network.json").symlink_to(secret)
    with pytest.raises(TrackingError, match="outside the artifact directory"):
        Records(client).artifact(run_id, "network.json")
    shutil.rmtree(folder)
    folder.symlink_to(secret.parent)
    with pytest.raises(LocationError):
        Records(client).artifacts(run_id)
    with pytest.raises(LocationError):
        files.log_text(client, run, "", "network.json")
    # A disk with more room is a link of the user's own.
    folder.unlink()
    folder.mkdir()
    (folder / "network.json").write_text("moved")
    (tmp_path / "mlruns").rename(tmp_path / "larger")
    (tmp_path / "mlruns").symlink_to(tmp_path / "larger")
    assert Records(client).artifact(run_id, "network.json") == b"moved"
    assert secret.read_text() == "secret"
    assert [path.name for path in secret.parent.iterdir()] == ["network.json"]
