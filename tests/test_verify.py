"""The command on models of a real study, whole and tampered with."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from models import IResNet, fingerprint
from study.logged_model import EXTRA_FILES, WEIGHTS_FILE
from study.tracking import StudyRecord, Tracker, TrialRecord
from study.verify import app


def load(path: Path) -> IResNet:
    model = torch.load(path, weights_only=False)
    assert isinstance(model, IResNet)
    return model


@pytest.fixture(scope="module")
def uri(finished: Path) -> str:
    return f"sqlite:///{finished}/mlflow.db"


@pytest.fixture(scope="module")
def study(uri: str) -> StudyRecord:
    record = Tracker(uri).find_study("tiny")
    assert record is not None
    return record


@pytest.fixture(scope="module")
def records(uri: str, study: StudyRecord) -> list[TrialRecord]:
    return Tracker(uri).records(study)


@pytest.fixture(params=[None, 0.3], ids=["trial", "projection"])
def run_id(records: list[TrialRecord], request: pytest.FixtureRequest) -> str:
    """Of a network as it was trained, and of one that was projected."""
    return next(r.run_id for r in records if r.projected_to == request.param)


@pytest.fixture
def folder(uri: str, study: StudyRecord, run_id: str) -> Iterator[Path]:
    """Of its logged model, which is put back afterwards."""
    client = MlflowClient(uri)
    (model,) = client.search_logged_models([study.experiment_id], f"source_run_id = '{run_id}'")
    path = Path(model.artifact_location)
    copy = path.with_name("copy")
    shutil.copytree(path, copy)
    yield path
    shutil.rmtree(path)
    copy.rename(path)


def check(uri: str, run_id: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [run_id, "--tracking-uri", uri])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.output


def test_every_model_of_a_study_verifies(uri: str, records: list[TrialRecord]) -> None:
    assert len(records) >= 6
    for record in records:
        exit_code, out = check(uri, record.run_id)
        assert exit_code == 0, out
        assert out.count("\n") == 1
        assert "verified: proven bound" in out
        assert out.endswith(", invertible\n")


def test_one_weight_scaled_is_named(uri: str, run_id: str, folder: Path) -> None:
    model = load(folder / WEIGHTS_FILE)
    with torch.no_grad():
        model.get_parameter("body.1.residual.2.weight").mul_(1.5)
    torch.save(model, folder / WEIGHTS_FILE)
    exit_code, out = check(uri, run_id)
    assert exit_code == 1
    assert "weights: the tensor body.1.residual.2.weight is not the one that was certified" in out


def test_a_scaled_weight_whose_digest_was_edited_too_breaks_the_certificate(
    uri: str, run_id: str, folder: Path
) -> None:

    model = load(folder / WEIGHTS_FILE)
    scaled = model.get_submodule("body.1.residual.2")
    with torch.no_grad():
        # Past the target, so that normalization, where there is any, cannot undo it.
        for name, parameter in scaled.named_parameters():
            parameter.mul_(1.5 if name == "weight" else 1)
        if hasattr(scaled, "coeff"):
            scaled.coeff = 1.5 * float(scaled.coeff)
    torch.save(model, folder / WEIGHTS_FILE)
    path = folder / EXTRA_FILES / "network.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fingerprint(model)}))
    exit_code, out = check(uri, run_id)
    assert exit_code == 1
    assert "certificate: upper_bound of body.1.residual.2 is " in out
    assert "but the weights give" in out


def test_a_truncated_model_is_said(uri: str, run_id: str, folder: Path) -> None:
    path = folder / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:-100])
    exit_code, out = check(uri, run_id)
    assert exit_code == 1
    assert f"model: {WEIGHTS_FILE}: it cannot be read" in out


@pytest.mark.parametrize("where", ["model", "run"])
def test_an_edited_certificate_is_named_with_its_layer(
    uri: str, run_id: str, folder: Path, where: str
) -> None:
    artifacts = MlflowClient(uri).get_run(run_id).info.artifact_uri
    of_run = Path(artifacts) / "certificate.json"
    path = folder / EXTRA_FILES / "certificate.json" if where == "model" else of_run
    before = path.read_text()
    content = json.loads(before)
    content["layers"][2]["upper_bound"] *= 0.9
    path.write_text(json.dumps(content))
    exit_code, out = check(uri, run_id)
    path.write_text(before)
    assert exit_code == 1
    name = content["layers"][2]["name"]
    whose = {"model": "the model's", "run": "the run's"}[where]
    assert f"certificate: upper_bound of {name} is " in out
    assert f"in {whose} certificate.json, but the weights give" in out
    assert out.count("\n") == 1


def test_an_edited_metric_is_said(uri: str, run_id: str, tmp_path: Path) -> None:
    database = Path(uri.removeprefix("sqlite:///"))
    shutil.copy(database, tmp_path / "mlflow.db")
    copy = f"sqlite:///{tmp_path}/mlflow.db"
    MlflowClient(copy).log_metric(run_id, "lipschitz_upper_bound", 0.001, step=99)
    exit_code, out = check(copy, run_id)
    assert exit_code == 1
    assert "the run's metric lipschitz_upper_bound is 0.001, but the weights give" in out


def test_another_architecture_is_named(uri: str, run_id: str, folder: Path) -> None:
    torch.save(IResNet((1, 8, 8), 10, (2, 1), channel_multiplier=4), folder / WEIGHTS_FILE)
    exit_code, out = check(uri, run_id)
    assert exit_code == 1
    assert "architecture: the module at body." in out


@pytest.mark.parametrize("name", ["certificate.json", "network.json"])
def test_a_proof_that_is_torn_is_said(uri: str, run_id: str, folder: Path, name: str) -> None:
    path = folder / EXTRA_FILES / name
    path.write_text(path.read_text()[:50])
    exit_code, out = check(uri, run_id)
    assert exit_code == 1
    assert f"model: {EXTRA_FILES}/{name} cannot be read" in out


def test_a_run_that_is_none_or_has_no_network_is_bad_input(uri: str, study: StudyRecord) -> None:
    for run_id, problem in (("0" * 32, "not found"), (study.run_id, "has no certificate.json")):
        exit_code, out = check(uri, run_id)
        assert exit_code == 2
        assert problem in out
        assert out.count("\n") == 1


def test_a_database_that_is_not_there_is_bad_input_and_is_not_made(tmp_path: Path) -> None:
    exit_code, out = check(f"sqlite:///{tmp_path}/mlflow.db", "0" * 32)
    assert exit_code == 2
    assert "there is no run" in out
    assert list(tmp_path.iterdir()) == []
