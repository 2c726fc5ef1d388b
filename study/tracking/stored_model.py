"""A network as MLflow keeps it: logged with its proof, fetched to be checked, registered.

Apart from the other modules, since it imports torch.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pytorch
import numpy as np
import torch
from mlflow.entities import Run
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

import models
from study.artifacts import CERTIFICATE, MODEL, NETWORK
from study.tracking import tags
from study.tracking.client import Client
from study.tracking.runs import Runs

EXTRA_FILES = "extra_files"
"""Folder of a logged model: its CERTIFICATE, and NETWORK, the network that it certifies."""
WEIGHTS_FILE = "data/model.pth"
"""Within a logged model: the pickled network."""
CODE_FOLDER = "code/models"
"""Within a logged model: the code that it brings."""


def log(client: Client, run: Run, folder: Path, model: models.IResNet) -> None:
    """Log a network as that of a run: the JSON files and pictures of its folder, and the model.

    Args:
        folder: where `trial.network_files` wrote it.
    """
    runs = Runs(client)
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".png"):
            runs.log_file(run.info.run_id, path)
    of_run = run.data.tags
    origin = {
        "name": client.call(client.api.get_experiment, run.info.experiment_id).name,
        "run_id": run.info.run_id,
        "trial_id": of_run[tags.TRIAL_ID],
    }
    if tags.PROJECTED_TO in of_run:
        origin["projected_to"] = of_run[tags.PROJECTED_TO]
    client.call(_log_model, client.tracking_uri, run.info.run_id, folder, model, origin)


def _log_model(
    tracking_uri: str,
    run_id: str,
    folder: Path,
    model: models.IResNet,
    origin: Mapping[str, Any],
) -> None:
    """Log a model with its proof.

    Args:
        origin: study, trial and run; plain values, for the model's metadata.
    """
    data = json.loads((folder / NETWORK).read_text())["data"]
    with _current(tracking_uri), mlflow.start_run(run_id=run_id):
        # Pickled, since the other format keeps the forward pass alone. The code of `models` goes
        # with it, so that it loads where this project is not installed.
        mlflow.pytorch.log_model(
            model,
            name=MODEL,
            serialization_format="pickle",
            code_paths=[str(Path(models.__file__).parent)],
            pip_requirements=[f"torch=={torch.__version__.split('+')[0]}", "numpy"],
            extra_files=[str(folder / name) for name in (CERTIFICATE, NETWORK)],
            metadata={"study": dict(origin), "data": data},
            signature=ModelSignature(
                Schema([TensorSpec(np.dtype("float32"), (-1, *model.in_shape))]),
                Schema([TensorSpec(np.dtype("float32"), (-1, model.n_classes))]),
            ),
        )


def fetch(client: Client, run_id: str, folder: Path) -> Path:
    """Copy the model of a run into a folder; returns where it is then."""

    def download() -> str:
        with _current(client.tracking_uri):
            return mlflow.artifacts.download_artifacts(
                artifact_uri=f"runs:/{run_id}/{MODEL}", dst_path=str(folder)
            )

    return Path(client.call(download))


def register(
    client: Client, name: str, run_id: str, aliases: Sequence[str], version_tags: Mapping[str, str]
) -> str:
    """Make the model of a run a version of a registered model, with aliases; returns the version.
    A run that is a version already keeps it."""
    runs = Runs(client)
    (model,) = runs.model_ids(runs.get(run_id))
    versions = client.call(client.api.search_model_versions, f"run_id = '{run_id}'")
    # One that somebody made of other files of this run is no version of this model.
    of_model = (v for v in versions if v.name == name and v.source == f"models:/{model}")
    version = next((str(v.version) for v in of_model), None)
    if version is None:

        def new_version() -> str:
            with _current(client.tracking_uri):
                uri = f"runs:/{run_id}/{MODEL}"
                return str(mlflow.register_model(uri, name, tags=dict(version_tags)).version)

        version = client.call(new_version)
    for alias in aliases:
        client.call(client.api.set_registered_model_alias, name, alias, version)
    return version


def layout_problems(folder: Path) -> Iterator[str]:
    """A sentence for each place where a logged model would load another file, or other code, than
    WEIGHTS_FILE and CODE_FOLDER."""
    try:
        flavors = mlflow.models.Model.load(str(folder)).flavors
        pickled_by = (folder / "data" / "pickle_module_info.txt").read_text()
        with_code = sorted(path.name for path in (folder / "code").iterdir())
    except Exception as error:  # of YAML, MLflow or the system, if the file was changed
        yield f"model: its MLmodel cannot be read: {' '.join(str(error).split())[:200]}"
        return
    loads = {
        "flavors": sorted(flavors),
        "model_data": flavors.get("pytorch", {}).get("model_data"),
        "code": [flavor.get("code") for flavor in flavors.values()],
        "loader_module": flavors.get("python_function", {}).get("loader_module"),
        "data": flavors.get("python_function", {}).get("data"),
        "pickle module": pickled_by,
        "code/": [name for name in with_code if name != "__pycache__"],
    }
    expected = {
        "flavors": ["python_function", "pytorch"],
        "model_data": "data",
        "code": ["code", "code"],
        "loader_module": "mlflow.pytorch",
        "data": "data",
        "pickle module": "mlflow.pytorch.pickle_module",
        "code/": ["models"],
    }
    for key, value in expected.items():
        if loads[key] != value:
            yield f"model: {key} must be {value} in a logged model, but is {loads[key]!s:.80}"


@contextmanager
def _current(tracking_uri: str) -> Iterator[None]:
    """MLflow looks for models at its current server alone, which is a setting of the process."""
    # MLflow writes it into the environment too, and reads it there when the setting is None.
    variable = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(tracking_uri)
    try:
        yield
    finally:
        # None, and not the setting of before: that would hide later changes of the environment.
        # MLflow's code takes None, its annotation does not.
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
        if variable is not None:
            os.environ["MLFLOW_TRACKING_URI"] = variable
