import contextlib
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from study.config import file, parser
from study.config.space import FloatParameter
from study.config.study import StudyConfig
from study.config.trial import ModelConfig
from study.errors import ConfigError
from study.metrics.definitions import VAL_ACCURACY, Direction
from study.metrics.goals import Constraint
from tests.support.launched import ROOT
from tests.support.studies import RAW, tiny

TEXT = """
name: digits
data: {name: digits}
model: {blocks: [3, 3], norm: spectral}
training: {max_epochs: 10, batch_size: 128, lr: 0.1}
space:
  coeff: {type: float, low: 0.3, high: 0.99}
  n_power_iterations: {type: int, low: 1, high: 20, log: true}
  activation: {type: categorical, choices: [relu, elu]}
objectives: {val_accuracy: maximize, lipschitz_upper_bound: minimize, inverse_steps: minimize}
constraints: {lipschitz_upper_bound: "< 1"}
search: {sampler: tpe, n_trials: 12, seed: 0}
"""
SPACE_FOLDER = Path(__file__).parents[2] / "search_spaces"
SPACES = sorted(SPACE_FOLDER.glob("*.yaml"))
assert SPACES


def changed(old: str, new: str) -> str:
    assert old in TEXT
    return TEXT.replace(old, new)


def test_a_study_file_becomes_typed_and_defaults_are_the_papers() -> None:
    study = file.loads(TEXT, "x.yaml")
    assert study.model.blocks == (3, 3)
    assert study.model.bottleneck == 4
    assert (study.training.momentum, study.training.weight_decay) == (0.9, 5e-4)
    assert study.training.lr_milestones == (0.3, 0.6, 0.8)
    assert dict(study.space)["coeff"] == FloatParameter("float", 0.3, 0.99)
    assert [o.direction for o in study.objectives] == [
        Direction.MAXIMIZE, Direction.MINIMIZE, Direction.MINIMIZE,
    ]  # fmt: skip
    assert study.constraints == (Constraint("lipschitz_upper_bound", "<", 1.0),)


