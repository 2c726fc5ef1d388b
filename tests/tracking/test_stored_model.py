import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import torch

from models import read_network
from study.metrics.reports import TrialStatus
from study.tracking.records import Records
from study.tracking.server.files import condensed, differences, manifest
from study.tracking.stored_model import share
from study.tracking.study_record import StudyRecord
from study.tracking.tracker import Tracker
from study.verification.proof import load
from tests.support.tracked import DATA, log_networks, start


def model(folder: Path, **files: str) -> Path:
    (folder / "code").mkdir(parents=True)
    for name, text in files.items():
        (folder / "code" / name).write_text(text)
    return folder


def n_files(*folders: Path) -> int:
    """How many there are on the disk."""
    return len({path.stat().st_ino for f in folders for path in f.rglob("*") if path.is_file()})


def test_what_models_have_in_common_is_there_once(tmp_path: Path) -> None:
    latest: dict[str, Path] = {}
    models = [model(tmp_path / str(n), same="s" * 99, own=f"{n}") for n in range(4)]
    before = [manifest(folder) for folder in models]
    for folder in models:
        share(folder, manifest(folder), latest)
    assert n_files(*models) == 1 + len(models)
    assert [manifest(folder) for folder in models] == before


def test_one_model_that_is_gone_or_was_changed_takes_nothing_of_another(tmp_path: Path) -> None:
    latest: dict[str, Path] = {}
    first, second, third, fourth = (model(tmp_path / str(n), same="text") for n in range(4))
    for folder in (first, second):
        share(folder, manifest(folder), latest)
    (first / "code" / "same").unlink()
    share(third, manifest(third), latest)
    (third / "code" / "same").write_text("other")
    share(fourth, manifest(fourth), latest)
    for folder in (second, fourth):
        assert (folder / "code" / "same").read_text() == "text"


def test_where_there_are_no_links_copies_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refused)
    latest: dict[str, Path] = {}
    models = [model(tmp_path / str(n), same="text") for n in range(3)]
    for folder in models:
        share(folder, manifest(folder), latest)
        assert manifest(folder)["code/same"]
    assert n_files(*models) == 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    for name in ("MLmodel", "code/models/a.py", "code/models/b.py", "data/network/w"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    return root


def test_every_file_stands_there_with_its_digest_and_what_changed_is_named(folder: Path) -> None:
    files = manifest(folder)
    assert list(files) == ["MLmodel", "code/models/a.py", "code/models/b.py", "data/network/w"]
    for name, digest in files.items():
        assert digest == hashlib.sha256(f"content of {name}".encode()).hexdigest()
    assert list(differences(folder, files)) == []
    (folder / "MLmodel").write_text("content of MLmodel.")
    (folder / "code/models/a.py").rename(folder / "code/models/c.py")
    for beside in ("", "code", "code/models", "data/network"):
        (folder / beside / ".hidden").touch()
    assert list(differences(folder, files)) == [
        ".hidden must not be there: the model was logged without it",
        "MLmodel is not the file that was logged",
        "code/.hidden must not be there: the model was logged without it",
        "code/models/.hidden must not be there: the model was logged without it",
        "code/models/a.py is missing",
        "code/models/c.py must not be there: the model was logged without it",
        "data/network/.hidden must not be there: the model was logged without it",
    ]


def change(path: Path) -> None:
    path.write_text("changed")


def add(path: Path) -> None:
    path.with_name("more.py").touch()


def rename(path: Path) -> None:
    path.rename(path.with_name("c.py"))


@pytest.mark.parametrize("what", [change, add, rename, Path.unlink])
def test_one_digest_stands_for_a_folder(folder: Path, what: Callable[[Path], object]) -> None:
    short = condensed(manifest(folder), ["code/models/"])
    assert list(short) == ["MLmodel", "data/network/w", "code/models/"]
    assert list(differences(folder, short)) == []
    what(folder / "code/models/b.py")
    assert list(differences(folder, short)) == ["code/models/ is not the folder that was logged"]
    shutil.rmtree(folder / "code")
    assert list(differences(folder, short)) == ["code/models/ is missing"]


def test_what_no_model_has_is_refused(folder: Path, tmp_path: Path) -> None:
    made = {
        "code/link.py": lambda p: p.symlink_to(folder / "MLmodel"),
        "code/nowhere": lambda p: p.symlink_to(tmp_path / "nothing"),
        "code/outside": lambda p: p.symlink_to(tmp_path, target_is_directory=True),
        "data/pipe": os.mkfifo,
        "data/empty": os.mkdir,
        "code/models/__pycache__": os.mkdir,
    }
    for name, make in made.items():
        path = folder / name
        make(path)
        with pytest.raises(ValueError, match=rf"^{name} must "):
            manifest(folder)
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
    manifest(folder)


@pytest.mark.slow
def test_a_logged_model_is_one_and_says_what_it_is(
    tracker: Tracker, study: StudyRecord, tmp_path: Path
) -> None:
    """That it loads in a fresh process, predicts and inverts: tests/test_launch.py."""
    folder = tmp_path / "outcome"
    start(tracker, study)
    for _ in range(2):  # as after a crash between the model and the end of the trial
        log_networks(tracker, "0000", folder)
    tracker.end_trial("0000", TrialStatus.COMPLETED)
    (record,) = Records(tracker.client).trials(study)
    client = tracker.client.api
    names = {artifact.path for artifact in client.list_artifacts(record.run_id)}
    assert {"certificate.json", "inverse.json", "network.json"} <= names
    # What goes with the model, so that it says by itself what it is and what is proven of it.
    (logged,) = client.search_logged_models([study.experiment_id])
    model_file = mlflow.models.Model.load(logged.artifact_location)
    assert model_file.metadata["study"] == {
        "name": "tiny", "run_id": record.run_id, "trial_id": "0000",
    }  # fmt: skip
    assert model_file.metadata["data"] == DATA
    network = Path(logged.artifact_location) / "data" / "network"
    for name in ("certificate.json", "network.json", "weights.safetensors"):
        assert (network / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_network_is_loaded_in_the_precision_in_which_its_answers_are_proven(
    tracker: Tracker, study: StudyRecord, tmp_path: Path, precision: str
) -> None:
    start(tracker, study)
    log_networks(tracker, "0000", tmp_path, precision=precision)
    (record,) = Records(tracker.client).trials(study)
    network = load(Records(tracker.client), record.run_id)
    dtype = getattr(torch, precision)
    assert {parameter.dtype for parameter in network.parameters()} == {dtype}
    stored = read_network(tmp_path)
    images = torch.rand(3, 1, 8, 8, dtype=dtype)
    assert torch.equal(network(images), stored.to(dtype)(images))
