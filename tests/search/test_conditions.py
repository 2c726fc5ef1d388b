"""Parameters with `when`: part of those samples alone that meet it."""

import json
from typing import Any

import pytest

from study.config.parser import parse
from study.config.study import StudyConfig
from study.errors import ConfigError
from study.search.searcher import OptunaSearcher
from study.search.suggestion import Suggestion
from tests.support.searches import proposed

SPACE: dict[str, Any] = {
    "block": {"type": "categorical", "choices": ["bottleneck", "potential"]},
    "patch": {"type": "categorical", "choices": [2, 4], "when": {"block": "potential"}},
    "coeff": {"type": "float", "low": 0.1, "high": 0.9},
    "dropout": {"type": "float", "low": 0.1, "high": 0.5, "when": {"patch": [4]}},
}


def study(sampler: str = "tpe", space: dict[str, Any] = SPACE, **search: Any) -> StudyConfig:
    content = {
        "name": "conditional",
        "space": space,
        "objectives": {"val_accuracy": "maximize", "block_lipschitz_upper_bound": "minimize"},
        "search": {"sampler": sampler, **search},
    }
    return parse(content, "test")


def _meets(sample: dict[str, Any]) -> bool:
    """The keys that SPACE allows, written out."""
    keys = {"block", "coeff"}
    if sample["block"] == "potential":
        keys.add("patch")
        if sample["patch"] == 4:
            keys.add("dropout")
    return sample.keys() == keys


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "sobol", "random"])
def test_every_sampler_proposes_what_the_conditions_allow(sampler: str) -> None:
    config = study(sampler, n_trials=40)
    searcher = OptunaSearcher(config)
    samples = []
    for number in range(40):
        # Tune writes it down as JSON.
        config_of_trial = json.loads(json.dumps(proposed(searcher, str(number))))
        samples.append(dict(Suggestion(**config_of_trial).sample))
        searcher.on_trial_complete(str(number), None, error=True)
    assert all(map(_meets, samples))
    assert len({frozenset(sample) for sample in samples}) == 3
    for sample in samples:
        trial = config.resolve(sample, seed=0)
        assert trial.model.patch == sample.get("patch", 0)


def test_a_grid_has_each_sample_once() -> None:
    space = {**SPACE, "coeff": {"type": "categorical", "choices": [0.5, 0.9]}}
    space["dropout"] = {"type": "categorical", "choices": [0.1, 0.2, 0.3], "when": {"patch": [4]}}
    samples = study("grid", space).grid()
    assert all(map(_meets, samples))
    # For each coefficient: bottleneck, patches of 2, and patches of 4 with three dropouts.
    assert len(samples) == 2 * (1 + 1 + 3)


def test_given_samples_have_what_the_conditions_allow() -> None:
    first = [
        {"block": "potential", "patch": 2, "coeff": 0.5},
        {"block": "bottleneck", "coeff": 0.5},
    ]
    config = study(n_trials=2, first=first)
    searcher = OptunaSearcher(config)
    for number, expected in enumerate(first):
        assert proposed(searcher, str(number))["sample"] == expected
    for sample, message in (
        ({"block": "bottleneck", "patch": 2, "coeff": 0.5}, "must have no value of patch"),
        ({"block": "potential", "coeff": 0.5}, "must have a value of patch"),
    ):
        with pytest.raises(ConfigError, match=message):
            study(n_trials=2, first=[sample])


def test_a_study_with_conditions_comes_back_from_its_file() -> None:
    config = study(n_trials=4)
    assert parse(config.to_dict(), "again") == config
    assert parse(config.to_short_dict(), "again") == config


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({"coeff": 0.5}, "must name parameters that stand ahead of patch in the space"),
        ({"nothing": 1}, "must name parameters that stand ahead of patch"),
        ({"block": "dense"}, "space.patch.when: must be a value of space.block, but got 'dense'"),
        (3, "space.patch.when: must be a"),
        ({"block": []}, "space.patch.when: must have one or more values"),
    ],
)
def test_conditions_that_cannot_be_met_are_refused(when: object, message: str) -> None:
    space = {**SPACE, "patch": {"type": "categorical", "choices": [2, 4], "when": when}}
    with pytest.raises(ConfigError, match=message):
        study(space=space, n_trials=2)
