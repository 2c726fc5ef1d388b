"""Mistakes are said in one line, before anything starts."""

import json
from pathlib import Path
from typing import Any

import pytest

from study.config.file import study_of
from study.config.parser import parse
from study.errors import ConfigError, UserError
from study.execution.driver.preflight import check_trials
from study.execution.provenance import changes_of_code, own_code
from study.metrics.definitions import METRICS
from study.tracking.study_record import StudyRecord
from tests.support import own_code as own
from tests.support.studies import CERTIFIED, RAW

OWN = "tests.support.own_code"


def sampler_that_needs_this_process(seed: int) -> Any:
    """Cannot be pickled."""
    from optuna.samplers import RandomSampler

    sampler = RandomSampler(seed=seed)
    sampler.callback = lambda: seed  # type: ignore[attr-defined]
    return sampler


def no_sampler(seed: int) -> int:
    """Gives no sampler."""
    return seed


def _metric(of: str, name: str = "own_margin") -> dict[str, Any]:
    return {"metrics": {name: {"of": of, "direction": "maximize"}}}


def _block(name: str) -> dict[str, Any]:
    return {"model": {"blocks": [1], "block": f"{OWN}:{name}", "channel_multiplier": 4}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (_metric("nowhere.metrics:f"), "metrics.own_margin.of: there must be a module nowhere.met"),
        (_metric(f"{OWN}:margn"), "metrics.own_margin.of: must be an object of .*; did you mean"),
        (_metric(f"{OWN}.margin"), "metrics.own_margin.of: must be package.module:object, but got"),
        (_metric(f"{OWN}:np.pi"), "metrics.own_margin.of: must be a function or class, but"),
        (_metric(f"{OWN}:margin", "val_loss"), "metrics.val_loss: must be a name that has no oth"),
        (_metric(f"{OWN}:margin", "bound"), "metrics.bound: must be a name that has no other mea"),
        ({"objectives": {"own": "maximize"}}, "objectives.own: unknown metric 'own'"),
        (
            {**_metric(f"{OWN}:margin"), "objectives": {"own_margin": "maximize"}},
            "reference_point.own_margin: this key is required, since 'own_margin' has no natural",
        ),
        ({"data": {"name": f"{OWN}:nothing"}}, "data.name: must be an object of .*, but there"),
        ({"data": {"name": f"{OWN}:margin"}}, "data.name: .* must give .* but raises TypeError"),
        ({"data": {"name": "digit"}}, "data.name: unknown data set 'digit'; did you mean 'digits'"),
        (_block("margin"), "model.block: .* must be a subclass of models.Block, but is a <func"),
        (_block("TwoChannels"), "model.block: .*TwoChannels must be one that runs, but raises"),
        (_block("NoBounds"), "model.block: bounds of .*NoBounds must give Bounds, but gives 0.5$"),
        (_block("Contradictory"), "model.block: bounds of .* alpha <= beta must hold, but got lip"),
        (_block("LosesARow"), "model.block: .*LosesARow proves a bound of 1 for 1 / alpha of body"),
        (
            _block("Stuck"),
            r"model.block: bounds\(\).lipschitz of .*Stuck at body.1 must be at most 0\.5 times "
            r"0\.[0-9]+ after scale\(0\.5\), but got 0\.",
        ),
        (_block("Forgetful"), "model.block: .*Forgetful must be one that runs, but raises"),
        (_block("InSinglePrecision"), "model.block: .*Precision must be one that runs, but raises"),
        (_metric(f"{OWN}:margin", "projected_to"), "metrics.projected_to: must be a name that has"),
        (
            {**_block("Unproven"), "model": {**_block("NoTarget")["model"], "head": "lipschitz"},
             "training": {"loss": "margin"}},
            "training.loss: must be another with .*NoTarget, which has no target_lipschitz",
        ),
        (
            {"search": {"n_trials": 2, "sampler": f"{__name__}:sampler_that_needs_this_process"}},
            "search.sampler: .* must give a sampler that can be pickled, but raises",
        ),
        (
            {"search": {"n_trials": 2, "sampler": f"{__name__}:no_sampler"}},
            "search.sampler: .* must give a sampler of Optuna, but gives a int",
        ),
        ({"callbacks": [f"{OWN}:margin"]}, "callbacks: must be a subclass of study.Callback, but"),
        ({"callbacks": ["margin"]}, "callbacks.0: must be package.module:object, but got 'margin'"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_its_key(changes: dict[str, Any], message: str) -> None:
    raw = {**RAW, "reference_point": {}, **changes}
    if "model" in changes:
        raw["space"] = {"coeff": {"type": "float", "low": 0.3, "high": 0.9}}
    with pytest.raises(UserError, match=f"^s.yaml: ({message})") as error:
        check_trials(parse(raw, "s.yaml"), "s.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("block", "search", "message"),
    [
        ("Unscalable", {"ladder": [0.3, 0.1]}, r"ladder: .* no scale, but got \[0.3, 0.1\]"),
        ("Unscalable", {"ladder": 2}, "ladder: .* no scale, but got 2"),
        ("Unbounded", {"ladder": [0.3]}, r"ladder: .* no bounds, but got \[0.3\]"),
    ],
)
def test_a_ladder_that_would_not_be_used_is_refused(
    block: str, search: dict[str, Any], message: str
) -> None:
    model = {**_block(block)["model"], "head": "lipschitz"}
    space = {"coeff": RAW["space"]["coeff"]}
    raw = {**RAW, "model": model, "space": space, "search": {"n_trials": 2, **search}}
    with pytest.raises(ConfigError, match=f"^s.yaml: search.{message}") as error:
        check_trials(parse(raw, "s.yaml"), "s.yaml")
    assert f"with {OWN}:{block}, which defines" in str(error.value)
    check_trials(parse({**raw, "model": {**model, "block": f"{OWN}:Coupling"}}, "s"), "s")


def test_what_cannot_be_imported_by_name_is_refused_with_how_to_do_it() -> None:
    def given(function: object) -> dict[str, Any]:
        return {**RAW, "metrics": {"own_margin": {"of": function, "direction": "maximize"}}}

    message = r"metrics.own_margin.of: must be one that other processes can import.*mine\.py"
    with pytest.raises(ConfigError, match=message):
        study_of(given(lambda *_: 0))
    assert study_of(given(own.margin)) == study_of({**RAW, **_metric(f"{OWN}:margin")})


def test_what_is_no_study_file_is_refused_from_python_too() -> None:
    endless: dict[str, Any] = {**RAW}
    endless["search"] = {"n_trials": 2, "first": [endless]}
    with pytest.raises(ConfigError, match="a study file must not contain itself"):
        study_of(endless)
    for content in ([1], None, 3):
        with pytest.raises(ConfigError, match="must be a mapping of keys"):
            study_of(content)  # type: ignore[arg-type]


def test_names_of_own_metrics_hide_nothing() -> None:
    for name in METRICS:
        with pytest.raises(ConfigError, match="must be a name that has no other meaning"):
            parse({**RAW, **_metric(f"{OWN}:margin", name)}, "s.yaml")


def test_a_change_of_the_code_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "changing_code.py"
    file.write_text("def f(*_): return 0\n")
    config = parse({**RAW, **_metric("changing_code:f")}, "s.yaml")
    (text,) = own_code(config).values()
    record = StudyRecord(
        "tiny", "1", "r", config, "s.yaml", "/x", finished=False, own_code=json.loads(text)
    )
    assert changes_of_code(record) == []
    file.write_text("def f(*_): return 1\n")
    (line,) = changes_of_code(record)
    assert line.startswith("changing_code has changed since tiny was begun")
    assert own_code(parse(RAW, "s.yaml")) == {}


@pytest.mark.parametrize(
    ("model", "space", "rule"),
    [
        ({"patch": 1}, {"patch": [2, 3]}, "patches of 3 pixels, those of the last stage, must"),
        ({"patch": 2}, {"blocks": [[1], [1, 1, 1, 1]]}, "patches of 16 pixels, those of the last"),
        ({}, {"blocks": [[1], [1, 1, 1, 1, 1]]}, "the 4 squeezes between 5 stages must divide"),
        ({"block": "bottleneck"}, {"bottleneck": [1, 2]}, "bottleneck must divide the channels"),
        ({"bottleneck": 2}, {"block": ["potential", "bottleneck"]}, "bottleneck must divide the"),
        ({"dense_blocks": 1000}, {"channel_multiplier": [1, 64]}, "at most 1000000000 weights"),
    ],
)
def test_a_choice_that_fits_no_image_is_refused(
    model: dict[str, Any], space: dict[str, list[Any]], rule: str
) -> None:
    """The last of each, on digits of 8 x 8 pixels with one channel."""
    fixed = {**CERTIFIED["model"], "blocks": [1], "block": "potential", **model}
    raw = {
        **CERTIFIED,
        "model": {key: value for key, value in fixed.items() if key not in space},
        "space": {key: {"type": "categorical", "choices": of} for key, of in space.items()},
    }
    with pytest.raises(ConfigError, match=rule):
        check_trials(parse(raw, "study.yaml"), "study.yaml")
