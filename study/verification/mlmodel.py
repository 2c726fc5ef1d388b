"""Which run a logged model belongs to, and what MLflow would load and install with it."""

import re
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from models import NETWORK
from study.tracking.stored_model import CODE, DATA, LOADER, REQUIREMENTS
from study.tracking.values import as_json

# A version number at the end of a line in the files below.
_VERSION = re.compile(r"(==|<=|=|: )[0-9][0-9A-Za-z.]*$", re.MULTILINE)
# MLflow writes the versions of these tools if they are installed; a uv environment lacks them.
_TOOL = re.compile(r"^( *- (?:pip|setuptools|wheel))[=<]=V$", re.MULTILINE)

_PACKAGES = [f"{name}==V" for name in REQUIREMENTS]
# The expected content of each file, with V for versions; for MLmodel also which keys have a value.
_EXPECTED: dict[str, Any] = {
    "the keys of MLmodel": [
        "artifact_path", "flavors", "is_signature_from_type_hint", "metadata", "mlflow_version",
        "model_id", "model_size_bytes", "model_uuid", "run_id", "signature",
        "type_hint_from_example", "utc_time_created",
    ],
    "flavors of MLmodel": {
        "python_function": {
            "code": Path(CODE).parent.as_posix(),
            "data": DATA,
            "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
            "loader_module": LOADER,
            "python_version": "V",
            "streamable": False,
        }
    },
    "conda.yaml": {
        "channels": ["conda-forge"],
        "dependencies": ["python=V", "pip", {"pip": _PACKAGES}],
        "name": "mlflow-env",
    },
    "python_env.yaml": {
        "build_dependencies": ["pip", "setuptools", "wheel"],
        "dependencies": ["-r requirements.txt"],
        "python": "V",
    },
    "requirements.txt": _PACKAGES,
    "code/": [Path(CODE).name],
    "files of the code that are not Python's": [],
}  # fmt: skip


def other_identity(folder: Path, model_id: str, origin: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each sign that a model was logged for another run, or that its MLmodel
    names other data than its network. `origin` is the run and trial that MLmodel must name."""
    expected = {"run_id": origin["run_id"], "model_id": model_id, "study": origin}
    described = as_json((folder / DATA / NETWORK).read_bytes(), dict) or {}
    try:
        about = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
        # An experiment may have been renamed.
        study = {key: v for key, v in about["metadata"]["study"].items() if key != "name"}
        found = {"run_id": about["run_id"], "model_id": about["model_id"], "study": study}
        is_same_data = about["metadata"]["data"] == described.get("data")
    except Exception as error:  # a changed file may fail in any way
        yield f"model: MLmodel cannot be read: {type(error).__name__}: {error}"
        return
    if not is_same_data:
        yield f"model: data of MLmodel is not that of {NETWORK}"
    for key, value in expected.items():
        if found[key] != value:
            yield f"model: {key} of MLmodel must be {value}, but is {reprlib.repr(found[key])}"


def other_loading(folder: Path) -> Iterator[str]:
    """Yield a sentence for each unchecked file or package that MLflow would load or install."""
    code = (folder / CODE).parent
    try:
        about = _yaml(folder / "MLmodel")
        found = {
            "the keys of MLmodel": sorted(key for key, v in about.items() if v is not None),
            "flavors of MLmodel": about["flavors"],
            "conda.yaml": _yaml(folder / "conda.yaml"),
            "python_env.yaml": _yaml(folder / "python_env.yaml"),
            "requirements.txt": _without_versions(folder / "requirements.txt").splitlines(),
            "code/": sorted(path.name for path in code.iterdir()),
            "files of the code that are not Python's": sorted(
                path.name for path in code.rglob("*") if path.is_file() and path.suffix != ".py"
            ),
        }
    except Exception as error:  # as above
        yield f"model: MLmodel or what it names cannot be read: {type(error).__name__}: {error}"
        return
    for name, expected in _EXPECTED.items():
        # Equality goes only as deep as the expected value; YAML aliases may expand to billions.
        if found[name] != expected:
            shown = reprlib.repr(found[name])
            yield f"model: {name} must be {expected} in a logged model, but is {shown}"


def _yaml(path: Path) -> Any:
    return yaml.safe_load(_without_versions(path))


def _without_versions(path: Path) -> str:
    """The text of a file with V for each version, and no versions of pip, setuptools and wheel."""
    return _TOOL.sub(r"\1", _VERSION.sub(r"\1V", path.read_text(encoding="utf-8")))
