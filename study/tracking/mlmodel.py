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

_VERSION = re.compile(r"^([a-z]*(?:==|<=|=)?)[0-9][0-9A-Za-z.]*$")
# MLflow names the version of each that the environment has; one of uv has none of them.
_TOOL = re.compile(r"^(pip|setuptools|wheel)[=<]=V$")

_ANY = object()
_PACKAGES = [f"{name}==V" for name in REQUIREMENTS]
# Of each file its content, with V for a version; of MLmodel the keys that have a value.
_EXPECTED: dict[str, Any] = {
    "MLmodel": {
        **dict.fromkeys(
            [
                "artifact_path", "is_signature_from_type_hint", "metadata", "mlflow_version",
                "model_id", "model_size_bytes", "model_uuid", "run_id", "signature",
                "type_hint_from_example", "utc_time_created",
            ],
            _ANY,
        ),
        "flavors": {
            "python_function": {
                "code": Path(CODE).parent.as_posix(),
                "data": DATA,
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "loader_module": LOADER,
                "python_version": "V",
                "streamable": _ANY,
            }
        },
    },
    "conda.yaml": {
        "channels": ["conda-forge"],
        "dependencies": ["python=V", "pip", {"pip": _PACKAGES}],
        "name": _ANY,
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
        about = _yaml(folder / "MLmodel")
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
        found: dict[str, Any] = {
            name: _yaml(folder / name) for name in ("MLmodel", "conda.yaml", "python_env.yaml")
        }
        found["MLmodel"] = {k: v for k, v in found["MLmodel"].items() if v is not None}
        found["requirements.txt"] = (folder / "requirements.txt").read_text().splitlines()
        found["code/"] = sorted(path.name for path in code.iterdir())
        found["files of the code that are not Python's"] = sorted(
            path.name for path in code.rglob("*") if path.is_file() and path.suffix != ".py"
        )
    except Exception as error:  # as above
        yield f"MLmodel or what it names cannot be read: {type(error).__name__}: {error}"
        return
    for name, expected in _EXPECTED.items():
        yield from _differences(name, found[name], expected)


def _differences(what: str, found: object, expected: object) -> Iterator[str]:
    """A sentence for each place where a file's content is not as expected. What was read is looked
    at only as deep as something is expected: a few aliases of YAML may stand for billions."""
    if expected is _ANY:
        return
    if isinstance(expected, dict) and isinstance(found, dict):
        if found.keys() == expected.keys():
            for key, value in expected.items():
                yield from _differences(f"{key} of {what}", found[key], value)
        else:
            keys = reprlib.repr(sorted(map(str, found)))
            yield f"{what} must have the keys {sorted(expected)}, but has {keys}"
    elif isinstance(expected, list) and isinstance(found, list) and len(found) == len(expected):
        for one, value in zip(found, expected, strict=True):
            yield from _differences(what, one, value)
    elif (_without_version(found) if isinstance(found, str) else found) != expected:
        yield f"{what} must be {expected} in a logged model, but is {reprlib.repr(found)}"


def _without_version(requirement: str) -> str:
    """A requirement with V for its version; that of a tool that installs packages without one."""
    return _TOOL.sub(r"\1", _VERSION.sub(r"\1V", requirement))


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))
