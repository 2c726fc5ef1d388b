"""The results as a study of Optuna: its front is ours, by Optuna and by optuna-dashboard."""

import json
import math
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import optuna_dashboard
import pytest
from optuna.trial import TrialState
from typer.testing import CliRunner

from study.metrics.definitions import Direction
from study.metrics.goals import Constraint, Objective
from study.metrics.reports import TrialStatus
from study.report import app
from study.results.front import Mark
from study.results.report import Report, collect, read
from study.results.views import published
from study.tracking.records import Records
from study.tracking.server.client import Client
from study.tracking.study_record import TrialRecord
from tests.support.records import STUDY, projection, trial

Vectors = set[tuple[float, ...]]


def in_memory(results: Report) -> optuna.Study:
    """The export without a database, which takes some hundredths of a second for each trial."""
    study = optuna.create_study(directions=[o.direction.value for o in results.objectives])
    study.add_trials(published.trials(results))
    return study


def front_of(results: Report) -> Vectors:
    return {tuple(point.metrics[o.metric] for o in results.objectives) for point in results.front}


def best_of(study: optuna.Study) -> Vectors:
    return {tuple(trial.values) for trial in study.best_trials}


def records(rng: random.Random) -> list[TrialRecord]:
    """Records of which many are equal, barely infeasible, not finite, repeated or cut short."""
    found: list[TrialRecord] = []
    for number in range(rng.randint(0, 25)):
        state = rng.choice([TrialStatus.COMPLETED] * 6 + list(TrialStatus))

        def drawn() -> dict[str, float]:
            bound = rng.choice([0.5, 0.729, 1 - 1e-9, 1.0, 1 + 1e-9, 1.7, math.inf])
            return {
                "val_accuracy": rng.choice([0.9, 0.95, 0.99]) + rng.uniform(0, 1e-5),
                "block_lipschitz_upper_bound": bound * (1 - rng.choice([0, 1e-6])),
                "inverse_steps": rng.choice([3.0, 4.001, 4.002, 10.0, math.nan]),
            }

        one = trial(number, state, **drawn())
        repeated = rng.random() < 0.3 and number > 0
        one = replace(one, repeat_of="0000" if repeated else one.trial_id)
        found.append(one)
        if state is TrialStatus.COMPLETED:
            for coeff in (0.6, 0.2):
                cut = projection(number, coeff, **drawn())
                found.append(replace(cut, repeat_of=one.repeat_of))
    return found


@pytest.mark.parametrize("seed", range(60))
def test_the_front_that_optuna_computes_is_ours(seed: int) -> None:
    rng = random.Random(seed)
    objectives = rng.sample(
        [
            Objective("val_accuracy", Direction.MAXIMIZE, 0.0),
            Objective("block_lipschitz_upper_bound", Direction.MINIMIZE, 1.0),
            Objective("inverse_steps", Direction.MINIMIZE, math.nan),
            Objective("inverse_steps", Direction.MAXIMIZE, math.nan),
        ],
        k=rng.randint(1, 3),
    )
    own, more = STUDY.config.constraints, Constraint("val_accuracy", ">", 0.9)
    constraints = rng.choice([own, (), (*own, more)])
    study = replace(STUDY, config=replace(STUDY.config, constraints=constraints))
    results = collect(study, records(rng), tuple(objectives))
    exported = in_memory(results)
    assert best_of(exported) == front_of(results)
    assert len(exported.trials) == len(results.points)
    for one, point in zip(exported.trials, results.points, strict=True):
        if one.state is TrialState.COMPLETE:
            is_feasible = all(violation <= 0 for violation in one.constraints.values())
            assert is_feasible == (point.mark is not Mark.INFEASIBLE)


