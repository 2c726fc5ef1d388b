"""The command on models of a real study, whole and tampered with.

Who can write files cannot write tags. Each form of tampering is checked again with a manifest made
anew, as by somebody who can log runs too."""

import base64
import json
import math
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from models import certify, read_network
from models.floats.raised import SEARCH_ROOM
from models.norms import bottleneck_bounds
from models.norms.block_bounds import block_bounds
from study.api import study as api
from study.errors import UserError
from study.metrics.artifacts import VAL_RIGHT, packed
from study.metrics.definitions import PROVEN_METRICS, as_reported
from study.tracking import clone
from study.tracking.client import Client
from study.tracking.manifest import manifest
from study.tracking.records import Records, StudyRecord, TrialRecord
from study.tracking.stored_model import CODE, DATA
from study.trial.data import sources
from study.trial.measured.evaluation import evaluate
from study.verify import app

# Tags of a run.
MODEL_FILES, RUN_FILES = "study.model_files", "study.run_files"
LAYER = "body.1.residual.2.weight"
WEIGHTS = f"{DATA}/weights.safetensors"
NETWORK = f"{DATA}/network.json"
CERTIFICATE = f"{DATA}/certificate.json"


@pytest.fixture(scope="module")
def study_uri(finished: Path) -> str:
    return f"sqlite:///{finished}/mlflow.db"


@pytest.fixture(scope="module")
def study(study_uri: str) -> StudyRecord:
    record = Records(Client(study_uri)).find_study("tiny")
    assert record is not None
    return record


@pytest.fixture(scope="module")
def records(study_uri: str, study: StudyRecord) -> list[TrialRecord]:
    return Records(Client(study_uri)).trials_and_projections(study)


