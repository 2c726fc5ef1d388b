"""A network as MLflow keeps it: logged with its proof, fetched to be looked at.

Apart from study.tracking, since only who has networks at hand needs torch.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pytorch
import numpy as np
import torch
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

import models

_PROOF = ("certificate.json", "network.json")
EXTRA_FILES = "extra_files"
"""Folder of a logged model with its certificate.json, and with network.json, which says which
network that certifies."""
WEIGHTS_FILE = "data/model.pth"
"""Within a logged model: the pickled network."""
CODE_FOLDER = "code/models"
"""Within a logged model: the code that it brings."""


def log(
    tracking_uri: str,
    run_id: str,
    folder: Path,
    model: models.IResNet,
    study: Mapping[str, Any],
) -> None:
    """Log a network as the model of a run.

    Args:
        folder: with certificate.json and network.json, which go with it.
        study: which study, trial and run it is of; plain values, for the model's metadata.
    """
    data = json.loads((folder / "network.json").read_text())["data"]
    with _current(tracking_uri), mlflow.start_run(run_id=run_id):
        # Pickled, since the other format keeps the forward pass alone; the code of `models` goes
        # with it, so that it loads where this project is not installed.
        mlflow.pytorch.log_model(
            model,
            name="model",
            serialization_format="pickle",
            code_paths=[str(Path(models.__file__).parent)],
            pip_requirements=[f"torch=={torch.__version__.split('+')[0]}", "numpy"],
            extra_files=[str(folder / name) for name in _PROOF],
            metadata={"study": dict(study), "data": data},
            signature=ModelSignature(
                Schema([TensorSpec(np.dtype("float32"), (-1, *model.in_shape))]),
                Schema([TensorSpec(np.dtype("float32"), (-1, model.n_classes))]),
            ),
        )


def fetch(tracking_uri: str, run_id: str, folder: Path) -> Path:
    """Copy the model of a run into a folder; where it is now."""
    with _current(tracking_uri):
        uri = f"runs:/{run_id}/model"
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))


def layout_problems(folder: Path) -> Iterator[str]:
    """Where a logged model would load another file, or other code, than those named above."""
    try:
        flavors = mlflow.models.Model.load(str(folder)).flavors
        pickled_by = (folder / "data" / "pickle_module_info.txt").read_text()
        with_code = sorted(path.name for path in (folder / "code").iterdir())
    except Exception as error:  # YAML's, MLflow's and the system's: a file that is not what it was
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


def register(tracking_uri: str, run_id: str, name: str, tags: dict[str, Any]) -> str:
    """Make the model of a run a new version of a registered model; returns the version."""
    with _current(tracking_uri):
        return str(mlflow.register_model(f"runs:/{run_id}/model", name, tags=tags).version)


@contextmanager
def _current(tracking_uri: str) -> Iterator[None]:
    """Models are looked for at MLflow's current server alone, which is a setting of the process."""
    # MLflow writes it into the environment too, and looks there when it is None.
    variable = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(tracking_uri)
    try:
        yield
    finally:
        # None takes it back, as MLflow's code provides for and its annotation leaves out: the one
        # before, set again, would hide what the environment says later. Whoever had set it finds
        # the same in the environment.
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
        if variable is not None:
            os.environ["MLFLOW_TRACKING_URI"] = variable
