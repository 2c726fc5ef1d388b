"""What is asked of a study, as a mapping: what it means, and what is said of a mistake in it."""

import json
import re
from dataclasses import fields
from datetime import date
from typing import Any

import pytest
import yaml

from study.config.parser import parse
from study.config.space import FloatParameter
from study.config.study import SECTIONS
from study.config.trial import ModelConfig
from study.errors import ConfigError
from study.metrics.definitions import Direction
from study.metrics.goals import Constraint
from tests.support.studies import RAW, changed

WHOLE = {**RAW, "model": {"blocks": [1, 1]}, "space": {**RAW["space"]}}
WHOLE["space"]["activation"] = {"type": "categorical", "choices": ["relu", "elu"]}

# Keys that are changed, and below them the line that their author reads.
MISTAKES = """
training: {lrr: 0.1}
    training.lrr: unknown key 'lrr'; did you mean 'lr'?
lr: 0.1
    lr: unknown key 'lr'; it belongs in training
{serch: {n_trials: 1}, search: ABSENT}
    serch: unknown key 'serch'; did you mean 'search'?
data: {zzzz: 1}
    data.zzzz: unknown key 'zzzz'; there are name, root, val_fraction, test_fraction, split_seed,
    shift, rotate, flip, size, max_train, download, table
data: {name: image_folder, root: "a\\0b"}
    data.root: must be a path, or an address, but got 'a\\x00b'
search: {stop: {gain: 0.1}}
    search.stop.gain: unknown key 'gain'; there are hypervolume_gain, over_trials
space: {coef: {type: float, low: 0.3, high: 0.9}}
    space.coef: unknown key 'coef'; did you mean 'coeff'?
space: {coeff: {hig: 0.9, high: ABSENT}}
    space.coeff.hig: unknown key 'hig'; did you mean 'high'?
{objectives: {inverse_steps: ABSENT, inverse_step: minimize}, reference_point: {inverse_steps: 20}}
    objectives.inverse_step: unknown metric 'inverse_step'; did you mean 'inverse_steps'?
reference_point: {inverse_step: 20}
    reference_point.inverse_step: unknown key 'inverse_step'; did you mean
    'inverse_steps'?
objectives: {test_accuracy: maximize}
    objectives.test_accuracy: 'test_accuracy' is read once, at the end, and must not steer a study
[1, 2]
    a study file must be a mapping of keys, but got [1, 2]
model: [3, 3]
    model: must be a mapping of keys, but got [3, 3]
name: ABSENT
    name: this key is required
name: ../digits
    name: must be 1 to 100 letters, digits, '.', '_' or '-', and begin with a letter or digit, but
    got '../digits'
training: {max_epochs: ten}
    training.max_epochs: must be a valid integer, but got 'ten'
training: {lr: true}
    training.lr: must be a valid number, but got True
training: {lr: 2020-01-01}
    training.lr: must be a valid number, but got '2020-01-01'
training: {lr: 0}
    training.lr: must be greater than 0, but got 0
training: {lr_milestones: [0.6, 0.3]}
    training.lr_milestones: must be increasing numbers in (0, 1), but got [0.6, 0.3]
training: {nesterov: true, momentum: 0}
    training.nesterov: must not be true where momentum is 0, but got True
model: {blocks: [2, 0]}
    model.blocks: must be counts >= 1, but got [2, 0]
model: {blocks: [1, x]}
    model.blocks.1: must be a valid integer, but got 'x'
resources: {cpus: 1.5}
    resources.cpus: must be at most 1, or a whole number, but got 1.5
scheduler: {name: mo_asha, metric: val_accuracy}
    scheduler.metric: must be left out with mo_asha, which takes all objectives, but got
    'val_accuracy'
scheduler: {name: asha, metric: val_loss}
    scheduler.metric: must be one of val_accuracy, block_lipschitz_upper_bound, inverse_steps, but
    got 'val_loss'
space: ABSENT
    space: this key is required
space: {coeff: ABSENT, n_power_iterations: ABSENT, dropout: ABSENT, activation: ABSENT}
    space: must have at least 1 item, but got {}
space: {coeff: 0.9}
    space.coeff: must be a mapping of keys, such as {type: float, low: 0.1, high: 0.9} or {type:
    categorical, choices: [1, 2]}, but got 0.9
space: {coeff: {type: loguniform}}
    space.coeff.type: must be one of float, int, categorical, as in {type: float, low: 0.1, high:
    0.9} or {type: categorical, choices: [1, 2]}, but got 'loguniform'
space: {coeff: {type: ABSENT}}
    space.coeff.type: must be one of float, int, categorical, as in {type: float, low: 0.1, high:
    0.9} or {type: categorical, choices: [1, 2]}
space: {coeff: {low: 0.995}}
    space.coeff.low: must be at most high, 0.99, but got 0.995
space: {coeff: {high: 2.0}}
    space.coeff: must be less than 2, but got 2.0
space: {activation: {choices: [relu, gelu]}}
    space.activation: must be 'relu', 'elu' or 'softplus', but got 'gelu'
model: {coeff: 0.9}
    space.coeff: must stand here or in model, not in both
objectives: {val_loss: minimize}
    reference_point.val_loss: this key is required, since 'val_loss' has no natural worst value to
    measure the hypervolume from when it is to minimize
{objectives: {inverse_lipschitz_upper_bound: minimize}, constraints: {invertible: true}}
    reference_point.inverse_lipschitz_upper_bound: this key is required, since
    'inverse_lipschitz_upper_bound' has no natural worst value to measure the hypervolume from when
    it is to minimize
reference_point: {val_accuracy: 90}
    reference_point.val_accuracy: must be below 1, since no network is better than that, but got
    90.0
{objectives: {&bound inverse_lipschitz_upper_bound: maximize}, reference_point: {*bound : 0}}
    reference_point.inverse_lipschitz_upper_bound: must be above 0, since the hypervolume takes its
    logarithm, but got 0.0
reference_point: {inverse_steps: -1}
    reference_point.inverse_steps: must be above 0, since no network is better than that, but got
    -1.0
constraints: {block_lipschitz_upper_bound: below 1}
    constraints.block_lipschitz_upper_bound: must read like '< 1', with <, <=, > or >= and a number,
    but got 'below 1'
constraints: {invertible: false}
    constraints.invertible: must be true, or left out, but got False
constraints: {invertible: "< 1"}
    constraints.invertible: must be true, or left out, but got '< 1'
constraints: {val_accuracy: true}
    constraints.val_accuracy: must read like '< 1', with <, <=, > or >= and a number, but got True
constraints: {val_accuracy: "> 90"}
    constraints.val_accuracy: must be one that a network can meet: val_accuracy is at most 1, but
    got '> 90'
constraints: {block_lipschitz_upper_bound: "< 0"}
    constraints.block_lipschitz_upper_bound: must be one that a network can meet:
    block_lipschitz_upper_bound is at least 0, but got '< 0'
search: {sampler: tpee}
    search.sampler: unknown sampler 'tpee'; did you mean 'tpe'?
search: {n_trials: ABSENT}
    search.n_trials: this key is required
search: {sampler: grid}
    space.coeff: for sampler grid a float parameter must have a step, or be categorical
search: {first: [{coeff: 0.9}]}
    search.first: must have a value of n_power_iterations, but got {'coeff': 0.9}
search: {first: [{coef: 0.9}]}
    search.first: unknown parameter 'coef'; did you mean 'coeff'?
search: {first: [{coeff: .nan, n_power_iterations: 1, dropout: 0, activation: elu}]}
    search.first: coeff must be in space.coeff, but got nan
search: {first: [0.9]}
    search.first.0: must be a mapping of keys, but got 0.9
search: {ladder: x}
    search.ladder: must be a list, but got 'x'
search: {ladder: [0.5, 0.9]}
    search.ladder: must be decreasing bounds in (0, 1), but got [0.5, 0.9]
search: {ladder: -1}
    search.ladder: must be a list, or a number >= 0, but got -1
{search: {ladder: [0.5]}, model: {norm: batch}}
    search.ladder: must be left out with norm 'batch', whose factors follow the data, but got [0.5]
{search: {ladder: 3}, objectives: {train_accuracy: maximize}}
    search.ladder: must be left out with objective or constraint 'train_accuracy', which a network
    that is projected without training does not have, but got 3
search: {ladder: 1000000000}
    search.ladder: must be at most 100 bounds, but got 1000000000
training: {max_epochs: HUGE}
    training.max_epochs: must be less than or equal to 1000000, but got CUT
model: {blocks: [600, 600]}
    model.blocks: must be at most 1000 blocks together, but got [600, 600]
resources: {gpus: 1.0e-300}
    resources.gpus: must be 0, or at least 0.0001, but got 1e-300
{search: {sampler: grid}, space: {coeff: {step: 1.0e-300}}}
    space.coeff: for sampler grid it must have at most 1000000 values
{search: {sampler: grid}, space: {coeff: {step: 1.0e-5}, dropout: {step: 1.0e-5}}}
    space: for sampler grid it must have at most 1000000 samples
{search: {sampler: gp}, scheduler: {name: asha}}
    search.sampler: must be another with scheduler 'asha': gp does not learn from trials that were
    stopped, and proposes their samples again, but got 'gp'
"""


