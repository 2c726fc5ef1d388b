"""Whether a stored model still is what was logged, and what is proven of it.

Nothing of the model's code is run: the network is built by the code at hand, from the values of the
tensors alone, and certified again. That bound is what counts. What the run says of the model must
not be better.
"""

import json
import math
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from mlflow.entities import Run

from models import IResNet, certify, read_network
from models.certificate import ROOM
from models.stored import NETWORK
from study.artifacts import CERTIFICATE
from study.errors import TrackingError
from study.metrics import LIPSCHITZ_UPPER_BOUND
from study.tracking import tags
from study.tracking.manifest import differences, manifest
from study.tracking.records import Records
from study.tracking.stored_model import CODE, DATA, LOADER, REQUIREMENTS, code_folder, fetch
from study.tracking.values import restored

# By how much more than is proven here a run may claim, relative: other processors round otherwise.
_MOST_ABOVE = 1e-6
_VERSION = re.compile(r"==[0-9][0-9A-Za-z.]*")


@dataclass(frozen=True)
class Proof:
    """What a check of a stored model found.

    Attributes:
        problems: why it is not verified, a sentence each; empty if it is.
        lipschitz_upper_bound: proven here of its tensors; infinite where it has problems that stand
            in the way.
        is_same_code: its code is the code at hand. Otherwise the bound is that of the network which
            the code at hand builds.
    """

    problems: tuple[str, ...]
    lipschitz_upper_bound: float = math.inf
    is_same_code: bool = False


def verify(records: Records, run_id: str) -> Proof:
    """Check the model of a run again.

    Raises:
        TrackingError: if there is no such run, it is none of a network, or the store cannot be
            read.
    """
    run = records.run(run_id)
    if LIPSCHITZ_UPPER_BOUND not in run.data.metrics:
        raise TrackingError(
            "RUN_ID: the run of a completed trial or of a projection must be given, but "
            f"{run_id} has no {LIPSCHITZ_UPPER_BOUND}"
        )
    with tempfile.TemporaryDirectory() as temporary:
        try:
            logged = _logged_files(run)
            folder = fetch(records.client, run_id, Path(temporary))
            return check(folder, logged, _claims(records, run))
        except ValueError as error:
            return Proof((str(error),))


def _logged_files(run: Run) -> dict[str, str]:
    """The manifest that the run holds."""
    text = run.data.tags.get(tags.MODEL_FILES)
    if text is None:
        raise ValueError(f"manifest: the run must have the tag {tags.MODEL_FILES}, but has none")
    try:
        files = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"manifest: {tags.MODEL_FILES} cannot be read: {error}") from error
    if not isinstance(files, dict) or not all(isinstance(v, str) for v in files.values()):
        raise ValueError(f"manifest: {tags.MODEL_FILES} must name files with their digests")
    return files


def _claims(records: Records, run: Run) -> dict[str, Any]:
    """What the run says: its metrics' bound, and its own files."""
    run_id = run.info.run_id
    names = records.artifacts(run_id)
    claims: dict[str, Any] = {
        LIPSCHITZ_UPPER_BOUND: restored(run.data.metrics[LIPSCHITZ_UPPER_BOUND])
    }
    for name in (NETWORK, CERTIFICATE):
        if name not in names:
            raise ValueError(f"run: it must have {name}, but has not")
        claims[name] = records.artifact(run_id, name)
    return claims


def check(folder: Path, logged: Mapping[str, str], claims: Mapping[str, Any]) -> Proof:
    """Check a model that was fetched.

    Args:
        folder: the model's.
        logged: its files with their digests, as the run has them.
        claims: the run's lipschitz_upper_bound, and the bytes of its NETWORK and CERTIFICATE.
    """
    problems = [f"model: {problem}" for problem in differences(folder, logged)]
    if problems:
        return Proof(tuple(problems))
    # From here on the files are those that were logged. The rest is for what was logged wrong.
    problems += (f"model: {problem}" for problem in _loads_otherwise(folder))
    for name in (NETWORK, CERTIFICATE):
        if (folder / DATA / name).read_bytes() != claims[name]:
            problems.append(f"run: its {name} is not that of the model")
    try:
        model = read_network(folder / DATA)
        stored = _certificate(folder / DATA / CERTIFICATE)
    except ValueError as error:
        return Proof((*problems, f"model: {error}"))
    certified = _certified(model)
    problems += _other_claims(stored, certified)
    bound = certified[LIPSCHITZ_UPPER_BOUND]
    if not _is_true(LIPSCHITZ_UPPER_BOUND, claims[LIPSCHITZ_UPPER_BOUND], bound):
        problems.append(
            f"run: its metric {LIPSCHITZ_UPPER_BOUND} is {claims[LIPSCHITZ_UPPER_BOUND]:g}, but "
            f"the weights give {bound:g}"
        )
    is_same_code = _code(folder / CODE) == _code(code_folder())
    return Proof(tuple(problems), bound, is_same_code)


