"""The user's own blocks and metrics: whether blocks keep the bounds that they state, and the values
of metrics for a network."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from models import Block, BlockError, Certificate, IResNet, empirical_bounds
from study.config.imports import called, users_code
from study.config.trial import TrialConfig
from study.errors import OwnCodeError
from study.trial.data.tensors import Split, normalized
from study.trial.randomness import seeded

_KEY = "model.block"
# How far a block may exceed a bound that its author states. Relative: what the block computes from
# its weights differs in float32 and float64. Absolute: the rounding of float64.
_RELATIVE_ROOM, _ABSOLUTE_ROOM = 1e-6, 1e-9


@contextmanager
def own_blocks() -> Iterator[None]:
    """Turn a BlockError within the context into an OwnCodeError."""
    try:
        yield
    except BlockError as error:
        raise OwnCodeError(str(error), _KEY) from error


def check_attained(model: IResNet, images: Tensor, certificate: Certificate) -> None:
    """Raise OwnCodeError if a block of the user's own exceeds a bound that its author states, at
    normalized images (B, C, H, W), with the model in eval mode. This is an attack, which finds only
    some false bounds: see `models.proofs.empirical_bounds`."""
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
            # Negated, so that NaN exceeds every bound.
            if proven < math.inf and not value <= proven + room:
                raise OwnCodeError(
                    f"{block.proven_by} proves a bound of {proven:.4g} for {what} of {block.name}, "
                    f"but it attains {value:.4g}",
                    _KEY,
                )


@torch.no_grad()
def measure_own(
    model: IResNet, val: Split, trial: TrialConfig, certificate: Certificate
) -> dict[str, float]:
    """Name -> value of each metric of the user's own, which is called, without gradients, as
    `function(model, images, labels, certificate)` on the normalized validation split: float32
    (N, C, H, W) and int64 (N,), on the network's device. torch's random state is the same for each
    network of the trial. Raises OwnCodeError for the first metric that gives no finite number."""
    values, images = {}, None
    for name, path in trial.metrics:
        images = normalized(val.images) if images is None else images
        key, function = f"metrics.{name}", called(path)
        awaited_code = users_code("it must give a number", key, f"the metric {path}")
        with awaited_code, seeded(trial.seed, 0, images.device):
            value = float(function(model, images, val.labels, certificate))
        if not math.isfinite(value):
            raise OwnCodeError("it must give a finite number", key, value)
        values[name] = value
    return values
