import os
import shutil
import socket
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    BAD_REQUEST,
    INVALID_PARAMETER_VALUE,
    TEMPORARILY_UNAVAILABLE,
    UNAUTHENTICATED,
)
from mlflow.store.db import utils
from sqlalchemy import Engine, event
from typer.testing import CliRunner

from study import delete, launch, report, verify
from study.errors import OutageError, TrackingError
from study.tracking.server.client import _RETRIES, Client

MAX_RETRY_COUNT = utils.MAX_RETRY_COUNT
NAME = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


@pytest.mark.parametrize("before", [None, "5"])
def test_calls_of_two_threads_leave_the_environment_as_it_was(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call begins, the second begins and the first ends within it, the second ends."""
    monkeypatch.delenv(NAME, raising=False)
    if before is not None:
        monkeypatch.setenv(NAME, before)
    with ExitStack() as second:
        with _RETRIES.set_to(0):
            assert os.environ.get(NAME) == "0"
            second.enter_context(_RETRIES.set_to(2))
        assert os.environ.get(NAME) == "2"
    assert os.environ.get(NAME) == before


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


@pytest.mark.parametrize(
    # The extra `fast` does not bring psycopg.
    "scheme",
    ["http", pytest.param("postgresql", marks=pytest.mark.slow)],
)
def test_a_server_that_is_down_is_said_in_plain_words(scheme: str) -> None:
    client = Client(f"{scheme}://127.0.0.1:{free_port()}", max_retries=0)
    with pytest.raises(OutageError) as raised:
        client.call(client.api.search_experiments)
    assert str(raised.value) == (
        f"MLflow at {client.tracking_uri}: nothing answers (connection refused)"
    )


def test_an_address_that_is_no_database_is_said_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = list[float]()
    monkeypatch.setattr("mlflow.store.db.utils.time.sleep", waited.append)
    client = Client(f"sqlite:///{tmp_path}")
    with pytest.raises(TrackingError, match="unable to open database file") as raised:
        client.call(client.api.search_experiments)
    assert "\n" not in str(raised.value)
    assert sum(waited) < 5
    assert MAX_RETRY_COUNT == utils.MAX_RETRY_COUNT
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_that_says_what_to_do(
    empty_database: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def may_not_grow(connection: sqlite3.Connection, *_: Any) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # the size that it has, at least

    def fill(client: Client) -> None:
        for number in range(1000):
            client.call(client.api.create_experiment, str(number), tags={"x": 4000 * "x"})

    shutil.copy(empty_database, tmp_path / "mlflow.db")
    event.listen(Engine, "connect", may_not_grow)
    try:
        client = Client(f"sqlite:///{tmp_path}/mlflow.db")
        with pytest.raises(TrackingError) as raised:
            fill(client)
    finally:
        event.remove(Engine, "connect", may_not_grow)
    assert str(raised.value) == (
        f"MLflow at {client.tracking_uri}: the disk is full; free space on it"
    )
    assert type(raised.value) is TrackingError
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_locked_database_is_said_in_plain_words(empty_database: Path, tmp_path: Path) -> None:
    def does_not_wait(connection: sqlite3.Connection, *_: Any) -> None:
        connection.execute("PRAGMA busy_timeout = 0")

    path = shutil.copy(empty_database, tmp_path / "mlflow.db")
    client = Client(f"sqlite:///{path}")
    event.listen(Engine, "connect", does_not_wait)
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(OutageError) as raised:
                client.call(client.api.search_experiments)
    finally:
        event.remove(Engine, "connect", does_not_wait)
    assert str(raised.value) == (
        f"MLflow at sqlite:///{path}: the database is locked by another process; wait for it, or "
        "end it"
    )
    client.call(client.api.search_experiments)


def test_no_message_shows_sql(client: Client) -> None:
    client.call(client.api.create_experiment, "x")
    with pytest.raises(TrackingError, match=r"\(name=x\) already exists") as raised:
        client.call(client.api.create_experiment, "x")
    assert "UNIQUE constraint failed" in str(raised.value.__cause__)
    assert "[" not in str(raised.value)


@pytest.mark.parametrize("table", ["mine (x)", "experiments (x)"])
def test_a_database_of_others_is_refused_and_left_as_it_is(tmp_path: Path, table: str) -> None:
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE TABLE {table}")
        connection.execute(f"INSERT INTO {table.partition(' ')[0]} VALUES (1)")
    content = path.read_bytes()
    for app, arguments in (
        (report.app, []),
        (report.app, ["--list"]),
        (verify.app, ["tiny/0000"]),
        (delete.app, ["tiny", "--yes"]),
        (launch.app, ["digits"]),
    ):
        done = CliRunner().invoke(app, [*arguments, "--tracking-uri", f"sqlite:///{path}"])
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr == (
            f"error: --tracking-uri: must be a database of MLflow, but {path} has the tables of "
            "others\n"
        )
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db"]
    assert path.read_bytes() == content


def of_a_bucket(text: str) -> Exception:
    """As S3's client raises: of its own kinds, which derive from nothing that others catch."""
    kind = type("EndpointConnectionError", (Exception,), {"__module__": "botocore.exceptions"})
    made: Exception = kind(text)
    return made


def test_errors_of_ours_are_not_taken_for_those_of_a_server() -> None:
    def fail() -> None:
        raise TypeError("ours")

    with pytest.raises(TypeError, match="ours"):
        Client("http://x").call(fail)


@pytest.mark.parametrize(
    ("uri", "error", "may_pass"),
    [
        ("http://x", MlflowException("503", TEMPORARILY_UNAVAILABLE), True),
        ("http://x", MlflowException("connection refused"), True),
        ("http://x", MlflowException("its database has gone", BAD_REQUEST), True),
        ("http://x", MlflowException("no password", UNAUTHENTICATED), False),
        ("http://x", MlflowException("what", INVALID_PARAMETER_VALUE), False),
        ("http://x", requests.ConnectionError("reset"), True),
        ("http://x", OSError("this machine's disk"), False),
        ("http://x", of_a_bucket("cannot reach the endpoint"), True),
        ("sqlite:///x", MlflowException("(sqlite3) database is locked"), True),
        ("sqlite:///x", MlflowException("(sqlite3) disk is full", TEMPORARILY_UNAVAILABLE), False),
    ],
)
def test_what_may_pass_is_told_from_what_will_not(
    uri: str, error: Exception, may_pass: bool
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(TrackingError) as raised:
        Client(uri).call(fail)
    assert isinstance(raised.value, OutageError) is may_pass