def test_the_reference_point_is_the_constraint_or_the_worst_value() -> None:
    study = file.loads(changed('"< 1"', '"<= 0.8"'), "x.yaml")
    assert [o.reference for o in study.objectives] == [0.0, 0.8, 100.0]
    study = file.loads(TEXT + "reference_point: {inverse_steps: 20}\n", "x.yaml")
    assert [o.reference for o in study.objectives] == [0.0, 1.0, 20.0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "objectives:",
            "reference_point: {val_accuracy: 90}\nobjectives:",
            "reference_point.val_accuracy: must be below 1, since no network is better than that, "
            "but got 90",
        ),
        (
            "objectives:",
            "reference_point: {inverse_steps: -1}\nobjectives:",
            "reference_point.inverse_steps: must be above 0, since no network is better than that, "
            "but got -1",
        ),
        (
            'lipschitz_upper_bound: "< 1"',
            'val_accuracy: "> 90"',
            "constraints.val_accuracy: must be one that a network can meet: val_accuracy is at "
            "most 1, but got '> 90'",
        ),
        (
            'lipschitz_upper_bound: "< 1"',
            'lipschitz_upper_bound: "< 0"',
            "constraints.lipschitz_upper_bound: must be one that a network can meet: "
            "lipschitz_upper_bound is at least 0, but got '< 0'",
        ),
    ],
)
def test_a_goal_that_no_network_reaches_is_refused_of_a_new_study(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(changed(old, new))
    with pytest.raises(ConfigError) as caught:
        file.study_of(path, {})
    assert str(caught.value) == f"{path}: {message}"
    file.load(path)  # one that was begun can be read


def test_goals_that_a_network_reaches_are_taken(tmp_path: Path) -> None:
    """At the limit a constraint can be kept, and a reference point may be out of reach below."""
    path = tmp_path / "x.yaml"
    points = "reference_point: {val_accuracy: -1, inverse_steps: 1000000, lipschitz_upper_bound: 7}"
    text = changed("objectives:", f"{points}\nobjectives:")
    path.write_text(text.replace('"< 1"', '"<= 0", val_accuracy: ">= 1"'))
    assert [o.reference for o in file.study_of(path, {}).config.objectives] == [-1.0, 7.0, 1e6]


def test_what_is_written_reads_back_the_same() -> None:
    study = file.loads(TEXT, "x.yaml")
    assert file.loads(file.to_yaml(study), "again") == study
    assert parser.parse(study.to_dict(), "again") == study
    assert yaml.safe_load(file.to_yaml(study)) == study.to_dict()


def test_a_sample_settles_into_the_sections_of_its_keys() -> None:
    text = changed("  coeff", "  lr: {type: float, low: 0.01, high: 1, log: true}\n  coeff")
    study = file.loads(text.replace(", lr: 0.1", ""), "x.yaml")
    trial = study.resolve({"coeff": 0.5, "lr": 0.02, "activation": "elu"}, seed=7)
    assert trial.model == ModelConfig(blocks=(3, 3), coeff=0.5, activation="elu")
    assert trial.training.lr == 0.02
    assert trial.seed == 7
    assert trial.objectives == ("val_accuracy", "lipschitz_upper_bound", "inverse_steps")


def test_lists_may_be_choices() -> None:
    text = changed("model: {blocks: [3, 3], norm: spectral}", "model: {norm: spectral}")
    blocks = "{type: categorical, choices: [[1, 1], [2, 2]]}"
    text = text.replace("\n  coeff", f"\n  blocks: {blocks}\n  coeff")
    study = file.loads(text, "x.yaml")
    assert study.resolve({"blocks": [2, 2]}, seed=0).model.blocks == (2, 2)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # A typing slip each, and the whole line that its author reads.
        ("lr: 0.1", "lrr: 0.1", "training.lrr: unknown key 'lrr'; the nearest known one is 'lr'"),
        (
            "search:",
            "num_samples: 5\nsearch:",
            "num_samples: unknown key 'num_samples'; Ray Tune's num_samples is search.n_trials "
            "here",
        ),
        ("search:", "lr: 0.1\nsearch:", "lr: unknown key 'lr'; it belongs in training"),
        ("search:", "serch:", "serch: unknown key 'serch'; the nearest known one is 'search'"),
        (
            "coeff:",
            "coef:",
            "space.coef: unknown key 'coef'; the nearest known one is 'coeff'",
        ),
        (
            "max_epochs: 10",
            "max_epochs: ten",
            "training.max_epochs: must be a valid integer, but got 'ten'",
        ),
        (
            "batch_size: 128",
            "batch_size: 12.5",
            "training.batch_size: must be a valid integer, but got 12.5",
        ),
        (
            "lr: 0.1",
            "lr: 1e-3",
            "training.lr: must be a valid number, but got the text '1e-3' (YAML 1.1 reads it as "
            "text, not as a number; write 0.001 instead)",
        ),
        (
            "lr: 0.1",
            "lr: 1e-6",
            "training.lr: must be a valid number, but got the text '1e-6' (YAML 1.1 reads it as "
            "text, not as a number; write 1.0e-06 instead)",
        ),
        (
            "n_trials: 12",
            "n_trials: 1e9",
            "search.n_trials: must be a valid integer, but got the text '1e9' (YAML 1.1 reads it "
            "as text, not as a number; write 1000000000 instead)",
        ),
        # No number that can be advised would be accepted.
        (
            "n_trials: 12",
            "n_trials: 1e-3",
            "search.n_trials: must be a valid integer, but got '1e-3'",
        ),
        (
            "n_trials: 12",
            "n_trials: '2.0'",
            "search.n_trials: must be a valid integer, but got '2.0'",
        ),
        ("lr: 0.1", "lr: 1e999", "training.lr: must be a valid number, but got '1e999'"),
        (
            "sampler: tpe",
            "sampler: 1e9",
            "search.sampler: must be 'tpe', 'nsga2', 'gp', 'sobol', 'random' or 'grid', but got "
            "'1e9'",
        ),
        (
            "lr: 0.1",
            "lr: 2020-01-01",
            "training.lr: must be a valid number, but got '2020-01-01'",
        ),
        ("lr: 0.1", "lr: -1", "training.lr: lr > 0 must hold, but got lr=-1.0"),
        ("lr: 0.1", "lr: .inf", "training.lr: numbers must be finite, but got inf"),
        ("lr: 0.1", "lr: true", "training.lr: must be a valid number, but got True"),
        (
            "low: 0.3, high: 0.99",
            "low: 0.9, high: 0.3",
            "space.coeff.low: low <= high must hold, but got low=0.9, high=0.3",
        ),
        (
            "low: 0.3, high: 0.99",
            "low: 0.0, high: 0.99, log: true",
            "space.coeff.low: low > 0 where log must hold, but got low=0.0",
        ),
        (
            "high: 0.99",
            "high: 1.0",
            "space.coeff: 0 < coeff < 1 must hold, but got coeff=1.0",
        ),
        ("low: 0.3, ", "", "space.coeff.low: this key is required"),
        (
            "n_trials: 12",
            "n_trials: '12'",
            "search.n_trials: must be a valid integer, but got the "
            "text '12'; without quotes it is a number",
        ),
        ("space:", "search_space:", "search_space: unknown key 'search_space'; it is space here"),
        (
            "type: float",
            "type: loguniform",
            "space.coeff.type: must be one of float, int, categorical, but got 'loguniform'; Ray "
            "Tune's loguniform is written like {type: float, low: 0.1, high: 0.9, log: true} here",
        ),
        (
            "type: float",
            "type: flot",
            "space.coeff.type: must be one of float, int, categorical, but got 'flot'; did you "
            "mean 'float'?",
        ),
        (
            "[relu, elu]",
            "[relu, gelu]",
            "space.activation: must be 'relu', 'elu' or 'softplus', but got 'gelu'",
        ),
        (
            "objectives: {val_accuracy",
            "objectives: {val_acc",
            "objectives.val_acc: unknown metric 'val_acc'; the nearest known one is 'val_accuracy'",
        ),
        (
            "objectives: {val_accuracy",
            "objectives: {test_accuracy",
            "objectives.test_accuracy: 'test_accuracy' is read once, at the end, and must not "
            "steer a study",
        ),
        (
            "inverse_steps: minimize",
            "inverse_steps: minimise",
            "objectives.inverse_steps: must be one of maximize, minimize, but got 'minimise'; did "
            "you mean 'minimize'?",
        ),
        (
            "inverse_steps: minimize",
            "val_loss: minimize",
            "reference_point.val_loss: this key is required, since 'val_loss' has no natural "
            "worst value to measure the hypervolume from when it is to minimize",
        ),
        (
            "sampler: tpe",
            "sampler: tpee",
            "search.sampler: must be 'tpe', 'nsga2', 'gp', 'sobol', 'random' or 'grid', but got "
            "'tpee'",
        ),
        (
            '"< 1"',
            '"below 1"',
            "constraints.lipschitz_upper_bound: a constraint must read like '< 1', with <, <=, > "
            "or >= and a number, but got 'below 1'",
        ),
        (
            '"< 1"',
            "1",
            "constraints.lipschitz_upper_bound: a constraint must read like '< 1', with <, <=, > "
            "or >= and a number, but got 1; did you mean '< 1'?",
        ),
        (
            '"< 1"',
            '"0.9"',
            "constraints.lipschitz_upper_bound: a constraint must read like '< 1', with <, <=, > "
            "or >= and a number, but got '0.9'; did you mean '< 0.9'?",
        ),
        (
            "inverse_steps: minimize",
            "inverse_step: minimize",
            "objectives.inverse_step: unknown metric 'inverse_step'; the nearest known one is "
            "'inverse_steps'",
        ),
        (
            "n_trials: 12",
            "n_trials: 0",
            "search.n_trials: n_trials >= 1 must hold, but got n_trials=0",
        ),
        (", n_trials: 12", "", "search.n_trials: this key is required"),
        (
            "sampler: tpe",
            "sampler: tpe, first: [{coeff: 0.9, n_power_iterations: 1}]",
            "search.first: must have a value for each parameter, but got none for activation",
        ),
        (
            "sampler: tpe",
            "sampler: tpe, first: [{coef: 0.9}]",
            "search.first: unknown parameter 'coef'; the nearest known one is 'coeff'",
        ),
        (
            "sampler: tpe",
            "sampler: tpe, first: [{coeff: 0.9, n_power_iterations: 1.5, activation: elu}]",
            "search.first: n_power_iterations must be in space.n_power_iterations, but got 1.5",
        ),
        (
            "sampler: tpe",
            "sampler: tpe, first: [0.9]",
            "search.first.0: must be a mapping of keys, but got 0.9",
        ),
        (
            "sampler: tpe",
            "sampler: grid",
            "space.coeff: for sampler grid a float parameter must have a step, or be categorical",
        ),
        (
            "norm: spectral",
            "norm: spectral, coeff: 0.9",
            "space.coeff: stands in model too; it must be in one of them",
        ),
        (
            "name: digits\ndata",
            "name: ../digits\ndata",
            "name: a name must be 1 to 100 letters, digits, '.', '_' or '-', not first a sign, "
            "but got '../digits'",
        ),
        ("name: digits\ndata", "data", "name: this key is required"),
        (
            "training: {",
            "training:\n\t{",
            "line 6, column 1: not valid YAML: found character '\\t' that cannot start any token "
            "(a tab; YAML indents with spaces)",
        ),
        (
            "lr: 0.1",
            "lr: 0.1, lr: 0.2",
            "line 5, column 54: not valid YAML: the key 'lr' stands twice",
        ),
    ],
)
def test_one_line_names_the_file_the_key_the_rule_and_the_value(
    old: str, new: str, message: str
) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(f"x.yaml: {message}") + "$"):
        file.loads(changed(old, new), "x.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a study file must be a mapping of keys, but got None"),
        ("[1, 2]", "a study file must be a mapping of keys, but got [1, 2]"),
        ("a: b: c", "line 1, column 5: not valid YAML: mapping values are not allowed here"),
        (
            "!!python/object/apply:os.system [ls]",
            "line 1, column 1: not valid YAML: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.system'",
        ),
        ("name: 2024-02-30", "not valid YAML: day is out of range for month"),
        ("data: &a {x: *a}", "a study file must not contain itself"),
        (
            TEXT.replace("type: float", "type: [float]"),
            "space.coeff.type: must be one of float, int, categorical, but got ['float']; did you "
            "mean 'float'?",
        ),
        (
            TEXT + "resources: {cpus: 1.5}",
            "resources.cpus: cpus <= 1 or a whole number must hold, but got cpus=1.5",
        ),
        (
            TEXT + "resources: {gpus: 2}",
            "resources.gpus: gpus <= 1, since a trial trains on one GPU, must hold, but got "
            "gpus=2.0",
        ),
        (
            re.sub(r"space:\n(  .*\n)+", "space: {}\n", TEXT),
            "space: one or more parameters must be given, but it is empty",
        ),
        (
            re.sub(r"space:\n(  .*\n)+", "space:\n", TEXT),
            "space: must be a mapping of keys, but got None",
        ),
    ],
)
def test_what_is_no_study_is_said_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(f"x.yaml: {message}") + "$"):
        file.loads(text, "x.yaml")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("[0.7, 0.8]", "must be a mapping of keys, but got [0.7, 0.8]; it is written "
         "like {type: categorical, choices: [...]}"),
        ("0.9", "must be a mapping of keys, but got 0.9; a value that is not searched belongs in "
         "model"),
        ("tune.loguniform(0.1, 1)", "must be a mapping of keys, but got 'tune.loguniform(0.1, 1)'; "
         "it is written like {type: float, low: 0.1, high: 0.9}"),
        ("{loguniform: [0.1, 1]}", ".type: this key is required; Ray Tune's loguniform is written "
         "like {type: float, low: 0.1, high: 0.9, log: true} here"),
        ("{choice: [1, 2]}", ".type: this key is required; Ray Tune's choice is written like "
         "{type: categorical, choices: [1, 2]} here"),
        ("{low: 0.1, high: 1}", ".type: this key is required; it is written like {type: float, "
         "low: 0.1, high: 0.9}"),
    ],
)  # fmt: skip
def test_what_is_no_parameter_is_told_how_to_write_one(given: str, says: str) -> None:
    text = changed("{type: float, low: 0.3, high: 0.99}", given)
    with pytest.raises(ConfigError) as error:
        file.loads(text, "x.yaml")
    assert str(error.value).removeprefix("x.yaml: space.coeff").removeprefix(": ") == says


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: there is no such file$"):
        file.load(tmp_path / "nowhere.yaml")
    (tmp_path / "mine.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"no such file; did you mean /.*/mine\.yaml\?$"):
        file.load(tmp_path / "min.yaml")
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: there is no such file$"):
        file.load(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        file.load(tmp_path)


def test_an_option_takes_the_place_of_its_key_and_is_named_for_it() -> None:
    study = file.loads(TEXT, "x.yaml", {"search.n_trials": ("--trials", 3)})
    assert study.n_trials == 3
    with pytest.raises(ConfigError, match=r"^--trials: search\.n_trials: n_trials >= 1 must hold"):
        file.loads(TEXT, "x.yaml", {"search.n_trials": ("--trials", 0)})


def test_a_grid_knows_its_size() -> None:
    text = changed("high: 0.99", "high: 0.9, step: 0.3").replace("sampler: tpe", "sampler: grid")
    study = file.loads(text.replace(", n_trials: 12", ""), "x.yaml")
    assert study.n_trials == 3 * 20 * 2
    with pytest.raises(ConfigError, match="n_trials <= size of the grid must hold"):
        file.loads(text.replace("n_trials: 12", "n_trials: 121"), "x.yaml")


@pytest.mark.parametrize(
    ("operator", "inside", "outside"),
    [("<", 0.9, 1.0), ("<=", 1.0, 1.1), (">", 1.1, 1.0), (">=", 1.0, 0.9)],
)
def test_constraints(operator: str, inside: float, outside: float) -> None:
    constraint = Constraint("x", operator, 1.0)  # type: ignore[arg-type]
    assert constraint.holds(inside)
    assert not constraint.holds(outside)
    assert not constraint.holds(float("nan"))
    assert constraint.violation(inside) <= 0 <= constraint.violation(outside)


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_shipped_studies_are_valid_and_named_for_their_file(path: Path) -> None:
    assert file.load(path).name == path.stem


def test_table1_on_cifar10_is_the_papers_network_and_recipe() -> None:
    study = file.load(SPACE_FOLDER / "table1_cifar10.yaml")
    assert study.model.blocks == (18, 18, 19)
    training = study.training
    assert (training.max_epochs, training.lr, training.lr_decay) == (200, 0.1, 0.2)
    assert [m * training.max_epochs for m in training.lr_milestones] == [60, 120, 160]
    assert study.resources.gpus > 0


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_a_shipped_hypervolume_counts_networks_that_people_would_use(path: Path) -> None:
    reference = {o.metric: o.reference for o in file.load(path).objectives}
    assert 0.5 <= reference[VAL_ACCURACY] <= 0.9


def searching(**search: Any) -> StudyConfig:
    return tiny(search=search)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"ladder": "x"}, "search.ladder: must be a list, but got 'x'"),
        ({"ladder": [0.9, "a"]}, "search.ladder.1: must be a valid number, but got 'a'"),
        (
            {"ladder": [0.5, 0.9]},
            "search.ladder: a ladder of decreasing coefficients in (0, 1) must hold, but got "
            "ladder=[0.5, 0.9]",
        ),
        ({"ladder": -1}, "search.ladder: ladder >= 0 must hold, but got ladder=-1"),
        ({"repeats": 0}, "search.repeats: repeats >= 1 must hold, but got repeats=0"),
        ({"max_hours": 0}, "search.max_hours: max_hours > 0 must hold, but got max_hours=0.0"),
        ({"fine_tune_steps": -1}, "search.fine_tune_steps: fine_tune_steps >= 0 must hold, but"),
        ({"warm_start": "digits"}, "search.warm_start: must be a list, but got 'digits'"),
        (
            {"stop": {"gain": 0.1}},
            "search.stop.gain: unknown key 'gain'; there are hypervolume_gain, over_trials",
        ),
        (
            {"stop": {"hypervolume_gain": 2}},
            "search.stop.hypervolume_gain: 0 < hypervolume_gain < 1 must hold, but got "
            "hypervolume_gain=2.0",
        ),
        ({"stop": {"over_trials": 2.5}}, "search.stop.over_trials: must be a valid integer"),
    ],
)
def test_what_is_wrong_with_a_search_is_said(search: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        searching(**search)
    assert str(error.value).startswith(f"tiny.yaml: {message}")


def test_a_ladder_needs_objectives_that_a_projection_has() -> None:
    with pytest.raises(ConfigError, match=r"search.ladder: must be left out with .* 'train_accura"):
        tiny(search={"ladder": 3}, objectives={"train_accuracy": "maximize"})


def test_a_number_of_rungs_goes_down_the_space_by_equal_factors() -> None:
    study = searching(ladder=3)  # from 0.99 to 0.3
    ratio = (0.3 / 0.99) ** (1 / 3)
    assert study.ladder == pytest.approx([0.99 * ratio, 0.99 * ratio**2, 0.3], rel=1e-3)
    space = {key: value for key, value in RAW["space"].items() if key != "coeff"}
    raw = {**RAW, "space": space, "search": {**RAW["search"], "ladder": 2}}
    fixed = parser.parse({**raw, "model": {**RAW["model"], "coeff": 0.9}}, "x")
    assert fixed.ladder == pytest.approx([math.sqrt(0.9 * 0.3), 0.3], rel=1e-3)


def test_a_trial_takes_the_rungs_below_its_own_coefficient() -> None:
    study = searching(ladder=[0.9, 0.7, 0.5], fine_tune_steps=4)
    trial = study.resolve({"coeff": 0.7}, seed=0)
    assert (trial.ladder, trial.fine_tune_steps) == ((0.5,), 4)
    plain = replace(study, model=replace(study.model, norm="none"))
    assert plain.resolve({"coeff": 0.3}, seed=0).ladder == (0.9, 0.7, 0.5)


def test_repeats_multiply_the_trials() -> None:
    assert searching(n_trials=5, repeats=3).n_trainings == 15


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"search": {"ladder": [0.5]}, "model": {"norm": "batch"}},
            "search.ladder: must be left out with norm 'batch'",
        ),
        (
            {"search": {"warm_start": ["a"], "sampler": "nsga2"}},
            "search.warm_start: must be left out with sampler 'nsga2'",
        ),
        (
            {"search": {"sampler": "gp"}, "scheduler": {"name": "mo_asha"}},
            "search.sampler: must not be 'gp' with scheduler 'mo_asha'",
        ),
        (
            {"search": {"sampler": "gp"}, "scheduler": {"name": "asha"}},
            "search.sampler: must not be 'gp' with scheduler 'asha'",
        ),
        ({"search": {"warm_start": ["a", "a"]}}, "search.warm_start: distinct studies in"),
    ],
)
def test_what_would_silently_do_nothing_is_refused(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        tiny(**sections)
    assert str(error.value).startswith(f"tiny.yaml: {message}")


@pytest.mark.parametrize("name", [path.stem for path in SPACES])
def test_a_shipped_study_is_found_by_its_bare_name_from_anywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert file.locate(name) == SPACE_FOLDER / f"{name}.yaml"
    assert file.locate(f"{name}.yaml") == Path(f"{name}.yaml")
    (tmp_path / name).write_text("")
    assert file.locate(name) == Path(name)


def test_a_bare_name_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^zzz: there is no such file or shipped study; shipped are .*digits, .*mnist",
    ):
        file.locate("zzz")


