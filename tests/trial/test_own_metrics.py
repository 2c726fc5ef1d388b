"""Metrics of the user's own, and blocks that attain more than they prove, in a training."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from study.config.trial import DataConfig, ModelConfig, TrainingConfig, TrialConfig
from study.metrics.reports import TrialReport, TrialStatus
from study.trial.data.tensors import normalized
from study.trial.ladder import projections
from study.trial.training import Training
from tests.support import own_code

OWN = "tests.support.own_code"


def trial(metric: str = "margin", **model: Any) -> TrialConfig:
    settings: dict[str, Any] = {"blocks": (1,), "channel_multiplier": 4, "head": "lipschitz"}
    return TrialConfig(
        data=DataConfig(max_train=64),
        model=ModelConfig(**{**settings, **model}),
        training=TrainingConfig(max_epochs=1, batch_size=32, lr=0.01),
        metrics=(("own_margin", f"{OWN}:{metric}"),),
        ladder=(0.05,),
    )


def test_the_function_sees_the_network_its_images_labels_and_certificate() -> None:
    training = Training(trial())
    report = training.run_to_report().epoch
    assert report is not None
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
    values = []
    for _ in range(2):
        torch.rand(3)
        report = Training(trial()).run_to_report().epoch
        assert report is not None
        values.append(report.own["own_margin"])
    assert values[0] == values[1]


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("undefined", "metrics.own_margin: it must give a finite number, but got nan"),
        ("raises", "raises RuntimeError: no such thing (own_code.py, line "),
    ],
)
def test_a_metric_without_a_number_ends_the_trial_with_its_name(metric: str, message: str) -> None:
    training = Training(trial(metric))
    report = training.run_to_report()
    assert training.status is TrialStatus.FAILED
    assert report.reason is not None
    assert message in report.reason


def test_a_wrong_proof_ends_the_trial_with_its_authors_name() -> None:
    report = Training(trial(block=f"{OWN}:Wrong")).run_to_report()
    assert report.status is TrialStatus.FAILED
    assert report.reason is not None
    assert f"{OWN}:Wrong proves a bound of" in report.reason
    assert "but it attains" in report.reason


def test_a_block_without_a_proof_is_trained_and_measured_but_has_no_ladder() -> None:
    training = Training(trial(block=f"{OWN}:Unproven"))
    report = training.run_to_report().epoch
    assert report is not None
    assert report.certified_accuracy == 0
    assert report.reconstruction_error < 1e-5
    assert not list(projections(training, training.certified()))


def test_a_training_of_own_blocks_goes_on_as_it_would_have() -> None:
    config = trial(block=f"{OWN}:Coupling")
    config = replace(config, training=replace(config.training, max_epochs=2))
    whole = Training(config)
    whole.run_to_report()
    state = copy.deepcopy(whole.state_dict())
    last = whole.run_to_report().epoch
    assert last is not None
    resumed = Training(config)
    resumed.load_state_dict(state)
    again = resumed.run_to_report().epoch
    assert again is not None
    assert again.metrics() | {"epoch_seconds": 0} == last.metrics() | {"epoch_seconds": 0}
