"""Studies of Optuna in a storage: what cannot be written is refused, and changes nothing."""

import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState

from study.config.space import CategoricalParameter, FloatParameter, IntParameter, Parameter
from study.errors import UserError
from study.metrics.definitions import Direction
from study.metrics.reports import TrialStatus
from study.search import optuna_study

SPACE: list[tuple[str, Parameter]] = [
    ("coeff", FloatParameter("float", 0.3, 0.9)),
    ("n_power_iterations", IntParameter("int", 1, 20, log=True)),
    ("blocks", CategoricalParameter("categorical", ([1, 1], [2, 2]))),
]
OBJECTIVES = [("right", Direction.MAXIMIZE), ("bound", Direction.MINIMIZE)]
NETWORK: dict[str, Any] = {
    "network": "tiny/0000",
    "sample": {"coeff": 0.5, "n_power_iterations": 3, "blocks": [2, 2]},
    "state": TrialStatus.COMPLETED,
    "values": [0.9, 0.5],
    "violations": {"bound": -0.5},
    "attributes": {"network": "tiny/0000", "error": math.inf},
    "started": 1_700_000_000.0,
    "ended": 1_700_000_060.5,
}
STOPPED = {**NETWORK, "state": TrialStatus.STOPPED_EARLY, "values": None, "violations": {}}
FAILED = {**STOPPED, "state": TrialStatus.FAILED}


def written(url: str, name: str = "tiny", *networks: dict[str, Any]) -> str:
    trials = [optuna_study.as_trial(SPACE, **network) for network in networks or [NETWORK]]
    return optuna_study.write(url, name, OBJECTIVES, trials, {"of": "us"})


def refusal(url: str, name: str = "tiny") -> str:
    with pytest.raises(UserError) as refused:
        written(url, name)
    message = str(refused.value)
    assert message.startswith("optuna: ")
    assert "\n" not in message
    return message


def test_what_is_written_is_what_optuna_reads(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    infeasible = {**NETWORK, "violations": {"bound": math.inf}}
    assert written(url, "tiny", NETWORK, STOPPED, FAILED, infeasible) == url
    study = optuna.load_study(study_name="tiny", storage=url)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["right", "bound"]
    assert study.user_attrs == {"of": "us"}
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.COMPLETE]
    assert [trial.state for trial in study.trials] == states
    assert [trial.values for trial in study.trials] == [[0.9, 0.5], None, None, [0.9, 0.5]]
    assert [trial.number for trial in study.best_trials] == [0]
    trial = study.trials[0]
    assert trial.params == {"coeff": 0.5, "n_power_iterations": 3, "blocks": "[2, 2]"}
    assert trial.constraints["bound"] == -0.5
    assert study.trials[3].constraints["bound"] > 1e300
    assert trial.user_attrs == NETWORK["attributes"]
    assert trial.datetime_start is not None
    assert trial.datetime_start.timestamp() == NETWORK["started"]
    assert trial.duration is not None
    assert trial.duration.total_seconds() == 60.5


def test_a_study_stands_beside_others_and_a_name_is_taken_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    written(url, "one")
    written(url, "two")
    before = (tmp_path / "optuna.db").read_bytes()
    assert "must have no study of this name, but" in refusal(url, "one")
    assert refusal(url, "one").endswith(" has 'one'")
    assert (tmp_path / "optuna.db").read_bytes() == before
    assert sorted(optuna.get_all_study_names(url)) == ["one", "two"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("optuna.db", "must be the URL of a database, such as sqlite:///optuna.db, but got"),
        ("postgresql://someone:secret@127.0.0.1:port/x", "must be the URL of a database"),
        ("redis://127.0.0.1/0", "the storage must open and be writable, but redis://"),
        ("mysql://someone:secret@127.0.0.1/x", "mysql://someone:***@127.0.0.1/x is not: No module"),
        pytest.param(
            "postgresql+psycopg://someone:secret@127.0.0.1:1/x",
            "but postgresql+psycopg://someone:*",
            marks=pytest.mark.slow,  # the extra `fast` has no psycopg
        ),
        ("sqlite:///nowhere/optuna.db", "the storage must open and be writable, but sqlite:///now"),
        ("sqlite:///text", "the storage must open and be writable, but sqlite:///text is not"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_refused(
    url: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("no database, " * 100)
    before = sorted(tmp_path.rglob("*"))
    message = refusal(url)
    assert says in message
    if "port" not in url:  # an address that cannot be read is shown as it was typed
        assert "secret" not in message
    assert sorted(tmp_path.rglob("*")) == before


def test_the_database_of_mlflow_is_refused_and_stays_as_it_is(
    tmp_path: Path, laid_out: None
) -> None:
    url = f"sqlite:///{tmp_path}/mlflow.db"
    before = (tmp_path / "mlflow.db").read_bytes()
    assert "must be Optuna's or an empty one, but" in refusal(url)
    assert (tmp_path / "mlflow.db").read_bytes() == before
    MlflowClient(url).search_experiments()


def test_the_tables_of_another_version_of_optuna_are_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    written(url)
    with closing(sqlite3.connect(tmp_path / "optuna.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'v99'")
    assert "is no longer compatible with the table schema" in refusal(url, "another")


def test_a_study_that_was_cut_off_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    written(url, "other")
    add, n_added = optuna.Study.add_trial, 0

    def cut_off(*args: Any, **kwargs: Any) -> None:
        nonlocal n_added
        n_added += 1
        if n_added == 2:
            cause = sqlite3.OperationalError("disk is full")
            raise optuna.exceptions.StorageInternalError("An exception is raised") from cause
        add(*args, **kwargs)

    monkeypatch.setattr(optuna.Study, "add_trial", cut_off)
    with pytest.raises(UserError, match=r"but sqlite:///.* is not: disk is full$"):
        written(url, "tiny", NETWORK, NETWORK)
    assert optuna.get_all_study_names(url) == ["other"]


@pytest.mark.parametrize(
    ("sample", "says"),
    [
        ({"coeff": 0.2}, "coeff of tiny/0000 must be in space.coeff, but got 0.2"),
        ({"n_power_iterations": "x" * 99}, "n_power_iterations of tiny/0000 must be in"),
        ({"blocks": [3, 3]}, r"blocks of tiny/0000 must be in space.blocks, but got \[3, 3\]"),
    ],
)
def test_a_sample_that_is_not_of_the_space_is_refused(sample: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=f"^optuna: {says}"):
        written("sqlite://", "tiny", {**NETWORK, "sample": {**NETWORK["sample"], **sample}})
    without = {k: v for k, v in NETWORK["sample"].items() if k not in sample}
    with pytest.raises(UserError, match="but got None"):
        written("sqlite://", "tiny", {**NETWORK, "sample": without})
