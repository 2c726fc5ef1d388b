"""Whether a stored model still is the network of its certificate, and the certificate true."""

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from models import IResNet, certify, code_sha256, differences, load_pickled, weights_sha256
from study.artifacts import CERTIFICATE, NETWORK
from study.errors import TrackingError
from study.metrics import LIPSCHITZ_UPPER_BOUND
from study.tracking.records import Records
from study.tracking.stored_model import (
    CODE_FOLDER,
    EXTRA_FILES,
    WEIGHTS_FILE,
    fetch,
    layout_problems,
)

# sigma is summed in float32: another kind of processor may add in another order, and moves an
# effective weight by its last bit.
_RTOL = 1e-6


def verify(records: Records, run_id: str) -> list[str]:
    """What is wrong with the proof of a run's model, a sentence each; empty if it holds.

    Raises:
        TrackingError: if there is no such run, or it has no model.
    """
    metrics, artifacts = records.metrics_and_artifacts(run_id)
    missing = [name for name in (CERTIFICATE, NETWORK) if name not in artifacts]
    if LIPSCHITZ_UPPER_BOUND not in metrics or missing:
        raise TrackingError(
            "RUN_ID: the run of a completed trial or of a projection must be given, but "
            f"{run_id} has no {missing[0] if missing else LIPSCHITZ_UPPER_BOUND}"
        )
    with tempfile.TemporaryDirectory() as temporary:
        folder = fetch(records.client, run_id, Path(temporary))
        of_run = {
            name: records.artifact(run_id, name).decode(errors="replace")
            for name in (CERTIFICATE, NETWORK)
        }
        return list(problems(folder, of_run, metrics[LIPSCHITZ_UPPER_BOUND]))


def problems(folder: Path, of_run: Mapping[str, str], logged_bound: float) -> Iterator[str]:
    """What is wrong with the proof of a model, a sentence each, the graver first; nothing if it
    holds.

    The network is read without running code of its files. It must have the modules of a network
    that is built here from NETWORK, the tensors whose digests stand there, and the code that it was
    logged with. It is certified again: the result must be that of CERTIFICATE, and of the run's
    metric. Both files must be those of the run.

    Args:
        folder: a logged model's.
        of_run: the text of the run's CERTIFICATE and NETWORK, by name.
        logged_bound: the run's lipschitz_upper_bound.
    """
    try:
        stored = {name: _read(folder, name, of_run) for name in (NETWORK, CERTIFICATE)}
        yield from layout_problems(folder)
        built = _built(stored[NETWORK])
        model = _loaded(folder)
    except ValueError as error:
        yield str(error)
        return
    unlike = list(differences(model, built))
    yield from unlike
    if unlike:
        return  # it is no network whose methods could be called
    model.eval()
    yield from _other_tensors(model, stored[NETWORK])
    code = code_sha256(folder / CODE_FOLDER)
    if code != stored[NETWORK].get("code_sha256"):
        yield f"code: what is in {CODE_FOLDER} is not the code that the model was logged with"
    certified = json.loads(json.dumps(certify(model, "full").to_dict()))
    yield from _other_bounds(stored[CERTIFICATE], certified)
    bound = certified[LIPSCHITZ_UPPER_BOUND]
    if not _same(logged_bound, bound):
        yield (
            f"certificate: the run's metric {LIPSCHITZ_UPPER_BOUND} is {logged_bound:g}, but the "
            f"weights give {bound:g}"
        )


def _read(folder: Path, name: str, of_run: Mapping[str, str]) -> dict[str, Any]:
    """A file of the proof, which must be the same in the model and in the run."""
    try:
        text = (folder / EXTRA_FILES / name).read_text(encoding="utf-8")
        of_model, of_the_run = json.loads(text), json.loads(of_run[name])
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"proof: {name} cannot be read: {error}") from error
    if not isinstance(of_model, dict):
        raise ValueError(f"proof: {name} must be an object, but is {of_model!s:.80}")
    where = next(_unequal(of_model, of_the_run), None)
    if where is not None:
        raise ValueError(f"proof: the model's {name} is not the run's: {where}")
    return of_model


def _unequal(a: object, b: object, path: str = "") -> Iterator[str]:
    """Where two JSON values are not equal."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(key for key in b if key not in a)]:
            yield from _unequal(a.get(key), b.get(key), f"{path}.{key}" if path else key)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            name = x.get("name", index) if isinstance(x, dict) else index
            yield from _unequal(x, y, f"{path}[{name}]")
    elif a != b:
        yield f"{path or 'all of it'} is {a!s:.60} and {b!s:.60}"


def _built(network: Mapping[str, Any]) -> IResNet:
    try:
        return IResNet(**network["architecture"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"architecture: {NETWORK} describes no network: {error}") from error


def _loaded(folder: Path) -> IResNet:
    try:
        return load_pickled(folder / WEIGHTS_FILE)
    except ValueError as error:
        raise ValueError(f"model: {WEIGHTS_FILE}: {error}") from error


def _other_tensors(model: IResNet, network: Mapping[str, Any]) -> Iterator[str]:
    digests = network.get("weights_sha256")
    for name, digest in weights_sha256(model).items():
        if not isinstance(digests, dict) or digests.get(name) != digest:
            yield f"weights: the tensor {name} is not the one that was certified"


def _other_bounds(stored: Mapping[str, Any], certified: Mapping[str, Any]) -> Iterator[str]:
    """Where a stored certificate is not that of the weights, layers and blocks first."""
    for key in ("layers", "blocks"):
        then = stored.get(key)
        if _names(then) != _names(certified[key]):
            yield f"certificate: {CERTIFICATE} has not the {key} of the network"
            continue
        assert isinstance(then, list)
        for old, new in zip(then, certified[key], strict=True):
            for what, value in new.items():
                if not _same(old.get(what), value):
                    yield _contradiction(f"{what} of {new['name']}", old.get(what), value)
    for key, value in certified.items():
        if key not in ("layers", "blocks") and not _same(stored.get(key), value):
            yield _contradiction(key, stored.get(key), value)


def _names(parts: object) -> Sequence[object] | None:
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        return None
    return [part.get("name") for part in parts]


def _contradiction(what: str, stored: object, certified: object) -> str:
    return f"certificate: {what} is {stored!s:.60}, but the weights give {certified}"


def _same(stored: object, certified: object) -> bool:
    if isinstance(certified, float) and type(stored) in (int, float):
        assert isinstance(stored, int | float)
        return math.isclose(stored, certified, rel_tol=_RTOL)
    return type(stored) is type(certified) and stored == certified
