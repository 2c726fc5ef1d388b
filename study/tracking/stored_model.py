"""A network as MLflow stores it, logged with its proof.

Files of a logged model, each named in a tag of its run:

    MLmodel, requirements.txt, ...      MLflow's own: the loader, and what it needs
    data/network/network.json           the network, and its tensors, as `models` writes them
    data/network/weights.safetensors    of a projection: those of the training
    data/network/changes.safetensors    of a projection: the tensors that differ
    data/network/certificate.json       what is proven of it
    code/models/                        the code that builds it, and its loader

Each model has all of them, so that it can be taken alone.
"""

import filecmp
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Run
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

import models
from models import CHANGES, NETWORK, WEIGHTS
from study.errors import LocationError, TrackingError
from study.metrics.artifacts import CERTIFICATE, MODEL, trained_folder
from study.tracking import files, tags
from study.tracking.client import Client
from study.tracking.manifest import manifest, sha256_of
from study.tracking.records import Records
from study.tracking.values import as_json

DATA = "data/network"
"""Folder of a logged model: NETWORK, WEIGHTS, CERTIFICATE, and for some CHANGES."""
CODE = "code/models"
"""Folder of a logged model with its code."""
LOADER = "models.storage.serving"
REQUIREMENTS = ("mlflow", "torch", "numpy", "safetensors")
"""Packages that a logged model needs, each in the version that it was logged with."""


def code_folder() -> Path:
    """The folder of the code that models are logged with."""
    return Path(models.__file__).parent


def data_digest(records: Records, run_id: str) -> str | None:
    """SHA-256 of a run's images and labels, of all splits; None if its file does not tell."""
    try:
        if NETWORK not in records.artifacts(run_id):
            return None
        content = records.artifact(run_id, NETWORK)
    except LocationError:
        raise
    except TrackingError:
        return None
    return digest_of_data(content)


def digest_of_data(content: bytes) -> str | None:
    """SHA-256 of the images and labels of a network, by the content of its NETWORK; None if that
    does not tell."""
    data = (as_json(content, dict) or {}).get("data")
    digest = data.get("sha256") if isinstance(data, dict) else None
    return digest if isinstance(digest, str) else None


def log(client: Client, run: Run, folder: Path, latest: dict[str, Path]) -> None:
    """Log the network of a run, written to a folder by `trial.network_files`: the JSON files,
    pictures and model. `latest` is the argument of `share`."""
    own = [path for path in sorted(folder.iterdir()) if path.suffix in (".json", ".png")]
    for path in own:
        files.log_file(client, run, path)
    name = client.call(client.api.get_experiment, run.info.experiment_id).name
    of_model = client.call(_log_model, client, run, folder, {"name": name, **origin(run)}, latest)
    of_run = {path.name: sha256_of(path) for path in own}
    # These tags mark the model as logged.
    logged = {tags.MODEL_FILES: json.dumps(of_model), tags.RUN_FILES: json.dumps(of_run)}
    client.log(run.info.run_id, tags=logged)


def origin(run: Run) -> dict[str, str]:
    """The run and trial of a model, as its MLmodel says."""
    names = ("trial_id", tags.TRIAL_ID), ("projected_to", tags.PROJECTED_TO)
    of_run = {key: run.data.tags[tag] for key, tag in names if tag in run.data.tags}
    return {"run_id": run.info.run_id, **of_run}


def _log_model(
    client: Client, run: Run, folder: Path, origin: Mapping[str, Any], latest: dict[str, Path]
) -> dict[str, str]:
    """Log a model with its proof, and `origin` in its metadata; returns its files with their
    digests. MLflow's own `log_model` takes the same steps, but does not return what it writes."""
    run_id = run.info.run_id
    model = client.api.create_logged_model(run.info.experiment_id, MODEL, source_run_id=run_id)
    client.api.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    with tempfile.TemporaryDirectory() as name:
        data, saved = Path(name) / Path(DATA).name, Path(name) / "model"
        data.mkdir()
        has_weights = (folder / WEIGHTS).exists()
        of_weights = folder if has_weights else trained_folder(folder)
        for file in (NETWORK, CERTIFICATE, *([] if has_weights else [CHANGES])):
            shutil.copy(folder / file, data)
        shutil.copy(of_weights / WEIGHTS, data)
        network = json.loads((folder / NETWORK).read_text())
        architecture = network["architecture"]
        precision = np.dtype(network.get("precision", "float32"))
        # Python files alone: nothing else beside them is needed to build a network.
        code = Path(name) / code_folder().name
        shutil.copytree(code_folder(), code, ignore=_all_but_python)
        mlflow.pyfunc.save_model(
            str(saved),
            loader_module=LOADER,
            data_path=str(data),
            code_paths=[str(code)],
            pip_requirements=[f"{name}=={_version(name)}" for name in REQUIREMENTS],
            mlflow_model=Model(
                artifact_path=model.artifact_location,
                model_uuid=model.model_id,
                run_id=run_id,
                model_id=model.model_id,
                metadata={"study": dict(origin), "data": network["data"]},
                signature=ModelSignature(
                    Schema([TensorSpec(np.dtype("float32"), (-1, *architecture["in_shape"]))]),
                    Schema([TensorSpec(precision, (-1, architecture["n_classes"]))]),
                ),
            ),
        )
        logged = manifest(saved)
        there = files.log_model(client, model, saved)
    if there is not None:
        share(there, logged, latest)
    client.api.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return logged


def share(folder: Path, files: Iterable[str], latest: dict[str, Path]) -> None:
    """Hard-link files of a model to equal ones of earlier models: all models of a study share code,
    and those of one training also tensors. Deleting one leaves the files of the others.

    Args:
        files: paths below the folder.
        latest: path -> the file to which that of the next model is linked if they are equal.
    """
    for name in files:
        path, source = folder / name, latest.get(name)
        beside = path.with_name(f".{path.name}.link")
        try:
            if source is not None and filecmp.cmp(source, path, shallow=False):
                os.link(source, beside)
                beside.replace(path)
                continue
        except OSError:
            # It is gone, has too many links, or this file system has none: the copy stays.
            pass
        latest[name] = path


def _all_but_python(folder: str, names: list[str]) -> list[str]:
    paths = [Path(folder, name) for name in names]
    return [p.name for p in paths if p.suffix != ".py" and not (p.is_dir() and any(p.glob("*.py")))]


def _version(package: str) -> str:
    """The version that a package index knows: torch may append its build."""
    return version(package).partition("+")[0]


def model_id(client: Client, run_id: str) -> str:
    """The id of the model of a run. Raises ValueError if the run has not exactly one."""
    ids = client.model_ids(client.get_run(run_id))
    if len(ids) != 1:
        raise ValueError(f"model: the run must have one, but has {len(ids)}")
    return ids[0]
