"""A trained network at smaller coefficients: points of the front that cost no training."""

import copy
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import nn

from models import IResNet, certify, deployed, project
from study.metrics import VAL_LOSS, ProjectionReport, TrialStatus, first_non_finite
from study.trial.evaluation import evaluate, measure, statistics_images
from study.trial.network_files import save_network
from study.trial.training import Training

# Keeps the randomness of fine-tuning apart from that of the epochs, which count from 1.
_FIRST_SEED = 1_000_000


@dataclass(frozen=True)
class Projection:
    """The network of a rung, in plain convolutions, and what it measures."""

    report: ProjectionReport
    model: IResNet


def block_bound(coeff: float) -> float:
    """The bound of Lip(g) of a block that a rung allows: the product of its three layers' bounds if
    each is at most coeff, as in the paper."""
    return coeff**3


def projections(training: Training) -> Iterator[Projection]:
    """Project the network of a completed training down its ladder of coefficients.

    Each rung starts from the one above it. It is fine-tuned if the trial's config says so, and
    projected, so that every block's proven bound is at most that of three layers at the rung's
    coefficient. Left out are rungs that every block meets already, since that network stands
    above; rungs whose fine-tuning diverged; and rungs with a value that is not finite. Networks
    with BatchNorm in their blocks have none: its factor follows the data.
    """
    assert training.status is TrialStatus.COMPLETED
    config = training.config
    if not config.ladder:
        return
    if any(isinstance(module, nn.BatchNorm2d) for module in training.model.body.modules()):
        return
    if not _is_finite(training.model):
        return
    model = copy.deepcopy(training.model).eval()
    proven = certify(model, "full").lipschitz_upper_bound
    for index, coeff in enumerate(config.ladder):
        lipschitz = block_bound(coeff)
        if proven <= lipschitz:
            continue
        if config.fine_tune_steps > 0:
            above = copy.deepcopy(model)
            project(model, lipschitz=lipschitz)
            training.fine_tune(model, config.fine_tune_steps, seed=_FIRST_SEED + index)
            model.eval()
            if not _is_finite(model):
                model = above  # it diverged; the next rung starts where this one did
                continue
        project(model, images=statistics_images(training.dataset.train), lipschitz=lipschitz)
        plain = deployed(model)
        report = ProjectionReport(
            coeff=coeff,
            fine_tune_steps=config.fine_tune_steps,
            **asdict(measure(plain, training.dataset.val, config.evaluation, "full")),
            test_accuracy=evaluate(plain, training.dataset.test)[1],
            timestamp=time.time(),
        )
        proven = report.lipschitz_upper_bound
        if first_non_finite(report.metrics(), (VAL_LOSS, *config.objectives)) is None:
            yield Projection(report, plain)


def _is_finite(model: IResNet) -> bool:
    return all(bool(p.isfinite().all()) for p in model.parameters())


def save_projection(training: Training, projection: Projection, folder: Path) -> None:
    """Write a projection's network, as `save_network` does."""
    # For weights in plain convolutions load_network must build plain convolutions.
    plain = replace(training.config.model, norm="none")
    save_network(folder, projection.model, plain, training.config, training.dataset)
