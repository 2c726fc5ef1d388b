import shutil
from pathlib import Path

import pytest

from study.errors import TrackingError
from study.tracking import studies
from study.tracking.records import Records
from study.tracking.server.client import Client
from study.tracking.server.locations import (
    artifact_location,
    check_not_moved,
    current,
    database_file,
)
from tests.support.studies import tiny

RUN = "mlruns/tiny/0123/artifacts"


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """Of a database with the files of a run beside it."""
    (tmp_path / "second" / RUN).mkdir(parents=True)
    return f"sqlite:///{tmp_path}/second/mlflow.db"


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


@pytest.mark.parametrize("first", ["", "file://"])
@pytest.mark.parametrize("above", ["first", "mlruns/first"])
def test_a_folder_that_is_gone_is_the_one_beside_the_database(
    first: str, above: str, uri: str, tmp_path: Path
) -> None:
    location = f"{first}{tmp_path}/{above}/{RUN}"
    assert current(uri, location) == str(tmp_path / "second" / RUN)
    with pytest.raises(TrackingError, match=f"begun in {first}{tmp_path}/{above}, and only"):
        check_not_moved(uri, "tiny", location)


@pytest.mark.parametrize(
    "location",
    [
        "s3://bucket/first/" + RUN,
        "mlflow-artifacts:/first/" + RUN,
        "/first/files/tiny/0123/artifacts",  # of no database of ours
        "/first/mlruns/tiny/4567/artifacts",  # not there either
        "/first/mlruns/../mlruns/tiny/0123/artifacts",
    ],
)
def test_other_locations_stay(location: str, uri: str) -> None:
    assert current(uri, location) == location
    check_not_moved(uri, "tiny", location)


def test_a_folder_that_is_there_is_read(uri: str, tmp_path: Path) -> None:
    """But where it is another than the one beside the database, the study is a copy."""
    location = tmp_path / "first" / RUN
    location.mkdir(parents=True)
    assert current(uri, str(location)) == str(location)
    with pytest.raises(TrackingError, match="was begun in"):
        check_not_moved(uri, "tiny", str(location))


def test_a_folder_with_two_names_is_one(uri: str, tmp_path: Path) -> None:
    """As after a move that left a link behind, or by way of another mount."""
    (tmp_path / "first").symlink_to(tmp_path / "second")
    check_not_moved(uri, "tiny", str(tmp_path / "first" / RUN))


def test_a_file_that_is_no_database_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("nothing of the kind" * 99)
    with pytest.raises(TrackingError, match=r"^MLflow at sqlite:[^\n]*$"):
        Records(Client(f"sqlite:///{tmp_path}/mlflow.db")).find_study("tiny")
