"""Training, certificate and inverse on CUDA say what they say on the CPU, and do not wait."""

from dataclasses import replace

import pytest

from tests.pretended_cuda import checks
from tests.pretended_cuda.checks import TRIAL, changed


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "sgd", "norm": "none", "activation": "elu"},
        {"norm": "batch", "activation": "softplus", "dropout": 0.0},
    ],
)
def test_a_trial_on_cuda_is_that_on_the_cpu(settings: dict[str, object]) -> None:
    checks.check_training(changed(TRIAL, **settings))


def test_with_bf16_it_is_near() -> None:
    """The lists of what autocast takes to bf16 differ: the loss itself is in float32 on both."""
    trial = replace(TRIAL, ladder=(), data=replace(TRIAL.data, max_train=64))
    checks.check_training(changed(trial, precision="bf16", max_epochs=1), rel=0.1)


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_a_trial_that_is_resumed_is_the_unbroken_one(optimizer: str) -> None:
    checks.check_resume(changed(TRIAL, optimizer=optimizer))


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_step_waits_for_nothing(optimizer: str, precision: str) -> None:
    checks.check_step(optimizer=optimizer, precision=precision)


def test_a_step_of_the_papers_network_launches_no_more_than_it_may() -> None:
    """Before layers of one shape were one operation: 4,881, with SGD."""
    assert checks.check_step(optimizer="muon", blocks=(18, 18, 19)) <= 1350


def test_fixed_point_iteration_waits_once_a_step() -> None:
    checks.check_fixed_point()


def test_an_inverse_on_cuda_is_that_on_the_cpu() -> None:
    checks.check_inverse()


def test_a_certificate_is_that_of_the_same_weights_on_the_cpu() -> None:
    checks.check_certificate()
