"""A whole study: its radius, precision, ladder and grid, and the trial that a sample means."""

import math
from typing import Any

import pytest

from study.config.parser import parse
from study.config.study import StudyConfig
from study.config.trial import ModelConfig
from study.errors import ConfigError
from study.tracking.pages import describe_study
from tests.support.studies import ABSENT, RAW, changed, tiny


@pytest.mark.parametrize(
    ("name", "given", "radius"),
    [
        ("digits", None, 0.5),
        ("cifar10", None, 36 / 255),
        ("own:data", None, 36 / 255),
        ("mnist", None, 1.58),
        ("mnist", 0.3, 0.3),
        ("emnist", None, 1.58),
        ("svhn", None, 36 / 255),
        ("wine", None, 0.5),
    ],
)
def test_the_radius_of_a_study_is_a_number(name: str, given: float | None, radius: float) -> None:
    """In what a dry run prints and MLflow keeps, too, which mean the same study again."""
    shift = {} if name == "wine" else {"shift": 0}
    study = tiny(data={"name": name, **shift}, evaluation={"radius": given})
    assert study.to_dict()["evaluation"]["radius"] == radius
    assert study.resolve({}, seed=0).radius == radius
    assert study.known_metrics["certified_accuracy"].title.endswith(
        {0.5: "0.5", 36 / 255: "36/255", 1.58: "1.58", 0.3: "0.3"}[radius]
    )
    assert parse(study.to_dict(), "again") == parse(study.to_short_dict(), "again") == study


@pytest.mark.parametrize(
    ("data", "unit"),
    [
        ({"name": "mnist"}, "pixels from 0 to 1"),
        ({"name": "own:data"}, "pixels from 0 to 1"),
        ({"name": "own:data", "table": True}, "standardized features"),
        ({"name": "breast_cancer"}, "standardized features"),
    ],
)
def test_radii_are_in_the_unit_of_the_data(data: dict[str, Any], unit: str) -> None:
    """In every text with one, and nowhere in the other unit."""
    study = parse(changed(RAW, {"data": {**data, "shift": ABSENT}}), "x")
    assert parse(study.to_short_dict(), "again") == study
    other = {"pixels from 0 to 1", "standardized features"} - {unit}
    texts = [metric.description for metric in study.known_metrics.values()]
    texts.append(describe_study(study))
    assert sum(f"l2, {unit}" in text for text in texts) == 5
    assert all(word not in text for text in texts for word in other)


def test_networks_answer_in_the_precision_that_suits_their_head() -> None:
    lipschitz = changed(RAW, {"model": {"head": "lipschitz"}})
    assert parse(lipschitz, "x").resolve({}, 0).precision == "float64"
    assert parse(RAW, "x").resolve({}, 0).precision == "float32"
    choices = {"type": "categorical", "choices": ["batch_norm", "lipschitz"]}
    varied = parse(changed(RAW, {"space": {"head": choices}}), "x")
    assert [varied.resolve({"head": head}, 0).precision for head in choices["choices"]] == [
        "float32", "float64",
    ]  # fmt: skip


def test_a_sample_settles_into_the_sections_of_its_keys() -> None:
    blocks = {"type": "categorical", "choices": [[1, 1], [2, 2]]}
    lr = {"type": "float", "low": 0.01, "high": 1, "log": True}
    change = {
        "model": {"blocks": ABSENT},
        "training": {"lr": ABSENT},
        "space": {"blocks": blocks, "lr": lr},
    }
    trial = parse(changed(RAW, change), "x").resolve({"blocks": [2, 2], "lr": 0.02}, seed=7)
    assert trial.model == ModelConfig(blocks=(2, 2), channel_multiplier=4)
    assert (trial.training.lr, trial.seed) == (0.02, 7)
    assert trial.objectives == ("val_accuracy", "block_lipschitz_upper_bound", "inverse_steps")


def test_a_grid_knows_its_size() -> None:
    coeff = {"coeff": {"high": 0.9, "step": 0.3}, "dropout": ABSENT}
    grid = changed(RAW, {"space": coeff, "search": {"sampler": "grid", "n_trials": ABSENT}})
    assert parse(grid, "x").n_trials == 3 * 20
    with pytest.raises(ConfigError, match="must be at most the size of the grid, 60, but got 61"):
        parse(grid, "x", {"search.n_trials": 61})


def searching(**search: Any) -> StudyConfig:
    return tiny(search=search)


def test_a_number_of_rungs_goes_down_the_space_by_equal_factors() -> None:
    study = searching(ladder=3)  # from 0.99^3 to 0.3^3
    ratio = 0.3 / 0.99
    assert study.ladder == pytest.approx([0.99**3 * ratio, 0.99**3 * ratio**2, 0.027], rel=1e-3)
    fixed = {"space": {"coeff": ABSENT}, "model": {"coeff": 0.9}, "search": {"ladder": 2}}
    rungs = parse(changed(RAW, fixed), "x").ladder
    assert rungs == pytest.approx([math.sqrt(0.9 * 0.3) ** 3, 0.027], rel=1e-3)
    of_potentials = {**fixed, "model": {"coeff": 0.9, "block": "potential"}}
    rungs = parse(changed(RAW, of_potentials), "x").ladder
    assert rungs == pytest.approx([math.sqrt(0.9 * 0.3), 0.3], rel=1e-3)
    with pytest.raises(ConfigError, match="must have room for rungs between"):
        parse(changed(RAW, {**fixed, "model": {"coeff": 0.3}}), "x")


def test_a_trial_takes_the_rungs_below_its_own_target() -> None:
    ladder = [0.9, 0.5, 0.3]
    trial = searching(ladder=ladder, fine_tune_steps=4).resolve({"coeff": 0.7}, seed=0)
    assert (trial.ladder, trial.fine_tune_steps) == ((0.3,), 4)
    potential = tiny(search={"ladder": ladder}, model={"block": "potential"})
    assert potential.resolve({"coeff": 0.7}, seed=0).ladder == (0.5, 0.3)
    plain = tiny(search={"ladder": ladder}, model={"norm": "none"})
    assert plain.resolve({"coeff": 0.3}, seed=0).ladder == (0.9, 0.5, 0.3)


@pytest.mark.parametrize(
    "model",
    [
        {"block": "bottleneck"},
        {"block": "potential"},  # on whole maps, by convolutions
        {"blocks": [], "dense_blocks": 2, "norm": "none"},
    ],
)
def test_only_what_can_be_inverted_is_trained_reversibly(model: dict[str, Any]) -> None:
    dense = {"blocks": [], "dense_blocks": 2}
    patches = {"block": "potential", "patch": 2, "dense_blocks": 0}
    reversible = {"training": {"reversible": True}}
    for able in (dense, patches):
        study = parse(changed(RAW, {"model": able, **reversible}), "x")
        assert study.resolve({}, seed=0).training.reversible is True
    with pytest.raises(ConfigError, match=r"training.reversible: must be false or auto unless"):
        parse(changed(RAW, {"model": model, **reversible}), "x").resolve({}, seed=0)
    auto = changed(RAW, {"model": model, "training": {"reversible": "auto"}})
    assert parse(auto, "x").resolve({}, seed=0).training.reversible == "auto"
    both = changed(RAW, {"model": dense, "training": {"reversible": True, "compile": True}})
    with pytest.raises(ConfigError, match=r"must be false where compile is true, but got True"):
        parse(both, "x")
