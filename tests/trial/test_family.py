"""A trial that trains a family: its own network, the other members, and how all are stored."""

import shutil
from dataclasses import replace
from functools import cache
from operator import sub
from pathlib import Path

import pytest
import torch
from torch import nn

from models import CHANGES, WEIGHTS, Span, certify, deployed, read_network
from study.config.trial import TrialConfig
from study.errors import ConfigError
from study.metrics.reports import CONTROL, TrialStatus
from study.trial.data.tensors import normalized
from study.trial.ladder import Projection, projections, save_outcome
from study.trial.measured.evaluation import evaluate
from study.trial.training import Training
from tests.support.trials import trained
from tests.trial.test_losses import CONFIG

FAMILY = replace(
    CONFIG,
    model=replace(CONFIG.model, dense_blocks=4, bottleneck=1),
    training=replace(CONFIG.training, max_epochs=8, report_every=4),
    family=(("coeff", Span(0.05, 0.6, log=True)), ("margin", Span(0.1, 0.9, log=True))),
    members=4,
    objectives=("val_accuracy", "certified_accuracy", "inverse_lipschitz_upper_bound"),
    goals=(
        ("val_accuracy", "maximize"),
        ("certified_accuracy", "maximize"),
        ("inverse_lipschitz_upper_bound", "minimize, < 100"),
    ),
    control=True,
)
completed = cache(trained)


@cache
def further() -> tuple[Projection, ...]:
    training = completed(FAMILY)
    return tuple(projections(training, training.certified()))


def test_a_trial_gives_as_many_members_as_asked_for_each_with_its_proof() -> None:
    members = further()[: FAMILY.members]
    assert len({member.report.variant for member in members}) == FAMILY.members
    for member in members:
        assert member.report.member is not None
        coeff, margin = member.report.member
        assert (member.config.model.coeff, member.config.training.margin) == (coeff, margin)
        assert member.network.certificate == certify(member.network.model)
        assert member.report.block_lipschitz_upper_bound == pytest.approx(coeff, rel=1e-4)


def test_training_makes_all_members_better() -> None:
    training, untrained = completed(FAMILY), Training(FAMILY)
    val = training.dataset.val
    assert training.family is not None
    assert untrained.family is not None
    for conditions in training.family.spread(1 + FAMILY.members):
        right = [
            (network.eval()(normalized(val.images)).argmax(1) == val.labels).double().mean().item()
            for network in (
                family.at(**conditions) for family in (untrained.family, training.family)
            )
        ]
        assert right[1] > right[0] + 0.5


def test_weights_are_stored_once_and_every_member_is_read_bit_for_bit(tmp_path: Path) -> None:
    training, networks = completed(FAMILY), further()
    outcome = tmp_path / "outcome"
    save_outcome(outcome, training, networks)
    images = normalized(training.dataset.val.images[:8])
    *members, _ = (outcome / "projections" / str(index) for index in range(len(networks)))
    for folder, network in zip(
        [outcome, *members],
        [training.certified().model, *(one.network.model for one in networks)],
        strict=False,
    ):
        assert (folder / CHANGES).stat().st_size < (outcome / WEIGHTS).stat().st_size / 2
        if folder != outcome:
            assert not (folder / WEIGHTS).exists()
            shutil.copy(outcome / WEIGHTS, folder)
        read = read_network(folder)
        with torch.no_grad():
            assert torch.equal(read(images), network(images))


def test_a_restored_training_goes_on_as_it_would_have(tmp_path: Path) -> None:
    whole, first, second = Training(FAMILY), Training(FAMILY), Training(FAMILY)
    whole.run_to_report()
    first.run_to_report()
    second.load_state_dict(first.state_dict())
    for training in (whole, second):
        assert training.run_to_report().status is TrialStatus.COMPLETED
    for one, two in zip(
        whole.model.state_dict().values(), second.model.state_dict().values(), strict=True
    ):
        assert torch.equal(one, two)


def test_dropout_and_the_paper_s_loss_train_a_family_of_coefficients() -> None:
    config = replace(
        FAMILY,
        model=replace(FAMILY.model, dropout=0.2),
        training=replace(FAMILY.training, loss="cross_entropy", max_epochs=1),
        family=FAMILY.family[:1],
        control=False,
    )
    training = trained(config)
    bounds = [one.report.variant for one in projections(training, training.certified())]
    assert len(set(bounds)) == config.members


def test_the_paper_s_blocks_are_a_family_of_coefficients_with_statistics_of_their_own() -> None:
    paper = {"blocks": (1,), "block": "bottleneck", "channel_multiplier": 8, "head": "batch_norm"}
    config = replace(
        FAMILY,
        model=replace(FAMILY.model, **paper, dense_blocks=0),
        training=replace(FAMILY.training, loss="cross_entropy", max_epochs=2),
        family=FAMILY.family[:1],
        control=False,
    )
    training = trained(config)
    images = training.dataset.train.images[:200]
    for one in projections(training, training.certified()):
        model = one.network.model
        (coeff,) = one.report.member or (None,)
        assert one.report.block_lipschitz_upper_bound <= 1.1 * coeff**3
        # The mean of what BatchNorm gives is its bias, if its statistics are of these features.
        norm = next(m for m in model.classifier if isinstance(m, nn.BatchNorm2d))
        with torch.no_grad():
            given = norm(model.features(normalized(images))).mean(dim=(0, 2, 3))
        torch.testing.assert_close(given, norm.bias, rtol=0.0, atol=0.2)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"training": replace(FAMILY.training, loss="cross_entropy")}, "family.margin"),
        ({"model": replace(FAMILY.model, blocks=(1,), block="bottleneck")}, "family.coeff"),
        (
            {
                "model": replace(FAMILY.model, blocks=(1,), block="bottleneck", dense_blocks=0),
                "family": FAMILY.family[:1],
            },
            "family.coeff",
        ),
        (
            {
                "model": replace(FAMILY.model, head="batch_norm", norm="none"),
                "training": replace(FAMILY.training, loss="cross_entropy"),
                "family": FAMILY.family[:1],
            },
            "family",
        ),
        ({"training": replace(FAMILY.training, compile=True)}, "training.compile"),
    ],
)
def test_a_trial_that_cannot_train_a_family_is_refused(
    changes: dict[str, object], key: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        replace(FAMILY, **changes)
    assert refused.value.key == key


def test_its_controls_are_those_of_a_family_of_margins_that_none_dominates() -> None:
    controls = further()[FAMILY.members :]
    alone = Training(FAMILY.alone)
    assert alone.train()
    assert alone.family is not None
    assert list(alone.family.spans) == ["margin"]
    val, found = alone.dataset.val, []
    for conditions in alone.family.spread(1 + FAMILY.members):
        network = deployed(alone.family.at(**conditions)).eval()
        certificate = certify(network)
        assert certificate.inverse_lipschitz_upper_bound == pytest.approx(1, rel=1e-8)
        answers = evaluate(network, val, FAMILY.precision, certificate)
        found.append((answers.accuracy, answers.certified_accuracy(FAMILY.radius)))
    best = {
        one
        for one in found
        if not any(other != one and min(map(sub, other, one)) >= 0 for other in found)
    }
    reports = [control.report for control in controls]
    assert {(r.val_accuracy, r.certified_accuracy) for r in reports} == best
    for control in controls:
        assert control.report.projected_to == CONTROL
        member = control.report.member
        assert member is None or member == (control.config.training.margin,)


def test_of_a_family_of_coefficients_the_control_is_one_classifier() -> None:
    alone: TrialConfig = replace(FAMILY, family=FAMILY.family[:1]).alone
    assert alone.family == ()
