import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner, Result

from study.errors import UserError
from study.report import app
from study.results.published import register
from study.results.report import collect, read
from study.tracking import clone, proof, stored_model
from study.tracking.client import Client
from study.tracking.records import Records
from tests.support.records import STUDY, trial


@pytest.fixture
def uri(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A copy of the study's database, to register in."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(finished / "mlflow.db", tmp_path)
    return f"sqlite:///{tmp_path}/mlflow.db"


def register_all(uri: str) -> Result:
    """What the command says that registers the recommended networks as `net`."""
    return CliRunner().invoke(app, ["tiny", "--register", "net", "--tracking-uri", uri])


def recommended(records: Records, alias: str) -> str:
    """The run that has this alias."""
    results = read(records, "tiny")
    (run_id,) = (o.point.first.run_id for o in results.recommended if alias in o.aliases)
    return run_id


def versions(uri: str) -> dict[str, str]:
    """Version -> run of every version of the model `net`."""
    found = MlflowClient(uri).search_model_versions("name = 'net'")
    return {str(v.version): v.run_id for v in found}


def test_points_of_the_front_are_registered_once_and_load_by_their_alias(uri: str) -> None:
    for _ in range(2):
        done = register_all(uri)
        assert done.exit_code == 0, done.output
        assert "registered: net version 1" in done.stderr
    records = Records(Client(uri))
    wanted = read(records, "tiny").recommended
    assert set(versions(uri).values()) == {one.point.first.run_id for one in wanted}
    client = MlflowClient(uri)
    for alias, point in ((alias, one.point) for one in wanted for alias in one.aliases):
        version = client.get_model_version_by_alias("net", alias)
        assert version.run_id == point.first.run_id
        assert version.tags["study"] == "tiny"
        assert version.tags["point"] == point.label
        assert version.status == "READY"


def test_a_model_whose_proof_does_not_hold_is_refused(
    uri: str, finished: Path, tmp_path: Path
) -> None:
    records = Records(Client(uri))
    run_id = recommended(records, "most-invertible")
    (artifacts,) = (finished / "mlruns").glob(f"*/{run_id}/artifacts")
    own = shutil.copytree(artifacts, tmp_path / "artifacts")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        sql = "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?"
        database.execute(sql, [str(own), run_id])
    path = own / "certificate.json"
    content = json.loads(path.read_text())
    content["layers"][1]["upper_bound"] *= 0.9
    path.write_text(json.dumps(content))
    done = register_all(uri)
    assert done.exit_code == 1
    problem = "run: its certificate.json is not the file that was logged"
    assert f"(run {run_id}) is not registered: {problem}" in done.stderr
    assert done.stdout == ""
    assert versions(uri) == {}


def test_a_model_with_other_code_is_refused(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here is no clone, so it may be that of an earlier version."""
    monkeypatch.setattr(clone, "_ROOT", tmp_path)
    code = shutil.copytree(stored_model.code_folder(), tmp_path / "models")
    (code / "__init__.py").write_text("raise SystemExit")
    monkeypatch.setattr(proof, "code_folder", lambda: code)
    done = register_all(uri)
    assert done.exit_code == 1
    assert "is not registered: code: it must be this version of models/, but is ano" in done.stderr
    assert versions(uri) == {}


def test_a_version_of_other_files_of_the_run_is_not_taken_for_the_model(uri: str) -> None:
    records, client = Records(Client(uri)), MlflowClient(uri)
    run_id = recommended(records, "knee")
    client.create_registered_model("net")
    other = client.create_model_version("net", "/somewhere/else", run_id)
    done = register_all(uri)
    assert done.exit_code == 0, done.output
    version = client.get_model_version_by_alias("net", "knee")
    assert (version.run_id, version.version != other.version) == (run_id, True)


def test_a_name_or_a_front_that_is_none_leaves_no_page(uri: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    arguments = ["tiny", "--html", str(page), "--tracking-uri", uri]
    nothing = ["--where", "metrics.val_accuracy > 2", "--register", "net"]
    for more in (["--register", "no/name"], nothing):
        done = CliRunner().invoke(app, [*arguments, *more])
        assert done.exit_code == 2
        assert done.stderr.startswith("error: --register: ")
        assert not page.exists()


@pytest.mark.parametrize("name", ["", "../x", "a'b", "-x", "x" * 101])
def test_a_name_that_is_none_is_refused_before_anything_is_done(name: str) -> None:
    with pytest.raises(UserError, match=r"^register: a name must be"):
        register(collect(STUDY, [trial(0)]), name)
