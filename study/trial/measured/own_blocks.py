"""Blocks of the user's own: whether they keep what their author proves of them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from models import Block, BlockError, Certificate, IResNet, empirical_bounds
from study.errors import OwnCodeError

_KEY = "model.block"
# By how much more a block may attain than its author proves. Relative: what it computes from its
# weights in float32 differs from the same in float64. Absolute: the rounding of float64.
_RELATIVE_ROOM, _ABSOLUTE_ROOM = 1e-6, 1e-9


@contextmanager
def own_blocks() -> Iterator[None]:
    """Raise OwnCodeError for a BlockError within the context."""
    try:
        yield
    except BlockError as error:
        raise OwnCodeError(str(error), _KEY) from error


def check_attained(model: IResNet, images: Tensor, certificate: Certificate) -> None:
    """Raise OwnCodeError if a block of another author attains more than that author proves.

    It is an attack, which finds only some false bounds: see `models.proofs.empirical_bounds`.

    Args:
        model: in eval mode.
        images: (B, C, H, W), as the network takes them.
        certificate: of the model.
    """
    if not certificate.others:
        return
    attained = empirical_bounds(model, images)
    for module, block, found in zip(model.blocks, certificate.blocks, attained, strict=True):
        if found is None:
            continue
        assert isinstance(module, Block)
        of_inverse = 1 / found.alpha if found.alpha != 0 else math.inf
        for what, proven, value in (
            ("Lip(g)", block.upper_bound, found.lipschitz),
            ("beta", block.map_lipschitz_upper_bound, found.beta),
            ("1 / alpha", block.inverse_lipschitz_upper_bound, of_inverse),
            ("rounding", module.bounds().rounding, found.rounding),
        ):
            room = proven * _RELATIVE_ROOM + _ABSOLUTE_ROOM
            # NaN keeps no bound.
            if proven < math.inf and not value <= proven + room:
                raise OwnCodeError(
                    f"{block.proven_by} proves a bound of {proven:.4g} for {what} of {block.name}, "
                    f"but it attains {value:.4g}",
                    _KEY,
                )