def test_each_point_is_a_trial_that_says_what_it_is() -> None:
    results = collect(
        STUDY,
        [
            trial(0, val_accuracy=0.912345678, test_accuracy=0.9),
            projection(0, 0.2, val_accuracy=0.9, block_lipschitz_upper_bound=0.0079999),
            trial(1, TrialStatus.STOPPED_EARLY),
            replace(trial(2, TrialStatus.FAILED), reason="diverged", metrics={}),
            trial(3, block_lipschitz_upper_bound=1.5),
            trial(4, block_lipschitz_upper_bound=math.inf),
            replace(trial(5, TrialStatus.RUNNING), ended=None),
            trial(6, TrialStatus.INTERRUPTED),
        ],
    )
    trials = in_memory(results).trials
    complete, pruned, fail = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL
    states = [complete, complete, pruned, fail, complete, fail, fail, fail]
    assert [one.state for one in trials] == states
    assert [one.user_attrs["mark"] for one in trials] == [p.mark.value for p in results.points]
    assert trials[0].values == [0.91235, 0.8, 4.0]  # as reported
    assert trials[0].user_attrs["network"] == "tiny/0000"
    assert trials[0].user_attrs["run_id"] == "run0"
    assert trials[0].user_attrs["test_accuracy"] == 0.9
    assert trials[0].user_attrs["recommended"] == "most-accurate,knee"
    assert "val_accuracy" not in trials[0].user_attrs
    assert trials[1].user_attrs["projected_to"] == 0.2
    assert trials[1].user_attrs["network"] == "tiny/0000@0.2"
    # The sample that was trained, though 0.2 is outside the space.
    assert trials[1].params == trials[0].params == dict(trial(0).sample)
    assert trials[2].user_attrs["val_accuracy"] == 0.5
    assert trials[3].user_attrs["reason"] == "diverged"
    assert trials[4].constraints["block_lipschitz_upper_bound"] == 0.5
    assert trials[5].user_attrs["block_lipschitz_upper_bound"] == math.inf


def test_repeats_of_a_sample_are_one_trial_with_their_mean() -> None:
    repeats = [trial(0, val_accuracy=0.8), replace(trial(1, val_accuracy=0.9), repeat_of="0000")]
    (one,) = in_memory(collect(STUDY, repeats)).trials
    assert one.values[0] == 0.85
    assert one.user_attrs["run_ids"] == ["run0", "run1"]


# By the command


def report(*arguments: str, exit_code: int = 0) -> str:
    """What the command says on standard error."""
    done = CliRunner().invoke(app, [*arguments, "--format", "json"])
    assert done.exit_code == exit_code, done.output
    if exit_code == 0:
        json.loads(done.stdout)
    else:
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
    return done.stderr


def dashboard(url: str, path: str) -> Any:
    """What optuna-dashboard answers."""
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ["PATH_INFO"] = path
    status = []
    body = optuna_dashboard.wsgi(url)(environ, lambda code, *_: status.append(code))
    content = json.loads(b"".join(body))
    assert status == ["200 OK"], content
    return content


def opened(url: str) -> Any:
    """The one study of a storage as optuna-dashboard opens it."""
    (summary,) = dashboard(url, "/api/studies")["study_summaries"]
    assert summary["study_name"] == "tiny"
    return dashboard(url, f"/api/studies/{summary['study_id']}")


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: Path) -> Report:
    """A folder with the records of a finished study, and its results."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(finished / "mlflow.db", tmp_path)
    return read(Records(Client(f"sqlite:///{tmp_path}/mlflow.db")), "tiny")


def test_optuna_dashboard_has_the_front_of_a_study(in_folder: Report) -> None:
    url = "sqlite:///optuna.db"
    assert report("tiny", "--optuna", url) == f"written: tiny in {url}\n"
    assert best_of(optuna.load_study(study_name="tiny", storage=url)) == front_of(in_folder)
    shown = opened(url)
    assert shown["objective_names"] == [o.metric for o in in_folder.objectives]
    assert shown["directions"] == [o.direction.value for o in in_folder.objectives]
    assert len(shown["trials"]) == len(in_folder.points) > 3
    assert {tuple(one["values"]) for one in shown["best_trials"]} == front_of(in_folder)
    assert "must have no study of this name" in report("tiny", "--optuna", url, exit_code=2)
    other = ("--objective", "val_accuracy:maximize", "--objective", "val_loss:minimize")
    report("tiny", *other, "--where", "coeff < 0.9", "--optuna", "sqlite:///other.db")
    assert opened("sqlite:///other.db")["objective_names"] == ["val_accuracy", "val_loss"]


def test_what_optuna_s_storage_refuses_writes_no_page_either(in_folder: Report) -> None:
    before = sorted(Path().iterdir())
    for url in ("sqlite:///mlflow.db", "sqlite:///nowhere/x.db", "nonsense"):
        assert "--optuna: " in report("tiny", "--optuna", url, "--html", "x.html", exit_code=2)
        assert sorted(Path().iterdir()) == before
