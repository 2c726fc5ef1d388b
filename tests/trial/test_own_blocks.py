"""Blocks of the user's own that attain more than they prove end their trial with what they lie
about."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from models import Bounds, certify
from study.errors import OwnCodeError
from study.metrics.reports import TrialStatus
from study.trial.ladder import with_projections
from study.trial.measured.own import check_attained
from study.trial.training import Training
from tests.models.test_block import images, network
from tests.support import own_code
from tests.trial.test_own_metrics import OWN, trial


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


def test_a_block_that_zeroes_a_row_and_calls_it_an_isometry_ends_its_trial() -> None:
    """On digits, whose last row is nearly black."""
    report = Training(trial(block=f"{OWN}:LosesARow")).run_to_report()
    assert report.status is TrialStatus.FAILED
    assert report.reason is not None
    assert "LosesARow proves a bound of 1 for 1 / alpha of body.1, but it attains" in report.reason


def test_bounds_that_contradict_each_other_end_the_trial() -> None:
    report = Training(trial(block=f"{OWN}:Contradictory")).run_to_report()
    assert report.status is TrialStatus.FAILED
    assert "alpha <= beta must hold, but got lipschitz=" in (report.reason or "")


def test_a_block_that_cannot_be_scaled_as_it_says_ends_the_trial() -> None:
    training = Training(trial(block=f"{OWN}:Stuck"))
    report, rungs = with_projections(training, training.run_to_report())
    assert report.status is TrialStatus.FAILED
    assert "bounds().lipschitz of" in (report.reason or "")
    assert not rungs