@dataclass
class Stored:
    """A run of which everything may be changed, and its model."""

    uri: str
    run_id: str
    folder: Path
    of_run: Path

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)

    def tag(self, name: str, value: str | None) -> None:
        """Set a tag of the run; None deletes it."""
        if value is None:
            self.client.delete_tag(self.run_id, name)
        else:
            self.client.set_tag(self.run_id, name, value)

    def check(self, *options: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, [self.run_id, "--tracking-uri", self.uri, *options])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    def refused(self, *options: str) -> str:
        """Its lines, each about this run, where it is not verified."""
        exit_code, out = self.check(*options)
        assert exit_code == 1, out
        lines = out.splitlines()
        assert not any(line.startswith(f"{self.run_id}: verified") for line in lines)
        assert lines
        assert all(line.startswith(f"{self.run_id}: ") for line in lines), out
        return out

    def log_again(self) -> None:
        """Make the run's files those of the model, and both manifests anew."""
        for name in ("network.json", "certificate.json"):
            shutil.copy(self.folder / DATA / name, self.of_run / name)
        self.tag(MODEL_FILES, json.dumps(manifest(self.folder)))
        self.tag(RUN_FILES, json.dumps(manifest(self.of_run)))

    def edit(self, name: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change a JSON file of the model."""
        path = self.folder / name
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    def edit_weights(self, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
        tensors = load_file(self.folder / WEIGHTS)
        change(tensors)
        save_file(tensors, self.folder / WEIGHTS)


@contextmanager
def put_back(path: Path) -> Iterator[bytes]:
    """The content of a file, which the file has again afterwards."""
    content = path.read_bytes()
    yield content
    path.unlink(missing_ok=True)
    path.write_bytes(content)


@pytest.fixture
def stored(study_uri: str, records: list[TrialRecord], tmp_path: Path) -> Stored:
    """A copy of the network of a trial. One that was projected is stored alike."""
    run_id = next(r.run_id for r in records if r.projected_to is None)
    database = tmp_path / "mlflow.db"
    shutil.copy(study_uri.removeprefix("sqlite:///"), database)
    copies = []
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, column, key in (
            ("logged_models", "artifact_location", "source_run_id"),
            ("runs", "artifact_uri", "run_uuid"),
        ):
            where = f"WHERE {key} = ?"
            sql = f"SELECT {column} FROM {table} {where} AND lifecycle_stage = 'active'"
            ((source,),) = connection.execute(sql, [run_id]).fetchall()
            # Of a folder that MLflow makes: .../ID/artifacts.
            copy = tmp_path.joinpath(*Path(source).parts[-2:])
            shutil.copytree(source, copy)
            connection.execute(f"UPDATE {table} SET {column} = ? {where}", [str(copy), run_id])
            copies.append(copy)
    folder, of_run = copies
    return Stored(f"sqlite:///{database}", run_id, folder, of_run)


def reported(bound: float) -> float:
    return as_reported({"lipschitz_upper_bound": bound})["lipschitz_upper_bound"]


def test_every_model_of_a_study_verifies(study_uri: str, records: list[TrialRecord]) -> None:
    assert len(records) >= 6
    for record in records:
        done = CliRunner().invoke(app, [record.run_id, "--tracking-uri", study_uri])
        bound = reported(record.metrics["lipschitz_upper_bound"])
        assert done.exit_code == 0, done.output
        before, said, after = done.output.partition(": verified: proven bound ")
        assert (before, bool(said)) == (record.run_id, True)
        # What was proven here, without the room that certificates leave.
        proven, _, rest = after.partition(", ")
        assert bound * (1 - 1e-3) <= float(proven) <= bound * (1 + 1e-3)
        assert rest == (
            "invertible; stored with this version of models/; not measured again, without its "
            "data\n"
        )


def test_every_file_changed_removed_or_linked_is_named(stored: Stored, tmp_path: Path) -> None:
    files = set(manifest(stored.folder))
    code = {name for name in files if name.startswith(f"{CODE}/")}
    assert {
        f"{CODE}/network/iresnet.py",
        f"{CODE}/storage/serving.py",
        f"{CODE}/__init__.py",
    } <= code
    assert files - code == {
        "MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt",
        WEIGHTS, NETWORK, CERTIFICATE,
    }  # fmt: skip
    outside = tmp_path / "outside"
    for name in [*(files - code), f"{CODE}/__init__.py"]:
        path = stored.folder / name
        with put_back(path) as content:
            assert not content.startswith((b"\x80", b"PK")), f"{name} is a pickle"
            path.write_bytes(content + b"\n")
            assert f"model: {name} is not the file that was logged" in stored.refused()
            path.unlink()
            assert f"model: {name} is missing" in stored.refused()
            outside.write_bytes(content)
            path.symlink_to(outside)
            assert f"model: {name} must be a file of its own, but is a link" in stored.refused()
    assert stored.check()[0] == 0


def test_a_network_whose_files_were_changed_is_not_loaded(stored: Stored) -> None:
    opened = api.open("tiny", tracking_uri=stored.uri)
    assert certify(opened.load(stored.run_id), "full").contraction
    stored.edit_weights(lambda tensors: tensors[LAYER].mul_(0.5))
    with pytest.raises(UserError, match=f"model: {WEIGHTS} is not the file that was logged"):
        opened.load(stored.run_id)


def test_a_model_that_is_a_link_or_gone_is_refused(stored: Stored, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    stored.folder.rename(moved)
    stored.folder.symlink_to(moved, target_is_directory=True)
    assert "must be a folder of its own, but is a link" in stored.refused()
    stored.folder.unlink()
    assert "is not there" in stored.refused()


def scale_the_last_layers(tensors: dict[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        if name.startswith("body.") and tensor.dim() == 4:
            tensor *= 4.0


def claim(path: str, value: object) -> Callable[[Stored], None]:
    """Write a value into the certificate, which stands at keys with dots between them."""

    def change(content: dict[str, Any]) -> None:
        *keys, last = (int(key) if key.isdigit() else key for key in path.split("."))
        at: Any = content
        for key in keys:
            at = at[key]
        at[last] = value

    return lambda stored: stored.edit(CERTIFICATE, change)


def describe(**changes: object) -> Callable[[Stored], None]:
    return lambda stored: stored.edit(NETWORK, lambda c: c["architecture"].update(changes))


def replace_text(name: str, old: str, new: str) -> Callable[[Stored], None]:
    def change(stored: Stored) -> None:
        text = (stored.folder / name).read_text()
        assert old in text
        (stored.folder / name).write_text(text.replace(old, new))

    return change


def write(name: str, content: str | bytes) -> Callable[[Stored], None]:
    def change(stored: Stored) -> None:
        path = stored.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Stored], None]:
    return lambda stored: stored.edit_weights(change)


def maps_without_end(stored: Stored) -> None:
    describe(in_shape=[1, 2**40, 2**40])(stored)
    claim("in_shape", [1, 2**40, 2**40])(stored)


# Twelve levels of ten aliases each: 10 ** 12 values.
BOMB = ", ".join(
    f"&a{i} [" + ", ".join([f"*a{i - 1}"] * 10 if i else ["x"]) + "]" for i in range(12)
)
NOT_A_NUMBER = weights(lambda t: t[LAYER].view(-1)[:1].fill_(torch.nan))
ESCAPES = "x\nverified: proven bound 0.1 \ud800\x1b[2J"
GIVE = "but the weights give"
FLAVORS, CONDA = "flavors of MLmodel must be {", "conda.yaml must be {"
PYTHON_ENV, NEEDED = "python_env.yaml must be {", "requirements.txt must be ["
GONE = f"model: {WEIGHTS} is missing"
# What is done, and what is said of it once the manifest is made anew.
TAMPERED: tuple[tuple[Callable[[Stored], None], str], ...] = (
    (weights(scale_the_last_layers), "certificate: "),
    (weights(lambda t: t[LAYER].mul_(1.5)), "upper_bound of body.1.residual"),
    (NOT_A_NUMBER, f"{GIVE} inf"),
    (weights(lambda t: t.update({"x": torch.ones(1)})), "has a tensor that it must not have: x"),
    (weights(lambda t: t.pop(LAYER)), f"has no tensor {LAYER}"),
    (weights(lambda t: t.update({LAYER: t[LAYER].double()})), f"the tensor {LAYER} must be"),
    (lambda s: torch.save({LAYER: 0}, s.folder / WEIGHTS), "weights.safetensors cannot be read"),
    (lambda s: (s.folder / WEIGHTS).unlink(), GONE),
    # Its bound is proven as well, and its output is another.
    (describe(activation="elu"), "certificate: sha256 is "),
    (describe(in_shape=[1, 16, 16]), "certificate: in_shape is not [1, 16, 16]"),
    (maps_without_end, "sizes and counts must be at most"),
    (describe(n_power_iterations=math.inf), "sizes and counts must be whole numbers"),
    (describe(hidden=1), "network.json describes no network"),
    (describe(blocks=[10**4, 10**4]), "has 20000 blocks"),
    (write(NETWORK, "{}"), "network.json cannot be read"),
    (claim("lipschitz_upper_bound", 9e-5), f"lipschitz_upper_bound is 9e-05, {GIVE}"),
    (claim("layers.2.lower_bound", 3.0), "lower_bound of body.1.residual"),
    (claim("blocks.0.upper_bound", math.nan), "is nan, but"),
    (claim("blocks.0.upper_bound", "0.1"), f"is 0.1, {GIVE}"),
    (claim("contraction", False), "contraction is False, but"),
    (claim("sha256", "0" * 64), "sha256 is 000000"),
    (claim("lipschitz_upper_bound", 10**400), GIVE),
    (claim("mode", ESCAPES), rf"mode is x\nverified: proven bound 0.1 \ud800\x1b[2J, {GIVE} eval"),
    (claim("proven", True), "a key that no certificate has: proven"),
    (claim("layers", []), "certificate.json has not the layers of the network"),
    (claim("layers", [1, None]), "has not the layers of the network"),
    (write(CERTIFICATE, "{"), "certificate.json cannot be read"),
    # What MLflow would load and install.
    (write("code/numpy.py", ""), "code/ must be ['models'] in a logged model, but is ['models', '"),
    (write("code/models/stored/__init__.pyc", b"\0"), "files of the code that are not Python's"),
    (write("code/models/stored.abi3.so", b"\0"), "files of the code that are not Python's must"),
    (replace_text("MLmodel", "models.storage.serving", "numpy"), FLAVORS),
    (replace_text("MLmodel", "models.storage.serving", f"[{BOMB}]"), FLAVORS),
    (replace_text("MLmodel", "    streamable: false", "    config: {x: 1}"), FLAVORS),
    (replace_text("MLmodel", "prompts: null", "prompts: [x]"), "the keys of MLmodel must be ["),
    (replace_text("MLmodel", "offset: -0.5", "offset: 0.0"), "data of MLmodel is not that of"),
    (write("MLmodel", "{"), "MLmodel cannot be read"),
    (replace_text("requirements.txt", "torch==", "evil\ntorch=="), NEEDED),
    (replace_text("requirements.txt", "numpy==", "numpy @ http://evil/"), NEEDED),
    (replace_text("conda.yaml", "- conda-forge", "- http://evil"), CONDA),
    (replace_text("conda.yaml", "- pip<=", "- pip@http://evil/"), CONDA),
    (replace_text("python_env.yaml", "- -r requirements.txt", "- evil==1.0"), PYTHON_ENV),
)


@pytest.mark.parametrize(("change", "says"), TAMPERED, ids=range(len(TAMPERED)))
def test_tampered_contents_are_refused_by_the_manifest_and_without_it(
    stored: Stored, change: Callable[[Stored], None], says: str
) -> None:
    change(stored)
    assert "model: " in stored.refused()
    stored.log_again()
    assert says in stored.refused()


def test_the_loader_of_an_earlier_version_is_known(stored: Stored) -> None:
    replace_text("MLmodel", "models.storage.serving", "models.serving")(stored)
    stored.log_again()
    exit_code, out = stored.check()
    assert exit_code == 0, out


def metric(name: str, change: Callable[[float], float]) -> Callable[[Stored], None]:
    """Change the last value of a metric of the run."""

    def log(stored: Stored) -> None:
        last = stored.client.get_metric_history(stored.run_id, name)[-1]
        stored.client.log_metric(stored.run_id, name, change(last.value), step=last.step + 1)

    return log


def raise_what_is_right(stored: Stored) -> None:
    """All images of the validation split are right and certified, and all say so."""
    path = stored.of_run / "val_right.json"
    content = json.loads(path.read_text())
    n = content["n_images"]
    bits = base64.b64encode(np.packbits(np.ones(n, dtype=bool)).tobytes()).decode()
    path.write_text(json.dumps({**content, "right": bits, "certified": bits}))
    for name in ("val_accuracy", "certified_accuracy"):
        metric(name, lambda _: 1.0)(stored)


def in_run(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Stored], None]:
    def edit(stored: Stored) -> None:
        path = stored.of_run / name
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return edit


def negate_the_answers(stored: Stored) -> None:
    """And certify that network."""
    stored.edit_weights(lambda t: t.update({k: -v for k, v in t.items() if "classifier.3" in k}))
    certificate = certify(read_network(stored.folder / DATA)).to_dict()
    stored.edit(CERTIFICATE, lambda content: content.update(json.loads(json.dumps(certificate))))


def move_the_images(stored: Stored) -> None:
    """The network is said to take images that are not centered, wherever it is said."""
    stored.edit(NETWORK, lambda content: content["data"]["normalization"].update(offset=0.0))
    replace_text("MLmodel", "offset: -0.5", "offset: 0.0")(stored)


def take_files(stored: Stored, run: Run) -> None:
    """Put the files and the model of another run in the place of the run's own."""
    (model,) = stored.client.search_logged_models(
        [run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"
    )
    for source, folder in (
        (model.artifact_location, stored.folder), (run.info.artifact_uri, stored.of_run)
    ):  # fmt: skip
        shutil.rmtree(folder)
        shutil.copytree(source, folder)


def take_another_network(stored: Stored) -> None:
    """That of another trial, with its sample, its parameters and what can be checked without data,
    and with the names of this run."""
    client = stored.client
    own = client.get_run(stored.run_id)
    which = "tags.`study.kind` = 'trial' and tags.`study.trial_id` = '0001'"
    (other,) = client.search_runs([own.info.experiment_id], which)
    assert other.info.run_id != stored.run_id
    before = yaml.safe_load((stored.folder / "MLmodel").read_text())
    take_files(stored, other)
    about = yaml.safe_load((stored.folder / "MLmodel").read_text())
    about |= {key: before[key] for key in ("run_id", "model_id", "model_uuid")}
    about["metadata"]["study"] = before["metadata"]["study"]
    (stored.folder / "MLmodel").write_text(yaml.safe_dump(about))
    stored.tag("study.sample", other.data.tags["study.sample"])
    for name in ("val_accuracy", *PROVEN_METRICS):
        client.log_metric(stored.run_id, name, other.data.metrics[name], step=100)
    with closing(sqlite3.connect(stored.uri.removeprefix("sqlite:///"))) as connection, connection:
        connection.executemany(
            "UPDATE params SET value = ? WHERE key = ? AND run_uuid = ?",
            [(value, key, stored.run_id) for key, value in other.data.params.items()],
        )


def multiplied(path: str, by: float) -> Callable[[Stored], None]:
    """Multiply the numbers of a list in the certificate, which is at keys with a dot between."""
    outer, inner = path.split(".")

    def change(content: dict[str, Any]) -> None:
        content[outer][inner] = [value * by for value in content[outer][inner]]

    return lambda stored: stored.edit(CERTIFICATE, change)


def write_inverse(**changes: object) -> Callable[[Stored], None]:
    return in_run("inverse.json", lambda content: content.update(changes))


# What is done in one go, and the line or lines that name each of it: measuring takes seconds.
ON_DATA: dict[str, tuple[tuple[Callable[[Stored], None], *tuple[str, ...]], ...]] = {
    "nothing": (),
    "figures": (
        (
            raise_what_is_right,
            "its metric val_accuracy is 1.0, but the network has ",
            "its metric certified_accuracy is 1.0, but the network has ",
            "val_right.json is wrong about ",
        ),
        (metric("test_accuracy", lambda v: v + 0.05), "its metric test_accuracy is "),
        (
            metric("test_certified_accuracy", lambda v: v + 0.05),
            "its metric test_certified_accuracy is ",
        ),
        (metric("attacked_accuracy", lambda v: v + 0.05), "its metric attacked_accuracy is "),
        (metric("val_loss", lambda v: v * 0.9), "its metric val_loss is "),
        (metric("median_radius", lambda v: v + 0.01), "its metric median_radius is "),
        (metric("inverse_steps", lambda v: v / 2), "its metric inverse_steps is "),
        # Of the size of rounding; the other is not.
        (metric("reconstruction_error", lambda v: v / 100), "its metric reconstruction_error is "),
        (metric("noise_error", lambda v: v / 2), "its metric noise_error is "),
        (
            multiplied("on_validation_split.certified_accuracy", 1.015),
            "certificate.json: on_validation_split.certified_accuracy is ",
        ),
        (
            multiplied("on_validation_split.radius", 1.1),
            "certificate.json: on_validation_split.radius is ",
        ),
        (claim("on_validation_split.n_images", 289), "on_validation_split.n_images is 289, but"),
        (
            multiplied("on_test_split.radius", 1.1),
            "certificate.json: on_test_split.radius is ",
        ),
        (claim("empirical_lipschitz", [0.01, 0.01]), "empirical_lipschitz is 0.01, but"),
        (write_inverse(needed_steps_mean=[1.0, 1.0]), "inverse.json: needed_steps_mean is 1.0, "),
        (write_inverse(needed_steps_max=[1, 1]), "inverse.json: needed_steps_max is 1, but"),
        (write_inverse(error_bound=1e-9), "inverse.json: error_bound is 1e-09, but"),
        (write_inverse(image_error_bound=1e-9), "inverse.json: image_error_bound is 1e-09, but"),
        (write_inverse(n_steps=[*range(20)]), "inverse.json: n_steps is 0, but"),
        (write_inverse(reconstruction_error=[1e-9] * 20), "reconstruction_error is 1e-09, but"),
        (write_inverse(rtol=1e-7), "inverse.json: rtol is 1e-07, but"),
        (move_the_images, "network.json: data.normalization.offset is 0.0, but the network has -0"),
        (describe(budget="last"), "network.json: architecture.budget is last, but"),
    ),
    "form": (
        (claim("on_validation_split", [1]), "on_validation_split must be an object of JSON"),
        (write_inverse(predicted_steps=[10**400, 1]), "predicted_steps is 1000000"),
        (write_inverse(needed_steps_mean=[1]), "needed_steps_mean must be a list of 2"),
    ),
    "no form": (
        (
            lambda stored: (stored.of_run / "inverse.json").write_text("[" * 5000),
            "inverse.json: it must be an object of JSON",
        ),
        # Each metric that the answers decide; the curves too, and the images that are right.
        (
            negate_the_answers,
            "its metric val_loss is ",
            "its metric val_accuracy is ",
            "its metric median_radius is ",
            "its metric test_accuracy is ",
            "on_validation_split.radius is ",
            "on_validation_split.certified_accuracy is ",
            "val_right.json is wrong about ",
        ),
    ),
    "another network": (
        (
            take_another_network,
            "its metric median_radius is ",
            "its metric inverse_steps is ",
            "its metric noise_error is ",
        ),
    ),
    "no digest": (
        (lambda stored: stored.edit(NETWORK, lambda c: c.pop("data")), "has the digest None, but"),
    ),
}


# What the figures of the study mean: tests/support/studies.py.
MEANT = (
    "at radius 4 (l2, pixels from 0 to 1) in float32, on digits with val_fraction 0.2, "
    "test_fraction 0.2, split_seed 0, images times 0.003922 plus -0.5, for inverse_steps, "
    "lipschitz_upper_bound, val_accuracy"
)


def set_in_study(stored: Stored, study: StudyRecord, section: str, changes: object) -> None:
    """Change the settings that the run of the study has in a tag, which no digest covers."""
    config = json.loads(stored.client.get_run(study.run_id).data.tags["study.config"])
    config[section] = {**config[section], **changes} if isinstance(changes, dict) else changes
    stored.client.set_tag(study.run_id, "study.config", json.dumps(config))


def forget(stored: Stored, name: str) -> None:
    """Delete a metric of the run, as earlier versions had fewer."""
    with closing(sqlite3.connect(stored.uri.removeprefix("sqlite:///"))) as connection, connection:
        for table in ("metrics", "latest_metrics"):
            sql = f"DELETE FROM {table} WHERE key = ? AND run_uuid = ?"
            connection.execute(sql, [name, stored.run_id])


def claim_a_smaller_radius(stored: Stored, study: StudyRecord) -> float:
    """Let the study say a smaller radius, and the run how many answers are certified at it."""
    curve = json.loads((stored.folder / CERTIFICATE).read_text())["on_validation_split"]
    radius, accuracy = curve["radius"][1], curve["certified_accuracy"][1]
    assert 0 < radius < 4
    assert accuracy > 0.1 > stored.client.get_run(stored.run_id).data.metrics["certified_accuracy"]
    set_in_study(stored, study, "evaluation", {"radius": radius})
    metric("certified_accuracy", lambda _: accuracy)(stored)
    # These depend on the radius as well.
    for name in ("attacked_accuracy", "lost_to_rounding", "test_certified_accuracy"):
        forget(stored, name)
    return float(radius)


def certify_more(stored: Stored, study: StudyRecord, radius: float) -> None:
    """Let the files of the run have the images as certified that are at this radius."""
    val = sources.load(study.config.data).val
    network = read_network(stored.folder / DATA)
    answers = evaluate(network, val, "float32", certify(network))
    content = packed(answers.right.tolist(), answers.certified(radius).tolist(), radius)
    (stored.of_run / VAL_RIGHT).write_text(json.dumps(content))


def test_a_figure_keeps_the_radius_that_it_was_measured_with(
    stored: Stored, study: StudyRecord, tmp_path: Path
) -> None:
    """With and without the data. Who forges the files as well is measured at the forged radius, and
    verify prints it."""
    radius = claim_a_smaller_radius(stored, study)
    for options in ([], ["--data-root", str(tmp_path)]):
        assert (
            f"{stored.run_id}: run: its figures were measured with radius 4.0, by "
            f"network.json, but its study says {radius}\n"
        ) in stored.refused(*options)
    certify_more(stored, study, radius)
    stored.edit(NETWORK, lambda content: content["measured"].update(radius=radius))
    stored.log_again()
    exit_code, out = stored.check("--data-root", str(tmp_path))
    assert exit_code == 0, out
    assert f"; measured again at radius {radius:.6g} (l2, pixels from 0 to 1) in float32, " in out


@pytest.mark.parametrize(
    ("section", "changes", "says"),
    [
        ("evaluation", {"precision": "float64"}, "precision float32, by"),
        ("evaluation", {"inverse_rtol": 1e-3}, "inverse_rtol 1e-06, by"),
        ("data", {"split_seed": 7}, "split.split_seed 0, by"),
        ("data", {"val_fraction": 0.5}, "split.val_fraction 0.2, by"),
        ("objectives", {"val_loss": "minimize"}, "objectives ['inverse_steps', 'lips"),
        ("objectives", {"val_accuracy": "minimize"}, "goals.val_accuracy maximize, by"),
        (
            "constraints",
            {"lipschitz_upper_bound": "< 2"},
            "goals.lipschitz_upper_bound minimize, < 1, by network.json, but its study says "
            "minimize, < 2",
        ),
        ("constraints", {"val_accuracy": "> 0.1"}, "goals.val_accuracy maximize, by"),
        (
            "metrics",
            {"mine": {"of": "own:metric", "direction": "maximize"}},
            "metrics.mine None, by network.json, but its study says own:metric",
        ),
    ],
)
def test_what_a_figure_means_is_what_the_study_says(
    stored: Stored, study: StudyRecord, section: str, changes: dict[str, Any], says: str
) -> None:
    set_in_study(stored, study, section, changes)
    if section == "objectives":
        set_in_study(stored, study, "reference_point", dict.fromkeys(changes, 3.0))
    assert says in stored.refused()


def test_an_earlier_network_that_states_no_goals_is_verified(stored: Stored) -> None:
    stored.edit(NETWORK, lambda content: content["measured"].pop("goals"))
    stored.log_again()
    exit_code, out = stored.check()
    assert exit_code == 0, out


def test_a_sample_that_is_none_of_the_study_is_refused(stored: Stored) -> None:
    sample = json.loads(stored.client.get_run(stored.run_id).data.tags["study.sample"])
    for wrong in ({"x": 1}, {"blocks": 3}, {"block": 3}):
        stored.tag("study.sample", json.dumps({**sample, **wrong}))
        assert "its sample must be one of its study, but is {" in stored.refused()


def test_of_an_earlier_network_it_is_said_that_the_study_alone_says_what_figures_mean(
    stored: Stored, tmp_path: Path
) -> None:
    stored.edit(NETWORK, lambda content: [content.pop(key) for key in ("precision", "measured")])
    stored.log_again()
    exit_code, out = stored.check("--data-root", str(tmp_path))
    assert exit_code == 0, out
    assert out.endswith(f"; measured again {MEANT}; so say the settings of its study alone\n")


def test_objectives_that_were_not_measured_again_are_said_not_to_be(
    stored: Stored, study: StudyRecord, tmp_path: Path
) -> None:
    """Figures of training, and without --trust metrics of the user's own."""
    own = {"of": "own:half", "direction": "maximize"}
    set_in_study(stored, study, "search", {"ladder": []})
    set_in_study(stored, study, "metrics", {"half": own})
    set_in_study(stored, study, "reference_point", {"half": 0.0, "train_loss": 3.0})
    set_in_study(stored, study, "objectives", {"train_loss": "minimize", "half": "maximize"})
    metric("train_loss", lambda _: 1e-9)(stored)
    stored.client.log_metric(stored.run_id, "half", 0.999, step=3)
    forged = Records(Client(stored.uri)).find_study("tiny")
    assert forged is not None
    sample = json.loads(stored.client.get_run(stored.run_id).data.tags["study.sample"])
    meant = json.loads(json.dumps(forged.config.resolve(sample, seed=0).meaning))
    stored.edit(NETWORK, lambda content: content.update(meant))
    stored.log_again()
    exit_code, out = stored.check("--data-root", str(tmp_path))
    assert exit_code == 0, out
    assert out.endswith(f"; measured again {MEANT}, not for train_loss, half\n")


@pytest.mark.parametrize("case", ON_DATA)
def test_what_the_proof_does_not_cover_is_measured_again_on_the_data(
    stored: Stored, case: str, tmp_path: Path
) -> None:
    """By somebody who can log runs too."""
    for change, *_ in ON_DATA[case]:
        change(stored)
    stored.log_again()
    assert stored.check()[0] == 0
    says = [line for _, *lines in ON_DATA[case] for line in lines]
    if not says:
        exit_code, out = stored.check("--data-root", str(tmp_path))
        assert exit_code == 0, out
        assert out.endswith(f"; measured again {MEANT}\n")
        return
    out = stored.refused("--data-root", str(tmp_path))
    for line in says:
        assert out.count(line) == 1, (line, out)


def test_no_proven_metric_may_be_smaller_than_what_is_proven(stored: Stored) -> None:
    for name in PROVEN_METRICS:
        metric(name, lambda value: value / 2)(stored)
    out = stored.refused()
    for name in PROVEN_METRICS:
        assert f"run: its metric {name} is " in out


@pytest.mark.parametrize("tools", ["", "==80.1"])
def test_a_model_verifies_whatever_tools_its_environment_had(stored: Stored, tools: str) -> None:
    """MLflow writes the versions of pip, setuptools and wheel only if they are installed."""
    for name, sign in (("python_env.yaml", "=="), ("conda.yaml", "<=")):
        path = stored.folder / name
        text = re.sub(
            rf"^- (pip|setuptools|wheel)({sign}\S+)?$",
            rf"- \1{tools.replace('==', sign)}",
            path.read_text(),
            flags=re.MULTILINE,
        )
        assert text != path.read_text()
        path.write_text(text)
    stored.log_again()
    exit_code, out = stored.check()
    assert exit_code == 0, out


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def other_code(stored: Stored, tmp_path: Path) -> Path:
    """A file that exists once the stored code is run, which is not the code at hand."""
    touched = tmp_path / "touched"
    path = stored.folder / CODE / "__init__.py"
    path.write_text(path.read_text() + f"\nopen({str(touched)!r}, 'w').close()\n")
    assert f"{CODE}/__init__.py is not the file that was logged" in stored.refused()
    stored.log_again()
    return touched


@pytest.fixture
def own_clone(stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone that this code is run from, as far as git is asked; no commit has other code."""
    root = tmp_path / "clone"
    shutil.copytree(stored.folder / CODE, root / "models")
    (root / "models" / "README.md").write_text("is not stored")
    git(tmp_path, "init", "-q", str(root))
    git(root, "add", ".")
    git(root, "commit", "-qm", "this version")
    monkeypatch.setattr(clone, "_ROOT", root)
    return root


def test_other_code_is_refused_unless_a_commit_has_it_and_is_not_run(
    stored: Stored, own_clone: Path, other_code: Path
) -> None:
    """Of a branch that was merged, though the merge has nothing of it."""
    assert "code: it must be models/ as it is here or in a commit" in stored.refused()
    git(own_clone, "checkout", "-qb", "branch")
    shutil.copy(stored.folder / CODE / "__init__.py", own_clone / "models")
    git(own_clone, "commit", "-qam", "other version")
    commit = git(own_clone, "rev-parse", "HEAD")
    git(own_clone, "checkout", "-q", "-")
    (own_clone / "models" / "README.md").write_text("changed")
    git(own_clone, "commit", "-qam", "meanwhile")
    git(own_clone, "merge", "-qs", "ours", "branch")
    git(own_clone, "branch", "-D", "branch")
    exit_code, out = stored.check()
    assert exit_code == 0, out
    assert f", invertible; stored with the models/ of commit {commit[:12]}; " in out
    assert not other_code.exists()


@pytest.mark.parametrize("why", ["no clone", "no git", "not all of it"])
def test_of_other_code_without_a_history_nothing_is_said(
    stored: Stored, own_clone: Path, other_code: Path, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "no clone":
        shutil.rmtree(own_clone / ".git")
    elif why == "no git":
        monkeypatch.setenv("PATH", str(own_clone))
    else:
        head = git(own_clone, "rev-parse", "HEAD")
        (own_clone / ".git" / "shallow").write_text(f"{head}\n")
    exit_code, out = stored.check()
    assert exit_code == 0, out
    assert "stored with another version of models/ or changed code, which only a full clone" in out
    assert not other_code.exists()


def test_files_that_mlflow_would_load_beside_the_model_are_refused(stored: Stored) -> None:
    """It lays the model over what the run has under the model's name."""
    evil = stored.of_run / "model" / "code" / "models" / "stored" / "__init__.py"
    evil.parent.mkdir(parents=True)
    evil.write_text("raise SystemExit")
    assert "run: it must have no files under model beside its model, but has" in stored.refused()


def test_a_folder_in_the_place_of_a_runs_file_is_bad_input(stored: Stored) -> None:
    (stored.of_run / "network.json").unlink()
    (stored.of_run / "network.json").mkdir()
    (stored.of_run / "network.json" / "x").write_text("")
    exit_code, out = stored.check()
    assert exit_code in (1, 2)
    assert out.count("\n") == 1


def test_the_runs_own_files_must_be_those_that_were_logged_and_those_of_the_model(
    stored: Stored,
) -> None:
    files = set(manifest(stored.of_run))
    assert {"network.json", "certificate.json", "inverse.json", "val_right.json"} < files
    for name in files:
        path = stored.of_run / name
        with put_back(path) as content:
            path.write_bytes(content + b" ")
            assert f"run: its {name} is not the file that was logged" in stored.refused()
            if name in ("network.json", "certificate.json"):
                stored.tag(RUN_FILES, json.dumps(manifest(stored.of_run)))
                assert f"run: its {name} is not that of the model" in stored.refused()
            path.unlink()
            assert f"run: it must have {name}, but has not" in stored.refused()
        stored.tag(RUN_FILES, json.dumps(manifest(stored.of_run)))
    assert stored.check()[0] == 0


def test_of_a_study_without_digests_of_its_own_files_it_is_said_what_was_not_checked(
    stored: Stored,
) -> None:
    """As earlier versions stored it; still earlier ones had no val_right.json."""
    stored.tag(RUN_FILES, None)
    others = set(manifest(stored.of_run)) - {"network.json", "certificate.json"}
    for missing in (None, "val_right.json"):
        if missing is not None:
            (stored.of_run / missing).unlink()
        exit_code, out = stored.check()
        assert exit_code == 0, out
        names = ", ".join(sorted(others - {missing}))
        assert f"; not checked, since their digests were not stored: {names}; " in out


def test_the_inverse_is_measured_again_without_digests_too(stored: Stored, tmp_path: Path) -> None:
    """Whoever can delete the tag of the digests gains nothing by it."""
    stored.tag(RUN_FILES, None)
    write_inverse(needed_steps_mean=[1])(stored)
    said = stored.refused("--data-root", str(tmp_path))
    assert "needed_steps_mean must be a list of 2" in said
    (stored.of_run / "inverse.json").unlink()
    assert "inverse.json: it must be an object of JSON" in stored.refused(
        "--data-root", str(tmp_path)
    )


@pytest.mark.parametrize("has_digests", [True, False])
def test_the_accuracies_must_be_those_of_the_images_that_are_right_and_certified(
    stored: Stored, has_digests: bool
) -> None:
    client = stored.client
    if not has_digests:
        stored.tag(RUN_FILES, None)
    for name in ("val_accuracy", "certified_accuracy"):
        accuracy = client.get_run(stored.run_id).data.metrics[name]
        for step, other in enumerate([accuracy + 2e-5, float("nan")]):
            client.log_metric(stored.run_id, name, other, step=100 + step)
            assert "run: val_right.json has " in stored.refused()
        client.log_metric(stored.run_id, name, accuracy, step=200)
    assert stored.check()[0] == 0
    path = stored.of_run / "val_right.json"
    content = json.loads(path.read_text())
    for changed in ({**content, "n_images": content["n_images"] - 1}, "[" * 5000):
        path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
        if has_digests:
            stored.tag(RUN_FILES, json.dumps(manifest(stored.of_run)))
        assert "run: val_right.json " in stored.refused()


def test_a_sample_that_is_not_that_of_the_network_is_refused(stored: Stored) -> None:
    sample = json.loads(stored.client.get_run(stored.run_id).data.tags["study.sample"])
    assert sample.keys() == {"coeff", "n_power_iterations", "dropout"}
    for key, value in sample.items():
        stored.tag("study.sample", json.dumps({**sample, key: value + 1}))
        out = stored.refused()
        assert f"run: {key} of its sample is {value + 1}, but that of" in out
        assert f"run: {key} of its sample is {value + 1}, but its parameter is {value}" in out


@pytest.mark.parametrize("kind", ["trial", "projection"])
def test_the_model_of_another_run_is_refused(
    stored: Stored, records: list[TrialRecord], kind: str
) -> None:
    """With all of its files, both manifests, and every metric, as if the run were its own."""
    (own,) = (r for r in records if r.run_id == stored.run_id)
    other = next(
        r
        for r in records
        if r.trial_id != own.trial_id and (r.projected_to is not None) is (kind == "projection")
    )
    run = stored.client.get_run(other.run_id)
    take_files(stored, run)
    for name, value in run.data.metrics.items():
        stored.client.log_metric(stored.run_id, name, value, step=100)
    stored.refused()
    stored.log_again()
    stored.tag("study.sample", json.dumps(other.sample))
    out = stored.refused()
    for key in ("run_id", "model_id", "study"):
        assert f"model: {key} of MLmodel must be " in out
    with pytest.raises(UserError, match=f"run_id of MLmodel must be {stored.run_id}"):
        api.open("tiny", tracking_uri=stored.uri).load(stored.run_id)


def test_what_is_claimed_may_be_worse_and_never_better(stored: Stored) -> None:
    client = stored.client
    # Without the room that certificates leave.
    bound = certify(read_network(stored.folder / DATA), search_room=0.0).lipschitz_upper_bound
    for step, (factor, exit_code) in enumerate(
        [(1 + 5e-7, 0), (1 - 5e-8, 1), (1.01, 0), (float("nan"), 1)]
    ):
        client.log_metric(stored.run_id, "lipschitz_upper_bound", bound * factor, step=100 + step)
        got, out = stored.check()
        assert got == exit_code, (factor, out)
        if exit_code:
            # What the two differ by can be seen, however little that is.
            claimed, given = re.findall(
                r"run: its metric lipschitz_upper_bound is (\S+), but the weights give (\S+)\n", out
            )[0]
            assert claimed != given
            assert float(given) == pytest.approx(bound, rel=1e-6)
        else:
            # What is printed is what was proven here.
            assert f"proven bound {reported(bound):.4g}, " in out


@pytest.mark.parametrize(("wider_by", "exit_code"), [(0.5, 0), (2.0, 1)])
def test_a_claim_holds_where_the_search_ends_a_little_elsewhere(
    stored: Stored, monkeypatch: pytest.MonkeyPatch, wider_by: float, exit_code: int
) -> None:
    """As on another processor, by a multiple of the room that certificates leave for it."""

    def search(*args: Any, **kwargs: Any) -> torch.Tensor:
        neutral = torch.tensor([0.0, 1.0, 1.0])
        found = block_bounds(*args, **kwargs)
        return neutral + (found - neutral) * (1 + wider_by * SEARCH_ROOM)

    monkeypatch.setattr(bottleneck_bounds, "block_bounds", search)
    got, out = stored.check()
    assert got == exit_code, out
    assert ("inverse_lipschitz_upper_bound of body." in out) == (exit_code == 1)


def test_a_certificate_may_claim_no_inverse_where_one_is_proven(stored: Stored) -> None:
    claim("inverse_lipschitz_upper_bound", math.inf)(stored)
    stored.log_again()
    assert "certificate: invertible is True, but the weights give False" in stored.refused()
    claim("invertible", False)(stored)
    stored.log_again()
    assert stored.check()[0] == 0


def test_what_is_proven_decides_whether_it_is_invertible(stored: Stored) -> None:
    """A network without a proof, whose run says so: all of it is true."""
    stored.edit_weights(scale_the_last_layers)
    model = read_network(stored.folder / DATA)
    certificate = certify(model, "full")
    assert not certificate.contraction
    assert not certificate.invertible
    before = json.loads((stored.folder / CERTIFICATE).read_text())
    content = {**before, **certificate.to_dict()}
    (stored.folder / CERTIFICATE).write_text(json.dumps(content))
    stored.log_again()
    bound = certificate.lipschitz_upper_bound
    assert "run: its metric lipschitz_upper_bound is" in stored.refused()
    for name, value in (
        ("lipschitz_upper_bound", bound),
        ("inverse_lipschitz_upper_bound", sys.float_info.max),  # as MLflow stores infinity
        ("logit_lipschitz_upper_bound", certificate.logit_lipschitz_upper_bound),
    ):
        stored.client.log_metric(stored.run_id, name, value, step=100)
    exit_code, out = stored.check()
    assert exit_code == 0, out
    assert f"proven bound {reported(bound):.4g}, not proven to be invertible" in out


def test_a_manifest_that_was_edited_or_deleted_is_refused(stored: Stored) -> None:
    other = json.dumps({**manifest(stored.folder), WEIGHTS: "0" * 64})
    for tag in (
        "", "{", "null", "[]", '{"MLmodel": 1}', "{}", '{"../../x": "0"}', "[" * 5000,
        '{"\\ud800\\n": "0"}', other,
    ):  # fmt: skip
        stored.tag(MODEL_FILES, tag)
        out = stored.refused()
    assert f"model: {WEIGHTS} is not the file that was logged" in out
    stored.tag(MODEL_FILES, None)
    assert "manifest: the run must have the tag study.model_files, but has none" in stored.refused()


def test_a_second_model_of_the_run_is_refused(stored: Stored, study: StudyRecord) -> None:
    stored.client.create_logged_model(study.experiment_id, "model", source_run_id=stored.run_id)
    assert "model: the run must have one, but has 2" in stored.refused()


@pytest.mark.parametrize(
    ("which", "state", "says"),
    [
        ("none", "completed", "not found"),
        ("study", "completed", "has no lipschitz_upper_bound"),
        *(("trial", state, "but") for state in ("running", "stopped_early", "failed", "x\n", None)),
    ],
)
def test_what_is_no_run_of_a_completed_network_is_bad_input(
    stored: Stored, study: StudyRecord, which: str, state: str | None, says: str
) -> None:
    stored.tag("study.state", state)
    run_id = {"none": "0" * 32, "study": study.run_id, "trial": stored.run_id}[which]
    done = CliRunner().invoke(app, [run_id, "--tracking-uri", stored.uri])
    assert done.exit_code == 2
    if which != "none":
        rule = "error: NETWORK: must be the run of a completed trial or of a projection, but"
        assert done.output.startswith(f"{rule} {run_id} ")
    assert says in done.output
    assert done.output.count("\n") == 1


def test_a_database_that_is_not_there_is_bad_input_and_is_not_made(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    done = CliRunner().invoke(app, ["0" * 32, "--tracking-uri", uri])
    assert done.exit_code == 2
    assert "there is no run" in done.output
    assert list(tmp_path.iterdir()) == []


def test_the_help_names_a_rung_by_its_bound() -> None:
    out = " ".join(CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output.split())
    assert "STUDY/TRIAL@BOUND" in out