def mistakes() -> list[tuple[Any, str]]:
    found: list[tuple[Any, str]] = []
    digits = {"HUGE": 400 * "9", "CUT": 77 * "9" + "..."}
    text = re.sub("|".join(digits), lambda match: digits[match[0]], MISTAKES)
    for line in text.strip().splitlines():
        if line.startswith("    "):
            change, message = found[-1]
            found[-1] = change, f"{message} {line.strip()}".lstrip()
        else:
            found.append((yaml.safe_load(line), ""))
    return found


@pytest.mark.parametrize(("change", "message"), mistakes(), ids=str)
def test_one_line_names_the_file_the_key_the_rule_and_the_value(change: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(changed(WHOLE, change), "x.yaml")
    assert str(caught.value) == f"x.yaml: {message}"


@pytest.mark.parametrize(
    ("section", "key", "rule", "bound"),
    [
        (section, field.name, rule, bound)
        for section, kind in SECTIONS.items()
        for field in fields(kind)
        for rule, bound in field.metadata.items()
    ],
)
def test_a_rule_at_a_field_is_kept(section: str, key: str, rule: str, bound: float) -> None:
    """pydantic finds it there: a value beyond the bound is refused, and the bound if it is open."""
    step = 1 if rule in ("ge", "gt") else -1
    beyond, on = bound - step, bound
    space = {name: parameter for name, parameter in RAW["space"].items() if name != key}
    raw = {**RAW, "space": space}
    for value, is_refused in ((beyond, True), (on, rule in ("gt", "lt"))):
        content = {**raw, section: {**raw.get(section, {}), key: value}}
        try:
            parse(content, "x")
            refused = False
        except ConfigError as error:
            refused = error.key == f"{section}.{key}" and "must be" in error.rule
        assert refused == is_refused


def test_a_study_becomes_typed_and_defaults_are_the_papers() -> None:
    study = parse({**WHOLE, "training": {}}, "x")
    assert study.model == ModelConfig(blocks=(1, 1))
    assert (study.training.momentum, study.training.weight_decay) == (0.9, 5e-4)
    assert study.training.lr_milestones == (0.3, 0.6, 0.8)
    assert dict(study.space)["coeff"] == FloatParameter("float", 0.3, 0.99)
    directions = [Direction.MAXIMIZE, Direction.MINIMIZE, Direction.MINIMIZE]
    assert [o.direction for o in study.objectives] == directions
    assert study.constraints == (Constraint("block_lipschitz_upper_bound", "<", 1.0),)


@pytest.mark.parametrize(
    "key", ["name", "root", "val_fraction", "test_fraction", "split_seed", "size"]
)
def test_the_images_that_trials_are_measured_on_are_not_searched(key: str) -> None:
    space = {**RAW["space"], key: {"type": "categorical", "choices": [1, 2]}}
    rule = "must not be searched: all trials of a study are measured on the same images"
    with pytest.raises(ConfigError, match=rf"^x: space\.{key}: {rule}$"):
        parse({**RAW, "space": space}, "x")


def test_the_reference_point_is_the_constraint_or_the_worst_value() -> None:
    for change, reference in (
        ({"constraints": {"block_lipschitz_upper_bound": "<= 0.8"}}, [0.0, 0.8, 100.0]),
        ({"reference_point": {"inverse_steps": 20}}, [0.0, 1.0, 20.0]),
        # At the limit a constraint can be kept, and a reference point may be out of reach below.
        (
            {
                "constraints": {"block_lipschitz_upper_bound": "<= 0", "val_accuracy": ">= 1"},
                "reference_point": {"val_accuracy": -1, "block_lipschitz_upper_bound": 7},
            },
            [-1.0, 7.0, 100.0],
        ),
    ):
        assert [o.reference for o in parse(changed(RAW, change), "x").objectives] == reference


def test_an_option_takes_the_place_of_its_key_and_its_error_is_about_no_file() -> None:
    assert parse(RAW, "x.yaml", {"search.n_trials": 7, "name": "other"}).n_trials == 7
    with pytest.raises(ConfigError) as caught:
        parse(RAW, "x.yaml", {"search.n_trials": 0})
    error = caught.value
    assert (error.key, error.value, error.source) == ("search.n_trials", 0, None)
    with pytest.raises(ConfigError, match=r"^x\.yaml: search: must be a mapping of keys"):
        parse({**RAW, "search": []}, "x.yaml", {"search.n_trials": 3})


def test_what_python_has_besides_json_is_text_or_refused() -> None:
    itself: dict[str, Any] = {}
    itself["itself"] = itself
    for raw, message in (
        ({**RAW, "model": itself}, "a study file must not contain itself"),
        ({**RAW, "model": {date(2020, 1, 1): 1}}, "keys must be text"),
        ({**RAW, "data": {"root": date(2020, 1, 1), "size": "x"}}, "data.size: must be"),
    ):
        with pytest.raises(ConfigError, match=f"^x: {message}"):
            parse(raw, "x")


def test_null_keeps_the_sizes_of_images_and_no_size_takes_the_default() -> None:
    def size(**data: Any) -> int | None:
        study = parse({**RAW, "data": data}, "s.yaml")
        again = parse(study.to_dict(), "again.yaml")
        short = parse(study.to_short_dict(), "short.yaml")
        assert study == again == short
        return study.data.size

    folder = {"name": "image_folder"}
    assert size(**folder) == 32
    assert size(**folder, size=None) == size(**folder, size=0) == 0
    assert size(**folder, size=48) == 48
    assert size(name="digits", size=None) is size(name="digits") is None
    with pytest.raises(ConfigError, match=r"data\.size: must be greater than or equal to 0"):
        size(**folder, size=-1)


def test_a_metric_may_have_its_former_name_and_not_both() -> None:
    scheduler = {"name": "asha", "metric": "block_lipschitz_upper_bound"}
    today = {**RAW, "scheduler": scheduler, "reference_point": {scheduler["metric"]: 0.9}}
    former = json.loads(json.dumps(today).replace("block_lipschitz_", "lipschitz_"))
    assert former != today
    assert parse(former, "x") == parse(today, "x")
    former["objectives"]["block_lipschitz_upper_bound"] = "minimize"
    rule = "x: objectives: must not have a metric under its former name too, but got"
    with pytest.raises(ConfigError, match=f"^{rule}"):
        parse(former, "x")
