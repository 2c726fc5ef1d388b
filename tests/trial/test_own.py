"""Metrics of the user's own, and blocks that attain more than they prove."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from models import Bounds, certify
from study.config.data import DataConfig
from study.config.trial import ModelConfig, TrainingConfig, TrialConfig
from study.errors import OwnCodeError
from study.metrics.reports import TrialReport, TrialStatus
from study.trial.data.tensors import normalized
from study.trial.ladder import projections, with_projections
from study.trial.measured.own import check_attained
from study.trial.training import Training
from tests.models.test_block import images, network
from tests.support import own_code
from tests.support.trials import epoch_of, failure_of

OWN = "tests.support.own_code"


def trial(metric: str = "margin", block: str | None = None) -> TrialConfig:
    model = ModelConfig(blocks=(1,), channel_multiplier=4, head="lipschitz")
    return TrialConfig(
        data=DataConfig(max_train=64),
        model=model if block is None else replace(model, block=f"{OWN}:{block}"),
        training=TrainingConfig(max_epochs=1, batch_size=32, lr=0.01),
        metrics=(("own_margin", f"{OWN}:{metric}"),),
        ladder=(0.05,),
    )


def test_the_function_sees_the_network_its_images_labels_and_certificate() -> None:
    training = Training(trial())
    report = epoch_of(training.run_to_report())
    network, val = training.certified(), training.dataset.val
    expected = own_code.margin(
        network.model, normalized(val.images), val.labels, network.certificate
    )
    assert report.metrics()["own_margin"] == pytest.approx(expected.item())
    rungs = list(projections(training, network))
    assert rungs
    for rung in rungs:
        assert rung.report.metrics()["own_margin"] != report.metrics()["own_margin"]
    again = TrialReport.from_result(TrialReport(TrialStatus.COMPLETED, report).to_result())
    assert again is not None
    assert again.epoch == report


def test_its_randomness_is_that_of_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_code, "margin", lambda *_: torch.rand(()))
    values = set()
    for _ in range(2):
        torch.rand(3)
        values.add(epoch_of(Training(trial()).run_to_report()).own["own_margin"])
    assert len(values) == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (trial("undefined"), "metrics.own_margin: it must give a finite number, but got nan"),
        (trial("raises"), "raises RuntimeError: no such thing (own_code.py, line "),
        (trial(block="Wrong"), f"{OWN}:Wrong proves a bound of"),
        # On digits, whose last row is nearly black: a block that zeroes it.
        (
            trial(block="LosesARow"),
            "LosesARow proves a bound of 1 for 1 / alpha of body.1, but it attains",
        ),
        (trial(block="Contradictory"), "alpha <= beta must hold, but got lipschitz="),
        # Once it is projected: its bound does not follow `scale`.
        (trial(block="Stuck"), "bounds().lipschitz of"),
    ],
)
def test_code_that_fails_or_proves_too_much_ends_the_trial_and_is_named(
    config: TrialConfig, message: str
) -> None:
    training = Training(config)
    report, rungs = with_projections(training, training.run_to_report())
    assert message in failure_of(report)
    assert training.status is TrialStatus.FAILED
    assert not rungs


def test_a_block_without_a_proof_is_trained_and_measured_but_has_no_ladder() -> None:
    training = Training(trial(block="Unproven"))
    report = epoch_of(training.run_to_report())
    assert report.certified_accuracy == 0
    assert report.reconstruction_error < 1e-5
    assert not list(projections(training, training.certified()))


@pytest.mark.parametrize(
    ("lie", "what"),
    [
        (lambda true: replace(true, lipschitz=true.lipschitz / 10), r"Lip\(g\)"),
        (lambda true: Bounds(beta=1.0, rounding=true.rounding), "beta"),
        (lambda true: Bounds(alpha=0.99, rounding=true.rounding), "1 / alpha"),
        (lambda true: replace(true, rounding=0.01), "rounding"),
    ],
)
def test_each_false_bound_is_found_and_named(
    lie: Callable[[Bounds], Bounds], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(own_code.Coupling)
    check_attained(model, images(8), certify(model))
    true = own_code.Coupling.bounds
    monkeypatch.setattr(own_code.Coupling, "bounds", lambda self: lie(true(self)))
    rule = rf"{OWN}:Coupling proves a bound of \S+ for {what} of body\.1, but it attains"
    with pytest.raises(OwnCodeError, match=rule):
        check_attained(model, images(8), certify(model))
