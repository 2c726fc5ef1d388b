"""What a sampler observes of samples, by how their trainings ended."""

import math
from dataclasses import replace

import pytest
from optuna.trial import TrialState

from study.config import parser
from tests.support.searches import observed
from tests.support.studies import RAW, completed, failed, projection_report, running, tiny


def point(val_accuracy: float, bound: float, steps: float) -> dict[str, float]:
    return {
        "val_accuracy": val_accuracy,
        "block_lipschitz_upper_bound": bound,
        "inverse_steps": steps,
    }


def test_what_a_trial_is_told_as() -> None:
    searcher = observed(
        tiny(search={"n_trials": 8}),
        completed(val_accuracy=0.9, block_lipschitz_upper_bound=0.5),
        completed(
            val_accuracy=0.99, block_lipschitz_upper_bound=1.5, inverse_steps=1.0
        ),  # infeasible
        running(val_accuracy=0.99),
        failed("diverged"),
        None,
        completed(
            block_lipschitz_upper_bound=1.0, inverse_steps=0.5
        ),  # on the bound, so infeasible too
    )
    trials = searcher._study.trials
    assert [t.state for t in trials] == [
        TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED,
        TrialState.FAIL, TrialState.FAIL, TrialState.COMPLETE,
    ]  # fmt: skip
    assert trials[0].values == [0.9, 0.5, 4.0]
    assert trials[2].values is None
    assert trials[2].intermediate_values == {}
    assert [t.number for t in searcher._study.best_trials] == [0]


def test_of_a_bound_without_a_proof_the_sampler_observes_the_reference_point() -> None:
    bound = "inverse_lipschitz_upper_bound"
    raw = {
        **RAW,
        "objectives": {"val_accuracy": "maximize", bound: "minimize"},
        "reference_point": {bound: 50.0},
        "constraints": {"invertible": True},
    }
    proven = completed(val_accuracy=0.9, **{bound: 8.0})
    unproven = completed(val_accuracy=0.99, **{bound: math.inf})
    searcher = observed(parser.parse(raw, "x"), proven, unproven)
    expected = [[0.9, math.log10(8.0)], [0.99, math.log10(50.0)]]
    assert [t.values for t in searcher._study.trials] == expected
    assert [t.number for t in searcher._study.best_trials] == [0]


def test_gp_observes_a_failed_sample_as_the_worst_so_far() -> None:
    diverged = failed("diverged")
    ended = completed(**point(0.9, 0.5, 8.0)), completed(**point(0.8, 1.5, 4.0))
    gp = tiny(search={"sampler": "gp", "n_trials": 4})
    trials = observed(gp, diverged, *ended, diverged)._study.trials
    assert trials[0].state is TrialState.FAIL
    assert trials[3].values == [0.8, 1.5, 8.0]
    assert trials[3].constraints == trials[2].constraints


@pytest.mark.parametrize("bound", [1e308, math.inf])
def test_a_huge_violation_is_one_that_optuna_can_store(bound: float) -> None:
    study = tiny()
    objectives = tuple(o for o in study.objectives if o.metric == "val_accuracy")
    study = replace(study, objectives=objectives)
    searcher = observed(study, completed(block_lipschitz_upper_bound=bound))
    assert searcher._study.trials[0].state is TrialState.COMPLETE
    assert searcher._study.best_trials == []


def test_with_a_ladder_the_sampler_observes_the_hypervolume_of_all_that_a_training_gave() -> None:
    """Two boxes from the reference point (0.5, 1, 20): their volumes less that of their overlap."""
    study = tiny(search={"ladder": [0.5, 0.4], "n_trials": 5})
    reference = {"val_accuracy": 0.5, "block_lipschitz_upper_bound": 1.0, "inverse_steps": 20.0}
    study = replace(
        study,
        objectives=tuple(replace(o, reference=reference[o.metric]) for o in study.objectives),
    )
    rung = projection_report(0.4, **point(0.7, 0.25, 10.0))
    searcher = observed(
        study,
        completed([rung], **point(0.9, 0.5, 8.0)),
        completed([rung], **point(0.9, 1.5, 8.0)),  # infeasible but for its projection
        completed(block_lipschitz_upper_bound=1.5),
        running(val_accuracy=0.99),
        failed("diverged"),
    )
    trials = searcher._study.trials
    both = 0.4 * 0.5 * 12 + 0.2 * 0.75 * 10 - 0.2 * 0.5 * 10
    expected = [both, 0.2 * 0.75 * 10, 0.0]
    assert [t.values for t in trials[:3]] == [pytest.approx([volume]) for volume in expected]
    assert [t.state for t in trials[3:]] == [TrialState.PRUNED, TrialState.FAIL]
    # The best is the most, and no constraint speaks against it.
    assert searcher._study.best_trial.number == 0


def test_with_a_ladder_repeats_are_observed_as_the_mean_of_their_hypervolumes() -> None:
    """Each training has a front of its own: its networks alone."""
    study = tiny(search={"ladder": [0.4], "n_trials": 1, "repeats": 2})
    trainings = (point(0.8, 0.5, 20.0), point(0.4, 0.25, 10.0))
    searcher = observed(study, *(completed(**metrics) for metrics in trainings))
    assert searcher._study.trials[0].values == pytest.approx(
        [(0.8 * 0.5 * 80 + 0.4 * 0.75 * 90) / 2]
    )
