"""Whether a stored model still is what was logged, and what is proven of it.

Nothing of the model's code is run: the network is built by the code at hand, from the arguments and
tensors that are stored, and certified again. That bound is what counts. The run's metric and its
certificate must not say more than that, its accuracy must be that of the images which it has right,
and its sample that of the network. Its other metrics and tags, and the empirical constants beside
the certificate, are not looked at.
"""

import hashlib
import json
import math
import re
import reprlib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from mlflow.entities import Run

from models import IResNet, certify, read_network
from models.certificate import ROOM
from models.stored import NETWORK, WEIGHTS
from study.errors import TrackingError, printable
from study.metrics.artifacts import CERTIFICATE, MODEL, VAL_RIGHT, read_right
from study.metrics.definitions import LIPSCHITZ_UPPER_BOUND, VAL_ACCURACY
from study.metrics.reports import TrialStatus
from study.tracking import clone, tags
from study.tracking.manifest import differences, sha256_of
from study.tracking.records import Records, sample_of
from study.tracking.stored_model import (
    CODE,
    DATA,
    LOADER,
    REQUIREMENTS,
    code_folder,
    fetch,
    model_id,
    origin,
)
from study.tracking.values import restored

# By how much more than is proven here a run may claim, relative: other processors round otherwise.
_MOST_ABOVE = 1e-6
# MLflow names the version of each that the environment has; one of uv has none of them.
_TOOL = re.compile(r"^(pip|setuptools|wheel)[=<]=V$")
_VERSION = re.compile(r"^([a-z]*(?:==|<=|=)?)[0-9][0-9A-Za-z.]*$")
# Of MLmodel, those that have a value.
_KEYS = [
    "artifact_path", "flavors", "is_signature_from_type_hint", "metadata", "mlflow_version",
    "model_id", "model_size_bytes", "model_uuid", "run_id", "signature", "type_hint_from_example",
    "utc_time_created",
]  # fmt: skip


@dataclass(frozen=True)
class Proof:
    """What a check of a stored model found.

    Attributes:
        problems: why it is not verified, a sentence each; empty if it is.
        lipschitz_upper_bound: proven here of its tensors; infinite where it has problems that stand
            in the way.
        is_same_code: its code is the code at hand. Otherwise the bound is that of the network which
            the code at hand builds.
        commit: id of a commit of this clone that has its code, where that is not the code at hand;
            None if there is none, or no git history that could tell.
        unchecked: files of its run that may have been changed, since no digest of them was logged.
    """

    problems: tuple[str, ...]
    lipschitz_upper_bound: float = math.inf
    is_same_code: bool = False
    commit: str | None = None
    unchecked: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """For a message, which code a verified model was stored with."""
        if self.is_same_code:
            return "this version of models/"
        if self.commit is not None:
            return f"the models/ of commit {self.commit:.12}"
        return (
            "another version of models/ or changed code, which only a clone with its history can "
            "tell apart"
        )


def verify(records: Records, run_id: str) -> Proof:
    """Check the model of a run again.

    Raises:
        TrackingError: if there is no such run, it is none of a network, or MLflow or the store
            cannot be read.
    """
    run = records.run(run_id)
    state = run.data.tags.get(tags.STATE, "of no state")
    if LIPSCHITZ_UPPER_BOUND not in run.data.metrics:
        problem = f"has no {LIPSCHITZ_UPPER_BOUND}"
    elif state != TrialStatus.COMPLETED:
        problem = f"is {printable(state).replace('_', ' ')}"
    else:
        problem = None
    if problem is not None:
        raise TrackingError(
            "NETWORK: the run of a completed trial or of a projection must be given, but "
            f"{run_id} {problem}"
        )
    with tempfile.TemporaryDirectory() as temporary:
        try:
            logged = _digests(run, tags.MODEL_FILES)
            model = model_id(records.client, run_id)
            folder = fetch(records.client, run_id, Path(temporary))
            of_run, unchecked = _files(records, run)
            return replace(_check(folder, logged, run, model, of_run), unchecked=unchecked)
        except TrackingError:
            raise
        except ValueError as error:
            return _proof([str(error)])