def _certified(model: IResNet) -> dict[str, Any]:
    """The certificate of now, as it would be written and read."""
    certified: dict[str, Any] = json.loads(json.dumps(certify(model, "full").to_dict()))
    return certified


def _code(folder: Path) -> dict[str, str]:
    """The Python files below a folder, with their digests."""
    return {name: digest for name, digest in manifest(folder).items() if name.endswith(".py")}


def _loads_otherwise(folder: Path) -> Iterator[str]:
    """A sentence for each way in which MLflow would load other files or code than those that are
    checked here, or install other packages."""
    try:
        about = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
        flavors = about["flavors"]
        flavor = flavors["python_function"]
        beside = sorted(path.name for path in (folder / CODE).parent.iterdir())
        loads = {
            "flavors": sorted(flavors),
            "keys": sorted(flavor),
            "loader_module": flavor["loader_module"],
            "data": flavor["data"],
            "code": flavor["code"],
            "env": flavor["env"],
            "code/": beside,
        }
        requirements = _requirements(folder)
    except Exception as error:  # whatever a file that was changed makes of these few lines
        yield f"MLmodel or what it names cannot be read: {' '.join(str(error).split())[:200]}"
        return
    expected = {
        "flavors": ["python_function"],
        "keys": ["code", "data", "env", "loader_module", "python_version", "streamable"],
        "loader_module": LOADER,
        "data": DATA,
        "code": Path(CODE).parent.as_posix(),
        "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
        "code/": [Path(CODE).name],
    }
    for key, value in expected.items():
        if loads[key] != value:
            yield f"{key} must be {value} in a logged model, but is {loads[key]!s:.80}"
    for file, lines in requirements.items():
        for line in lines:
            package = next((r for r in REQUIREMENTS if line.startswith(f"{r}==")), None)
            if package is None or not _VERSION.fullmatch(line.removeprefix(package)):
                yield f"{file} must ask for {', '.join(REQUIREMENTS)} alone, but has {line!s:.80}"


def _requirements(folder: Path) -> dict[str, list[str]]:
    """What each of the files that describe an environment asks for."""
    conda = yaml.safe_load((folder / "conda.yaml").read_text())
    python = yaml.safe_load((folder / "python_env.yaml").read_text())
    of_conda: list[str] = []
    for dependency in conda["dependencies"]:
        if isinstance(dependency, dict):
            of_conda += (line for lines in dependency.values() for line in lines)
        elif not re.fullmatch(r"python=[0-9.]+|pip(<=[0-9.]+)?", dependency):
            of_conda.append(dependency)
    of_python = [d for d in python["dependencies"] if d != "-r requirements.txt"]
    # What builds packages, from where a version is installed.
    of_python += (d for d in python["build_dependencies"] if not _is_builder(d))
    return {
        "requirements.txt": (folder / "requirements.txt").read_text().split("\n")[:-1],
        "conda.yaml": of_conda,
        "python_env.yaml": of_python,
    }


def _is_builder(dependency: str) -> bool:
    return re.fullmatch(r"(pip|setuptools|wheel)(==[0-9.]+)?", dependency) is not None


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
    for key in ("layers", "blocks"):
        then = stored.get(key)
        if _names(then) != _names(certified[key]):
            yield f"certificate: {CERTIFICATE} has not the {key} of the network"
            continue
        assert isinstance(then, list)
        for old, new in zip(then, certified[key], strict=True):
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
    low, high = (stored, certified) if "lower_bound" in what else (certified, stored)
    return low <= high * (1 + ROOM) and high <= low * (1 + _MOST_ABOVE)
