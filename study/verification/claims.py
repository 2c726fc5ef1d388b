"""Comparison of a stored certificate with a new certificate of the weights."""

import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from models import ROOM
from study.metrics.artifacts import CERTIFICATE
from study.metrics.definitions import (
    BLOCK_LIPSCHITZ_UPPER_BOUND,
    INVERSE_LIPSCHITZ_UPPER_BOUND,
    PROVEN_METRICS,
)

_PARTS = ("layers", "blocks")
# Keys of a stored certificate that were measured, not proven.
BESIDE_THE_PROOF = {"empirical_lipschitz", "on_validation_split", "on_test_split"}


def false_claims(stored: Mapping[str, Any], certified: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each claim of a stored certificate that the weights do not support.
    `certified` is the certificate of the weights, after a round trip through JSON."""
    compared = [("", stored, {**certified, **_consequences(stored)})]
    for key in _PARTS:
        if _names(stored.get(key)) != _names(certified[key]):
            yield f"{CERTIFICATE} has not the {key} of the network"
            return
        parts = zip(stored[key], certified[key], strict=True)
        compared += [(f" of {part['name']}", claims, part) for claims, part in parts]
    for where, claims, proven in compared:
        for key in claims.keys() - proven.keys():
            if where or key not in BESIDE_THE_PROOF:
                yield f"{CERTIFICATE} has a key that no certificate has: {key}{where}"
        for key, value in proven.items():
            claim = claims.get(key, "missing")
            if key not in _PARTS and not is_true(key, claim, value):
                yield f"{key}{where} is {claim!s:.60}, but the weights give {value}"


def is_true(what: str, stored: object, certified: object) -> bool:
    """Whether a stored value claims no more than the certified one. Of two numbers, the stored one
    must be at least the certified one, or at most that if `what` names a lower bound; lists are
    compared item by item; anything else must be equal."""
    if isinstance(certified, list) and isinstance(stored, list) and len(stored) == len(certified):
        return all(is_true(what, *pair) for pair in zip(stored, certified, strict=True))
    if not isinstance(certified, float) or type(stored) not in (int, float):
        return type(stored) is type(certified) and stored == certified
    assert isinstance(stored, int | float)
    if stored == certified:
        return True
    if abs(stored) > sys.float_info.max:
        return stored == math.inf and "lower_bound" not in what
    low, high = (stored, certified) if "lower_bound" in what else (certified, stored)
    return low <= high * (1 + ROOM)


def _consequences(stored: Mapping[str, Any]) -> dict[str, bool]:
    """The keys `contraction` and `invertible`, as they follow from the claimed bounds, which may be
    weaker than the proven ones."""
    limits = {
        "contraction": (PROVEN_METRICS[BLOCK_LIPSCHITZ_UPPER_BOUND], 1.0),
        "invertible": (PROVEN_METRICS[INVERSE_LIPSCHITZ_UPPER_BOUND], math.inf),
    }
    bounds = {key: (stored.get(name), limit) for key, (name, limit) in limits.items()}
    return {key: b < limit for key, (b, limit) in bounds.items() if isinstance(b, float)}


def _names(parts: object) -> list[object] | None:
    """The names of layers or blocks; None for anything else."""
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        return None
    return [part.get("name") for part in parts]