def fetch_as_logged(records: Records, run_id: str, folder: Path) -> Path:
    """Copy the model of a run into a folder; returns where it is then.

    Raises:
        ValueError: if it has not the very files that were logged, or is that of another run.
    """
    run = records.run(run_id)
    logged = _digests(run, tags.MODEL_FILES)
    fetched = fetch(records.client, run_id, folder)
    for problem in differences(fetched, logged):
        raise ValueError(f"model: {problem}")
    for problem in _of_another_run(fetched, run, model_id(records.client, run_id)):
        raise ValueError(f"model: {problem}")
    return fetched


def _proof(
    problems: Sequence[str],
    bound: float = math.inf,
    is_same_code: bool = False,
    commit: str | None = None,
) -> Proof:
    """With every problem as one line, whatever names and values of the model stand in it."""
    return Proof(tuple(map(printable, problems)), bound, is_same_code, commit)


def _digests(run: Run, tag: str) -> dict[str, str]:
    """Files with their digests, as a tag of the run has them."""
    text = run.data.tags.get(tag)
    if text is None:
        raise ValueError(f"manifest: the run must have the tag {tag}, but has none")
    try:
        files = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"manifest: {tag} cannot be read: {error}") from error
    if not isinstance(files, dict) or not all(isinstance(v, str) for v in files.values()):
        raise ValueError(f"manifest: {tag} must name files with their digests")
    return files


def _files(records: Records, run: Run) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """(name -> content of the run's own files that are checked, names of those without a digest).

    Raises:
        ValueError: if one is missing, or is not the file that was logged.
    """
    run_id = run.info.run_id
    there = records.artifacts(run_id)
    if MODEL in there:
        # MLflow loads runs:/RUN_ID/model from both, one over the other.
        raise ValueError(f"run: it must have no files under {MODEL} beside its model, but has some")
    # Earlier versions logged no digests, and still earlier ones no VAL_RIGHT.
    logged = _digests(run, tags.RUN_FILES) if tags.RUN_FILES in run.data.tags else {}
    files = {}
    for name in sorted({NETWORK, CERTIFICATE, *logged, *({VAL_RIGHT} & there)}):
        if name not in there:
            raise ValueError(f"run: it must have {name}, but has not")
        files[name] = records.artifact(run_id, name)
        if name in logged and hashlib.sha256(files[name]).hexdigest() != logged[name]:
            raise ValueError(f"run: its {name} is not the file that was logged")
    # The first two are compared with the model's.
    return files, tuple(map(printable, sorted(there - logged.keys() - {NETWORK, CERTIFICATE})))


