"""Whether a logged model still is the network of its certificate, and the certificate true."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from models import certify, differences, load_pickled
from study.logged_model import EXTRA_FILES, WEIGHTS_FILE

# Another number of threads, or another device, adds in another order: about 1e-15.
_RTOL = 1e-9
_CERTIFICATE, _NETWORK = "certificate.json", "network.json"


def problems(folder: Path, run_certificate: str, logged_bound: float) -> Iterator[str]:
    """What is wrong with the proof of a model, a sentence each, the graver first; nothing if it
    holds.

    The network is read without running code of its file, compared with the fingerprint that was
    logged with it, and certified again; the certificate must be the one that was logged with it,
    the run's, and that of the run's metric.

    Args:
        folder: a logged model's.
        run_certificate: text of the run's certificate.json.
        logged_bound: the run's lipschitz_upper_bound.
    """
    try:
        network = _read(folder / EXTRA_FILES / _NETWORK)
        certificate = _read(folder / EXTRA_FILES / _CERTIFICATE)
    except ValueError as error:
        yield str(error)
        return
    try:
        model = load_pickled(folder / WEIGHTS_FILE)
    except ValueError as error:
        yield f"model: {WEIGHTS_FILE}: {error}"
        return
    yield from differences(model, network)
    try:
        found = certify(model).to_dict()
    except ValueError as error:
        yield f"certificate: {error}"
        return
    yield from _differences(certificate, found, "the model's")
    try:
        of_run = json.loads(run_certificate)
    except ValueError as error:
        yield f"certificate: the run's {_CERTIFICATE} cannot be read: {error}"
        return
    yield from _differences(of_run, found, "the run's")
    bound = found["lipschitz_upper_bound"]
    assert isinstance(bound, float)
    if not _same(logged_bound, bound):
        yield (
            f"certificate: the run's metric lipschitz_upper_bound is {logged_bound:g}, "
            f"but the weights give {bound:g}"
        )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"model: {EXTRA_FILES}/{path.name} cannot be read: {error}") from error


def _differences(stored: Mapping[str, Any], found: Mapping[str, Any], whose: str) -> Iterator[str]:
    """Where a stored certificate is not the one that was found; layers first, by name."""
    for key in ("layers", "blocks"):
        then, now = (_by_name(certificate.get(key, ())) for certificate in (stored, found))
        for name in now.keys() | then.keys():
            if name not in then or name not in now:
                yield f"certificate: {whose} has not the same {key} as the network: {name}"
                continue
            for what, value in now[name].items():
                if not _same(then[name].get(what), value):
                    yield (
                        f"certificate: {what} of {name} is {then[name].get(what)} in {whose} "
                        f"{_CERTIFICATE}, but the weights give {value}"
                    )
    for key, value in found.items():
        if key not in ("layers", "blocks") and not _same(stored.get(key), value):
            yield (
                f"certificate: {key} is {stored.get(key)} in {whose} {_CERTIFICATE}, "
                f"but the weights give {value}"
            )


def _by_name(parts: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {part["name"]: part for part in parts}


def _same(stored: object, found: object) -> bool:
    if isinstance(stored, float | int) and isinstance(found, float):
        return math.isclose(stored, found, rel_tol=_RTOL)
    return stored == found
