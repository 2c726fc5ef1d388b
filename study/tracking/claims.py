"""A stored certificate against the certificate of the weights now."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from models.certificate import ROOM
from study.metrics.artifacts import CERTIFICATE

# Relative margin by which a claim may be weaker than the proof: processors round differently.
_MOST_ABOVE = 1e-6
_PARTS = ("layers", "blocks")


def false_claims(stored: Mapping[str, Any], certified: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each claim of a stored certificate that the weights do not support.
    `certified` is their certificate, after a round trip through JSON."""
    compared = [("", stored, certified)]
    for key in _PARTS:
        if _names(stored.get(key)) != _names(certified[key]):
            yield f"{CERTIFICATE} has not the {key} of the network"
            return
        parts = zip(stored[key], certified[key], strict=True)
        compared += [(f" of {part['name']}", claims, part) for claims, part in parts]
    for where, claims, proven in compared:
        for key in claims.keys() - proven.keys():
            if (key, where) != ("empirical_lipschitz", ""):
                yield f"{CERTIFICATE} has a key that no certificate has: {key}{where}"
        for key, value in proven.items():
            claim = claims.get(key)
            if key not in _PARTS and not is_true(key, claim, value):
                yield f"{key}{where} is {claim!s:.60}, but the weights give {value}"


def is_true(what: str, stored: object, certified: object) -> bool:
    """Whether a claim equals the certified value, or is weaker by rounding at most: smaller if
    `what` names a lower bound, else larger."""
    if not isinstance(certified, float) or type(stored) not in (int, float):
        return type(stored) is type(certified) and stored == certified
    assert isinstance(stored, int | float)
    if stored == certified:
        return True
    if abs(stored) > sys.float_info.max:
        return False
    low, high = (stored, certified) if "lower_bound" in what else (certified, stored)
    return low <= high * (1 + ROOM) and high <= low * (1 + _MOST_ABOVE)


def _names(parts: object) -> list[object] | None:
    """The names of layers or blocks; None for anything else."""
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        return None
    return [part.get("name") for part in parts]