def _check(
    folder: Path, logged: Mapping[str, str], run: Run, model: str, of_run: Mapping[str, bytes]
) -> Proof:
    """Check a model that was fetched.

    Args:
        folder: the model's.
        logged: its files with their digests, as the run has them.
        model: its id, as MLflow knows it.
        of_run: name -> content of the run's own files.
    """
    problems = [f"model: {problem}" for problem in differences(folder, logged)]
    needed = (f"{DATA}/{name}" for name in (NETWORK, WEIGHTS, CERTIFICATE))
    problems += (f"model: {name} is missing" for name in needed if name not in logged)
    if problems:
        return _proof(problems)
    # From here on the files are those of the manifest, which may have been made by whoever made
    # them. So what they say is checked too.
    problems += (f"model: {problem}" for problem in _of_another_run(folder, run, model))
    problems += (f"model: {problem}" for problem in _loads_otherwise(folder))
    for name in (NETWORK, CERTIFICATE):
        if (folder / DATA / name).read_bytes() != of_run[name]:
            problems.append(f"run: its {name} is not that of the model")
    try:
        network = read_network(folder / DATA)
        stored = _certificate(folder / DATA / CERTIFICATE)
    except ValueError as error:
        return _proof([*problems, f"model: {error}"])
    problems += (f"run: {problem}" for problem in _other_training(folder, run, of_run))
    if stored.get("in_shape") != list(network.in_shape):
        return _proof([*problems, f"certificate: in_shape is not {list(network.in_shape)}"])
    try:
        certified = _certified(network)
    except (ArithmeticError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        return _proof([*problems, f"model: the network cannot be certified: {error}"])
    problems += _other_claims(stored, certified)
    bound = certified[LIPSCHITZ_UPPER_BOUND]
    claimed = restored(run.data.metrics[LIPSCHITZ_UPPER_BOUND])
    if not _is_true(LIPSCHITZ_UPPER_BOUND, claimed, bound):
        problems.append(
            f"run: its metric {LIPSCHITZ_UPPER_BOUND} is {claimed}, but the weights give {bound}"
        )
    is_same_code, commit = _code(folder / CODE) == _code(code_folder()), None
    if not is_same_code and clone.has_history():
        commit = clone.commit_with(folder / CODE)
        if commit is None:
            problems.append(
                "code: it must be models/ as it is here or in a commit of this clone, but is "
                "neither: it was changed, or the clone lacks its commit"
            )
    return _proof(problems, bound, is_same_code, commit)


def _of_another_run(folder: Path, run: Run, model: str) -> Iterator[str]:
    """A sentence for each way in which a model says that it is that of another run: files of one
    may have been put, with their manifest, in the place of another's."""
    expected: dict[str, object] = {
        "run_id": run.info.run_id, "model_id": model, "study": origin(run),
    }  # fmt: skip
    try:
        about = _yaml(folder / "MLmodel")
        study = about["metadata"]["study"]
        found = {
            "run_id": about["run_id"],
            "model_id": about["model_id"],
            # An experiment may be given another name.
            "study": {key: value for key, value in study.items() if key != "name"},
        }
    except Exception as error:  # whatever a file that was changed makes of these few lines
        yield f"MLmodel cannot be read: {type(error).__name__}: {error}"
        return
    for key, value in expected.items():
        if found[key] != value:
            yield f"{key} of MLmodel must be {value}, but is {reprlib.repr(found[key])}"


def _other_training(folder: Path, run: Run, of_run: Mapping[str, bytes]) -> Iterator[str]:
    """A sentence for each thing that the run says of its training and its files do not."""
    architecture = json.loads((folder / DATA / NETWORK).read_text())["architecture"]
    try:
        sample = sample_of(run)
    except TrackingError as error:
        sample = {}
        yield str(error)
    for key, value in sample.items():
        # A network is stored without its normalization.
        if key != "norm" and key in architecture and architecture[key] != value:
            yield f"{key} of its sample is {value}, but that of the network is {architecture[key]}"
    if VAL_RIGHT in of_run:
        try:
            read_right(of_run[VAL_RIGHT], run.data.metrics.get(VAL_ACCURACY, math.nan))
        except ValueError as error:
            yield str(error)


def _certified(model: IResNet) -> dict[str, Any]:
    """The certificate of now, as it would be written and read."""
    certified: dict[str, Any] = json.loads(json.dumps(certify(model).to_dict()))
    return certified


def _code(folder: Path) -> dict[str, str]:
    """The files of Python below a folder, with their digests. That a model has no others is
    checked by itself; beside the code at hand lies what is no part of it."""
    files = (path for path in folder.rglob("*.py") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def _loads_otherwise(folder: Path) -> Iterator[str]:
    """A sentence for each way in which MLflow would load other files or code than those that are
    checked here, or install other packages."""
    try:
        read = {name: _yaml(folder / name) for name in ("MLmodel", "conda.yaml", "python_env.yaml")}
        about, conda, python = read.values()
        flavor = about["flavors"]["python_function"]
        code = (folder / CODE).parent
        requirements = (folder / "requirements.txt").read_text().splitlines()
        *of_conda, of_pip = conda["dependencies"]
        found = {
            "the keys of MLmodel": sorted(key for key in about if about[key] is not None),
            "flavors": sorted(about["flavors"]),
            "keys of the flavor": sorted(flavor),
            "loader_module": flavor["loader_module"],
            "data": flavor["data"],
            "code": flavor["code"],
            "env": flavor["env"],
            "code/": sorted(path.name for path in code.iterdir()),
            "files of the code that are not Python's": sorted(
                path.name for path in code.rglob("*") if path.is_file() and path.suffix != ".py"
            ),
            "requirements.txt": _without_versions(requirements),
            "conda.yaml": sorted(conda),
            "channels of conda.yaml": conda["channels"],
            "dependencies of conda.yaml": _tools(_without_versions([*of_conda, *of_pip])),
            "pip in conda.yaml": _without_versions(of_pip["pip"]),
            "python_env.yaml": sorted(python),
            "python": _without_versions([python["python"], flavor["python_version"]]),
            "build_dependencies": sorted(_tools(_without_versions(python["build_dependencies"]))),
            "dependencies": python["dependencies"],
        }
    except Exception as error:  # whatever a file that was changed makes of these few lines
        yield f"MLmodel or what it names cannot be read: {type(error).__name__}: {error}"
        return
    packages = [f"{name}==V" for name in REQUIREMENTS]
    expected: dict[str, object] = {
        "the keys of MLmodel": _KEYS,
        "flavors": ["python_function"],
        "keys of the flavor": [
            "code",
            "data",
            "env",
            "loader_module",
            "python_version",
            "streamable",
        ],
        "loader_module": LOADER,
        "data": DATA,
        "code": Path(CODE).parent.as_posix(),
        "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
        "code/": [Path(CODE).name],
        "files of the code that are not Python's": [],
        "requirements.txt": packages,
        "conda.yaml": ["channels", "dependencies", "name"],
        "channels of conda.yaml": ["conda-forge"],
        "dependencies of conda.yaml": ["python=V", "pip", "pip"],
        "pip in conda.yaml": packages,
        "python_env.yaml": ["build_dependencies", "dependencies", "python"],
        "python": ["V", "V"],
        "build_dependencies": ["pip", "setuptools", "wheel"],
        "dependencies": ["-r requirements.txt"],
    }
    for key, value in expected.items():
        if found[key] != value:
            yield f"{key} must be {value} in a logged model, but is {reprlib.repr(found[key])}"


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _without_versions(lines: Sequence[object]) -> list[Any]:
    """Requirements with V for their versions; what is no text stays."""
    return [_VERSION.sub(r"\1V", line) if isinstance(line, str) else line for line in lines]


def _tools(lines: list[Any]) -> list[Any]:
    """Requirements, those of tools that install packages without their versions."""
    return [_TOOL.sub(r"\1", line) if isinstance(line, str) else line for line in lines]


def _certificate(path: Path) -> dict[str, Any]:
    try:
        certificate = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{CERTIFICATE} cannot be read: {error}") from error
    if not isinstance(certificate, dict):
        raise ValueError(f"{CERTIFICATE} must be an object, but is {certificate!s:.80}")
    return certificate


def _other_claims(stored: Mapping[str, Any], certified: Mapping[str, Any]) -> Iterator[str]:
    """Where a stored certificate says what the weights do not give, layers and blocks first."""
    for key in stored.keys() - certified.keys() - {"empirical_lipschitz"}:
        yield f"certificate: {CERTIFICATE} has a key that no certificate has: {key}"
    for key in ("layers", "blocks"):
        then = stored.get(key)
        if _names(then) != _names(certified[key]):
            yield f"certificate: {CERTIFICATE} has not the {key} of the network"
            continue
        assert isinstance(then, list)
        for old, new in zip(then, certified[key], strict=True):
            for what in old.keys() - new.keys():
                yield f"certificate: {new['name']} has a key that no certificate has: {what}"
            for what, value in new.items():
                if not _is_true(what, old.get(what), value):
                    yield _contradiction(f"{what} of {new['name']}", old.get(what), value)
    for key, value in certified.items():
        if key not in ("layers", "blocks") and not _is_true(key, stored.get(key), value):
            yield _contradiction(key, stored.get(key), value)


def _names(parts: object) -> Sequence[object] | None:
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        return None
    return [part.get("name") for part in parts]


def _contradiction(what: str, stored: object, certified: object) -> str:
    return f"certificate: {what} is {stored!s:.60}, but the weights give {certified}"


def _is_true(what: str, stored: object, certified: object) -> bool:
    """Whether a claim is what was found here, or says less, by rounding at most."""
    if not isinstance(certified, float) or type(stored) not in (int, float):
        return type(stored) is type(certified) and stored == certified
    assert isinstance(stored, int | float)
    if stored == certified:
        return True
    if abs(stored) > sys.float_info.max:
        return False
    low, high = (stored, certified) if "lower_bound" in what else (certified, stored)
    return low <= high * (1 + ROOM) and high <= low * (1 + _MOST_ABOVE)
