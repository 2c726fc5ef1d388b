"""Further points of the front from one training: its network projected to smaller bounds, or the
members of a family; and the control."""

import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from models import (
    WEIGHTS,
    Certificate,
    IResNet,
    deployed,
    fit_to_labels,
    project,
    with_classifier,
    write_weights,
)
from study.config.trial import TrialConfig, with_settings
from study.errors import OwnCodeError
from study.metrics.artifacts import projection_folder
from study.metrics.definitions import Direction, diverged
from study.metrics.reports import CONTROL, ProjectionReport, TrialReport, TrialStatus
from study.trial.data.tensors import Dataset, normalized
from study.trial.head import make_loss
from study.trial.measured.evaluation import (
    OnSplits,
    measure,
    measure_test,
    refresh_statistics,
    statistics_images,
)
from study.trial.measured.network_files import Certified, save_network
from study.trial.measured.own import own_blocks
from study.trial.training import Training

# Keeps the randomness of fine-tuning apart from that of the epochs, which count from 1.
_FIRST_SEED = 1_000_000
# Images whose features are computed in one batch when a classifier is fitted.
_BATCH_SIZE = 1_000


@dataclass(frozen=True)
class Projection:
    """A network that a trial gives besides its own, with its measurements and its answers;
    `config` is that of a trial that trains such a network alone."""

    report: ProjectionReport
    network: Certified
    answers: OnSplits
    config: TrialConfig


def projections(training: Training, trained: Certified) -> Iterator[Projection]:
    """Project the network of a completed training down its ladder of bounds, or take the members of
    its family.

    A rung is a bound that Lip(g) of every block is proven to meet. If the config has
    fine_tune_steps, the network of the rung above is fine-tuned first. A rung is left out if every
    block meets it already, fine-tuning diverges, or an objective is not finite. There is no ladder
    if the blocks have BatchNorm, whose factor follows the data, or are the user's own and cannot
    be scaled or prove no bound. The control, if wanted, comes last.
    """
    assert training.status is TrialStatus.COMPLETED
    yield from _rungs(training, trained)
    yield from _members(training)
    if training.config.control and training.model.blocks:
        yield from _best(list(_control(training)), training.config)


def _rungs(training: Training, trained: Certified) -> Iterator[Projection]:
    config = training.config
    if not config.ladder:
        return
    if any(block.why_not_scalable() is not None for block in training.model.blocks):
        return
    model = copy.deepcopy(training.model).eval()
    images = statistics_images(training.dataset.train)
    if not _is_finite(model, images):
        return
    # A head that fits labels needs no images here: `_refitted` fits it by its training loss.
    adapted = None if training.model.head.fits_labels else images
    proven = trained.certificate.lipschitz_upper_bound
    for index, lipschitz in enumerate(config.ladder):
        if proven <= lipschitz or proven == math.inf:
            continue
        known: Certificate | None = trained.certificate
        if config.fine_tune_steps > 0:
            above = copy.deepcopy(model)
            _lower_targets(model, adapted, lipschitz)
            training.fine_tune(model, config.fine_tune_steps, seed=_FIRST_SEED + index)
            model.eval()
            refresh_statistics(model, training.dataset.train)
            if not _is_finite(model, images):
                model = above  # it diverged: the next rung starts where this one started
                continue
            known = None
        plain = deployed(model)
        certificate = project(plain, images=adapted, lipschitz=lipschitz, certificate=known)
        network = _refitted(training, plain, certificate)
        for projection in measured(training.dataset, network, config, lipschitz):
            proven = projection.report.block_lipschitz_upper_bound
            yield projection


def _members(training: Training, projected_to: float | None = None) -> Iterator[Projection]:
    """The further members of a trained family. None that has an objective which is not finite."""
    config, family = training.config, training.family
    if family is None:
        return
    for conditions in family.spread(1 + config.members)[1:]:
        member = family.at(**conditions).eval()
        refresh_statistics(member, training.dataset.train)
        network, own = Certified.of(member), with_settings(config, conditions)
        row = tuple(conditions.values())
        yield from measured(training.dataset, network, own, projected_to, row)


def _control(training: Training) -> Iterator[Projection]:
    """The classifier alone, trained on images in place of features with the trial's settings: as
    many epochs take less time than with blocks; with a family, a family of classifiers. None if it
    diverges."""
    alone = Training(training.config.alone, training.device, training.dataset)
    if not alone.train():
        return
    yield from measured(alone.dataset, Certified.of(alone.model), alone.config, CONTROL)
    yield from _members(alone, CONTROL)