def test_a_bare_name_that_is_near_to_a_study_is_told_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("")
    for typed, meant in (("digitz", "digits"), ("mnst", "mnist"), ("mine", r"mine\.yaml")):
        with pytest.raises(ConfigError, match=rf"^{typed}: .*; did you mean {meant}\?$"):
            file.locate(typed)


def test_a_mistyped_objective_is_named_and_not_its_reference_point() -> None:
    text = changed("inverse_steps: minimize", "inverse_step: minimize")
    with pytest.raises(ConfigError, match=r"^x\.yaml: objectives\.inverse_step: unknown metric"):
        file.loads(text + "reference_point: {inverse_steps: 20}\n", "x.yaml")


def test_a_name_that_is_near_to_none_is_told_what_there_is() -> None:
    with pytest.raises(ConfigError) as error:
        file.loads(changed("data: {", "data: {zzzz: 1, "), "x.yaml")
    assert str(error.value).startswith("x.yaml: data.zzzz: unknown key 'zzzz'; there are name, ")
    assert "__" not in str(error.value)


@pytest.mark.parametrize("path", sorted((ROOT / "search_spaces").glob("*.yaml")), ids=str)
def test_the_short_form_of_a_study_says_the_same_and_no_default(path: Path) -> None:
    study = file.load(path)
    short = file.to_short_yaml(study)
    assert file.loads(short, "short.yaml") == study
    assert len(short) < len(file.to_yaml(study))
    # What stands in it decides something: without any one of its settings it is another study.
    content = yaml.safe_load(short)
    for section in ("data", "model", "training", "search"):
        for key in content.get(section, {}):
            less = {**content, section: {k: v for k, v in content[section].items() if k != key}}
            with contextlib.suppress(ConfigError):  # or none at all
                assert file.loads(yaml.safe_dump(less), "less.yaml") != study, (section, key)
