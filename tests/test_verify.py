"""The command on models of a real study, whole and tampered with."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from models import IResNet, weights_sha256
from models.spectral_norm import SpectralNormConv2d
from study.tracking.client import Client
from study.tracking.records import Records, StudyRecord, TrialRecord
from study.tracking.stored_model import EXTRA_FILES, WEIGHTS_FILE
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
    record = Records(Client(uri)).find_study("tiny")
    assert record is not None
    return record


@pytest.fixture(scope="module")
def records(uri: str, study: StudyRecord) -> list[TrialRecord]:
    return Records(Client(uri)).trials_and_projections(study)


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


def edit(folder: Path, name: str, **changes: object) -> None:
    """Change keys of a file of the proof."""
    path = folder / EXTRA_FILES / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def of_run(uri: str, run_id: str) -> Iterator[Path]:
    """The folder of the run's own files, which are put back afterwards."""
    path = Path(MlflowClient(uri).get_run(run_id).info.artifact_uri)
    copy = path.with_name("files")
    shutil.copytree(path, copy)
    yield path
    shutil.rmtree(path)
    copy.rename(path)


def test_new_digests_for_other_weights_must_be_the_runs_too(
    uri: str, run_id: str, folder: Path
) -> None:
    """Of the classifier, of which no certificate says anything."""
    model = load(folder / WEIGHTS_FILE)
    with torch.no_grad():
        model.get_parameter("classifier.3.bias").add_(1)
    torch.save(model, folder / WEIGHTS_FILE)
    edit(folder, "network.json", weights_sha256=weights_sha256(model))
    exit_code, out = check(uri, run_id)
    assert exit_code == 1
    assert "the model's network.json is not the run's: weights_sha256.classifier.3.bias is" in out


def test_where_every_digest_was_edited_the_certificate_does_not_hold(
    uri: str, run_id: str, folder: Path, of_run: Path
) -> None:
    model = load(folder / WEIGHTS_FILE)
    layer = model.get_submodule("body.1.residual.2")
    with torch.no_grad():
        if isinstance(layer, SpectralNormConv2d):
            # Far from the vectors that sigma was estimated with, so that it is no estimate now.
            layer.weight.copy_(3 * torch.randn_like(layer.weight))
        else:
            layer.get_parameter("weight").mul_(1.5)
    torch.save(model, folder / WEIGHTS_FILE)
    for where in (folder / EXTRA_FILES, of_run):
        path = where / "network.json"
        content = {**json.loads(path.read_text()), "weights_sha256": weights_sha256(model)}
        path.write_text(json.dumps(content))
    exit_code, out = check(uri, run_id)
    assert exit_code == 1
    assert "certificate: lower_bound of body.1.residual.2 is " in out
    assert "but the weights give" in out
    assert "weights: " not in out


def test_a_truncated_model_is_said(uri: str, run_id: str, folder: Path) -> None:
    path = folder / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:-100])
    exit_code, out = check(uri, run_id)
    assert exit_code == 1
    assert f"model: {WEIGHTS_FILE}: it cannot be read" in out


@pytest.mark.parametrize("where", ["model", "run", "both"])
def test_an_edited_certificate_is_named_with_its_layer(
    uri: str, run_id: str, folder: Path, of_run: Path, where: str
) -> None:
    files = {"model": [folder / EXTRA_FILES], "run": [of_run]}
    for path in files.get(where, [folder / EXTRA_FILES, of_run]):
        content = json.loads((path / "certificate.json").read_text())
        content["layers"][2]["upper_bound"] *= 0.9
        (path / "certificate.json").write_text(json.dumps(content))
    exit_code, out = check(uri, run_id)
    assert exit_code == 1
    name = content["layers"][2]["name"]
    if where == "both":
        assert f"certificate: upper_bound of {name} is " in out
        assert "but the weights give" in out
    else:
        assert f"the model's certificate.json is not the run's: layers[{name}].upper_bound" in out
    assert out.count("\n") == 1


def test_a_layer_that_stands_there_twice_is_found(
    uri: str, run_id: str, folder: Path, of_run: Path
) -> None:
    for path in (folder / EXTRA_FILES, of_run):
        content = json.loads((path / "certificate.json").read_text())
        content["layers"].insert(0, {**content["layers"][0], "upper_bound": 0.001})
        (path / "certificate.json").write_text(json.dumps(content))
    exit_code, out = check(uri, run_id)
    assert exit_code == 1
    assert "certificate.json has not the layers of the network" in out


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
    assert "architecture: the module at body" in out


def test_a_method_that_the_file_puts_in_the_way_is_found(
    uri: str, run_id: str, folder: Path
) -> None:
    model = load(folder / WEIGHTS_FILE)
    model.__dict__["forward"] = torch.nn.Sequential()
    torch.save(model, folder / WEIGHTS_FILE)
    exit_code, out = check(uri, run_id)
    assert exit_code == 1
    assert "architecture: the module at the root has an attribute forward" in out


def test_another_file_or_other_code_to_load_is_found(uri: str, run_id: str, folder: Path) -> None:
    path = folder / "MLmodel"
    before = path.read_text()
    path.write_text(before.replace("model_data: data", "model_data: data2"))
    exit_code, out = check(uri, run_id)
    assert exit_code == 1
    assert "model: model_data must be data in a logged model, but is data2" in out
    path.write_text("{")
    assert check(uri, run_id)[0] == 1
    path.write_text(before)
    (folder / "code" / "numpy.py").write_text("print('run')")
    exit_code, out = check(uri, run_id)
    assert exit_code == 1
    assert "model: code/ must be ['models'] in a logged model, but is ['models', 'numpy.py']" in out
    (folder / "code" / "numpy.py").unlink()
    code = folder / "code" / "models" / "iresnet.py"
    code.write_text(code.read_text() + "\n")
    exit_code, out = check(uri, run_id)
    assert exit_code == 1
    assert "code: what is in code/models is not the code that the model was logged with" in out


@pytest.mark.parametrize("name", ["certificate.json", "network.json"])
@pytest.mark.parametrize("text", ["", "{", "null", "[1]", "{}", '{"layers": [{}], "blocks": 1}'])
def test_a_proof_that_is_none_is_said(
    uri: str, run_id: str, folder: Path, of_run: Path, name: str, text: str
) -> None:
    for path in (folder / EXTRA_FILES, of_run):
        (path / name).write_text(text)
    exit_code, out = check(uri, run_id)
    assert exit_code == 1
    assert name in out or "weights: " in out


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
