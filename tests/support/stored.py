"""A network of a real study of which everything may be changed, and what is changed of it."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from study.metrics.definitions import as_reported
from study.tracking.server.files import condensed, manifest
from study.tracking.stored_model import CODE, DATA
from study.verify import app

MODEL_FILES, RUN_FILES = "study.model_files", "study.run_files"
LAYER = "body.1.residual.2.weight"
WEIGHTS = f"{DATA}/weights.safetensors"
NETWORK = f"{DATA}/network.json"
CERTIFICATE = f"{DATA}/certificate.json"


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

    @property
    def run(self) -> Run:
        return self.client.get_run(self.run_id)

    @property
    def sample(self) -> dict[str, Any]:
        sample: dict[str, Any] = json.loads(self.run.data.tags["study.sample"])
        return sample

    def sql(self, statement: str, *values: object) -> None:
        path = self.uri.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(statement, values)

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

    def verified(self, *options: str) -> str:
        """Its lines, where it is verified."""
        exit_code, out = self.check(*options)
        assert exit_code == 0, out
        return out

    def log_again(self) -> None:
        """Make the run's files those of the model, and both manifests anew."""
        for name in ("network.json", "certificate.json"):
            shutil.copy(self.folder / DATA / name, self.of_run / name)
        self.tag(MODEL_FILES, json.dumps(condensed(manifest(self.folder), [f"{CODE}/"])))
        self.tag(RUN_FILES, json.dumps(manifest(self.of_run)))

    def edit(self, name: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change a JSON file of the model, or of the run."""
        path = (self.folder if "/" in name else self.of_run) / name
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


def copied(study_uri: str, run_id: str, folder: Path) -> Stored:
    """A copy of the network of a run, in a folder of its own."""
    database = folder / "mlflow.db"
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
            copy = folder.joinpath(*Path(source).parts[-2:])
            shutil.copytree(source, copy)
            connection.execute(f"UPDATE {table} SET {column} = ? {where}", [str(copy), run_id])
            copies.append(copy)
    return Stored(f"sqlite:///{database}", run_id, *copies)


def reported(bound: float) -> float:
    return as_reported({"block_lipschitz_upper_bound": bound})["block_lipschitz_upper_bound"]


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


def unclaimed(key: str) -> Callable[[Stored], None]:
    return lambda stored: stored.edit(CERTIFICATE, lambda content: content.pop(key))


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


def metric(name: str, change: Callable[[float], float]) -> Callable[[Stored], None]:
    """Change the last value of a metric of the run."""

    def log(stored: Stored) -> None:
        last = stored.client.get_metric_history(stored.run_id, name)[-1]
        stored.client.log_metric(stored.run_id, name, change(last.value), step=last.step + 1)

    return log


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


def forget(stored: Stored, name: str) -> None:
    """Delete a metric of the run."""
    for table in ("metrics", "latest_metrics"):
        stored.sql(f"DELETE FROM {table} WHERE key = ? AND run_uuid = ?", name, stored.run_id)
