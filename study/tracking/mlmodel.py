"""MLmodel and the files beside it: which network a logged model is, and what MLflow would load and
install with it."""

import re
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from mlflow.entities import Run

from study.tracking.stored_model import CODE, DATA, LOADER, REQUIREMENTS, origin

# At the end of a line of these files.
_VERSION = re.compile(r"(==|<=|=|: )[0-9][0-9A-Za-z.]*$", re.MULTILINE)
# MLflow names the version of each that the environment has; one of uv has none of them.
_TOOL = re.compile(r"^( *- (?:pip|setuptools|wheel))[=<]=V$", re.MULTILINE)

_PACKAGES = [f"{name}==V" for name in REQUIREMENTS]
# What each file says, with V for a version; which keys of MLmodel have a value.
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


def other_identity(folder: Path, run: Run, model_id: str) -> Iterator[str]:
    """A sentence for each way in which a model says that it is that of another run: files of one
    may have been put, with their manifest, in the place of another's."""
    expected = {"run_id": run.info.run_id, "model_id": model_id, "study": origin(run)}
    try:
        about = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
        # An experiment may be given another name.
        study = {key: v for key, v in about["metadata"]["study"].items() if key != "name"}
        found = {"run_id": about["run_id"], "model_id": about["model_id"], "study": study}
    except Exception as error:  # whatever a file that was changed makes of these few lines
        yield f"MLmodel cannot be read: {type(error).__name__}: {error}"
        return
    for key, value in expected.items():
        if found[key] != value:
            yield f"{key} of MLmodel must be {value}, but is {reprlib.repr(found[key])}"


def other_loading(folder: Path) -> Iterator[str]:
    """A sentence for each way in which MLflow would load other files or code than those that are
    checked, or install other packages."""
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
        yield f"MLmodel or what it names cannot be read: {type(error).__name__}: {error}"
        return
    for name, expected in _EXPECTED.items():
        # Compared only as deep as something is expected: few aliases of YAML may stand for billions
        # of values.
        if found[name] != expected:
            shown = reprlib.repr(found[name])
            yield f"{name} must be {expected} in a logged model, but is {shown}"


def _yaml(path: Path) -> Any:
    return yaml.safe_load(_without_versions(path))


def _without_versions(path: Path) -> str:
    """The text of a file with V for each version, and without that of a tool that installs."""
    return _TOOL.sub(r"\1", _VERSION.sub(r"\1V", path.read_text(encoding="utf-8")))