def _best(networks: Sequence[Projection], config: TrialConfig) -> Iterator[Projection]:
    """Those that no other dominates in the objectives of a trial and in what its constraints ask
    for; of equal ones the first. All if the trial has no objectives."""
    if not config.objectives:
        yield from networks
        return
    is_more_better = {
        name: Direction.MAXIMIZE in goal or (Direction.MINIMIZE not in goal and ">" in goal)
        for name, goal in config.goals
    }
    signs = {name: 1.0 if is_more else -1.0 for name, is_more in is_more_better.items()}
    values = [one.report.metrics() for one in networks]
    rows = [tuple(sign * of[name] for name, sign in signs.items()) for of in values]

    def is_no_worse(other: tuple[float, ...], row: tuple[float, ...]) -> bool:
        return all(a >= b for a, b in zip(other, row, strict=True))

    for index, (network, row) in enumerate(zip(networks, rows, strict=True)):
        if not (
            any(is_no_worse(other, row) for other in rows[:index])
            or any(is_no_worse(other, row) and other != row for other in rows[index:])
        ):
            yield network


def with_projections(
    training: Training, report: TrialReport
) -> tuple[TrialReport, list[Projection]]:
    """Returns (report, projections): a training's report with the projections' added; projections,
    none before it is completed. If the user's own code fails on one, the report is a failed one."""
    if training.status is not TrialStatus.COMPLETED:
        return report, []
    try:
        with own_blocks():
            rungs = list(projections(training, training.certified()))
    except OwnCodeError as error:
        return training.failed(str(error)), []
    return replace(report, projections=tuple(rung.report for rung in rungs)), rungs


def save_outcome(folder: Path, training: Training, rungs: Sequence[Projection]) -> None:
    """Write the network of a completed training into a new folder, its projections below that."""
    config, dataset, network = training.config, training.dataset, training.certified()
    folder.mkdir()
    base = network.model
    if training.family is None:
        save_network(folder, network, training.answers(), config, dataset)
    else:
        shared = deployed(training.family.base).eval()
        save_network(folder, network, training.answers(), config, dataset, shared)
        if not (folder / WEIGHTS).exists():
            base = shared
            write_weights(folder, base)
    for index, rung in enumerate(rungs):
        below = projection_folder(folder, index)
        below.mkdir(parents=True)
        of_rung = None if rung.report.projected_to == CONTROL else base
        save_network(below, rung.network, rung.answers, rung.config, dataset, of_rung)


def _refitted(training: Training, plain: IResNet, certificate: Certificate) -> Certified:
    """A projected network after its classifier is fitted anew, if that fits labels."""
    config, train = training.config, training.dataset.train
    if plain.head.fits_labels:
        loss = make_loss(config, certificate.features_lipschitz_upper_bound)
        batches = (normalized(images) for images in train.images.split(_BATCH_SIZE))
        fit_to_labels(plain, batches, train.labels, loss, config.seed)
        certificate = with_classifier(certificate, plain)
    return Certified(plain, certificate)


def measured(
    dataset: Dataset,
    network: Certified,
    config: TrialConfig,
    projected_to: float | None,
    member: tuple[float, ...] | None = None,
) -> Iterator[Projection]:
    """Measure a network that a training gave besides its own, which has the architecture of
    `config`; none if an objective is not finite."""
    plain, certificate = network.model, network.certificate
    of_val, answers = measure(plain, dataset.val, config, certificate)
    of_test, test_answers = measure_test(plain, dataset.test, config, certificate)
    report = ProjectionReport(
        projected_to=projected_to,
        member=member,
        fine_tune_steps=config.fine_tune_steps,
        **asdict(of_val),
        **of_test,
        timestamp=time.time(),
    )
    if diverged(report.metrics(), config.objectives) is None:
        yield Projection(report, network, OnSplits(answers, test_answers), config)


@torch.no_grad()
def _lower_targets(model: IResNet, images: Sequence[Tensor] | None, lipschitz: float) -> None:
    """Project in place, as `project` does, but keep the norm of each normalized weight: only its
    target shrinks. Steps of further training have a fixed size, and so change a weight by the same
    fraction as before. The bounds hold up to the error of sigma."""
    normalized = model.normalized_layers()
    sizes = [layer.weight.norm() for layer in normalized]
    project(model, images=images, lipschitz=lipschitz)
    tiny = torch.finfo(torch.float32).tiny
    for layer, size in zip(normalized, sizes, strict=True):
        layer.weight.copy_(layer.weight * (size / layer.weight.norm().clamp(min=tiny)))
    model.update_spectral_norm()


@torch.no_grad()
def _is_finite(model: IResNet, images: Sequence[Tensor]) -> bool:
    """Whether a network's parameters, and its logits of images, are finite."""
    of_network = (*model.parameters(), *(model(batch) for batch in images))
    return all(bool(tensor.isfinite().all()) for tensor in of_network)
