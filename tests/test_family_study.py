"""A study whose trials train families, from its file to what its users read and verify."""

import json
from collections.abc import Iterator
from pathlib import Path

import optuna
import pandas as pd
import pytest
import torch
import yaml

import study
from models import certify
from study import report, verify
from study.api.study import Study
from study.errors import ConfigError, UserError
from study.metrics.reports import TrialStatus
from study.tracking.tracker import Tracker
from tests.support.commands import printed, refused
from tests.support.report_page import content_of
from tests.support.studies import CERTIFIED

CONDITIONS = ["coeff", "margin"]
FAMILY = {
    **CERTIFIED,
    "name": "kin",
    "model": {**CERTIFIED["model"], "dense_blocks": 2, "rows": 2, "dropout": 0.0},
    "training": {
        "max_epochs": 4,
        "report_every": 2,
        "optimizer": "muon",
        "lr_schedule": "one_cycle",
        "loss": "margin",
    },
    "family": {
        "coeff": {"low": 0.05, "high": 0.5, "log": True},
        "margin": {"low": 0.1, "high": 0.9},
    },
    "space": {"other_lr": {"type": "float", "low": 0.03, "high": 0.1, "log": True}},
    "evaluation": {"n_inverse_samples": 16},
    "search": {"n_trials": 2, "members": 3, "control": True},
}


@pytest.fixture(scope="module")
def done(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """The study, extended by a trial after its end."""
    from tests.support.one_ray import launch_here, one_ray

    folder = tmp_path_factory.mktemp("kin")
    (folder / "mlflow.db").write_bytes(empty_database.read_bytes())
    (folder / "kin.yaml").write_text(yaml.safe_dump(FAMILY))
    with one_ray():
        launch_here(folder, "kin.yaml")
        launch_here(folder, "kin.yaml", "--resume", "--trials", "3")
        yield study.open("kin", tracking_uri=f"sqlite:///{folder}/mlflow.db")


def of(done: Study, *arguments: str) -> str:
    return printed(report.app, "kin", "--tracking-uri", done.driver.client.tracking_uri, *arguments)


def test_every_trial_gives_its_network_the_members_and_the_controls(done: Study) -> None:
    points = done.points
    controls = points[points["mark"] == "control"]
    assert len(points) - len(controls) == 3 * (1 + 3)
    assert 3 <= len(controls) <= 3 * (1 + 3)
    assert controls["network"].str.match(r"kin/000[0-2]@0(,0\.\d+)?$").all()
    # No conditions of a control's member are those of another.
    assert controls["network"].is_unique
    assert points["mark"].isin(["front", "dominated", "control"]).all()
    own = points[~points["network"].str.contains("@")]
    assert set(own["coeff"]) == {0.158}
    assert set(own["margin"]) == {0.5}
    members = points[points["network"].str.contains(r"@0\.")]
    # The conditions are alike in all trials.
    assert members.groupby(CONDITIONS).size().to_list() == [3, 3, 3]
    assert (members["inverse_lipschitz_upper_bound"] >= (1 - members["coeff"]) ** -2 * 0.999).all()


def test_a_member_is_loaded_as_a_plain_network_with_its_coefficient(done: Study) -> None:
    members = done.points[done.points["network"].str.startswith("kin/0001@0.")]
    for _, row in members[members["network"].str.contains(",")].iterrows():
        network = done.load(row["network"])
        bound = certify(network).lipschitz_upper_bound
        assert bound == pytest.approx(row["coeff"], rel=1e-4)
        with torch.no_grad():
            assert network(torch.zeros(2, 1, 8, 8, dtype=torch.float64)).shape == (2, 10)


def test_a_member_that_was_not_stored_is_loaded_and_proven(done: Study) -> None:
    network = done.load("0001", coeff=0.3, margin=0.4)
    assert certify(network).lipschitz_upper_bound == pytest.approx(0.3, rel=1e-4)
    # What is stored is made from others, up to the rounding of stored weights.
    stored = done.points[done.points["network"].str.startswith("kin/0001@0.")].iloc[0]
    images = torch.rand(4, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    given = {name: stored[name] for name in CONDITIONS}
    with torch.no_grad():
        made, read = done.load("0001", **given)(images), done.load(stored["network"])(images)
    torch.testing.assert_close(made, read, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("network", "conditions", "message"),
    [
        ("0001", {"coeff": 0.3}, "conditions must be coeff, margin, but got coeff"),
        ("0001", {"coeff": 0.7, "margin": 0.4}, "0.05 <= coeff <= 0.5 must hold, but got 0.7"),
        ("0001@0", {"coeff": 0.3, "margin": 0.4}, "must be of a family of kin for coeff, margin"),
    ],
)
def test_what_is_no_member_is_not_loaded(
    done: Study, network: str, conditions: dict[str, float], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        done.load(network, **conditions)


def test_each_network_of_a_trial_is_verified_and_measured_again_as_it_was(done: Study) -> None:
    for name in done.points["network"][done.points["network"].str.startswith("kin/0002")]:
        arguments = (name, "--tracking-uri", done.driver.client.tracking_uri, "--data-root", "data")
        assert ": verified: " in printed(verify.app, *arguments)


def test_the_report_shows_and_filters_conditions(done: Study) -> None:
    content = json.loads(of(done, "--format", "json", "--all", "--where", "coeff < 0.1"))
    assert content["points"]
    assert all(float(point["params"]["coeff"]) < 0.1 for point in content["points"])
    table = of(done, "--all")
    assert "coeff  margin" in table
    assert "the member of its family with these" in " ".join(table.split())


def test_the_page_and_the_export_have_the_members(done: Study, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    of(done, "--html", str(page))
    name = next(name for name in done.points["network"] if "," in name)
    assert name in json.dumps(content_of(page.read_text()))
    storage = f"sqlite:///{tmp_path}/optuna.db"
    done.export(storage)
    exported = optuna.load_study(study_name="kin", storage=storage)
    assert name in {trial.user_attrs["network"] for trial in exported.trials}


def test_members_are_added_to_the_study(done: Study) -> None:
    before = done.points
    # The smallest coefficient comes first among the members from which others are made.
    of(done, "--at", "coeff=0.06,margin=0.3")
    after = study.open("kin", tracking_uri=done.driver.client.tracking_uri)
    points = after.points
    added = points[~points["network"].isin(before["network"])]
    assert sorted(added["network"]) == [f"kin/000{trial}@0.06,0.3" for trial in range(3)]
    assert added["mark"].isin(["front", "dominated"]).all()
    for _, row in added.iterrows():
        network = after.load(row["network"])
        assert certify(network).lipschitz_upper_bound <= row["block_lipschitz_upper_bound"]
        assert row["block_lipschitz_upper_bound"] == pytest.approx(0.06, rel=1e-3)
        proof = after.verify(row["network"], data_root="data")
        assert not proof.problems
        assert "certified_accuracy" in proof.measured
    # The network of a trial is the member in the middle of the ranges.
    of(done, "--at", "coeff=0.158,margin=0.5")
    # A second time, only what a command that was cut off had left is made anew.
    cut_off = added["run_id"].iloc[1]
    client = done.driver.client
    client.set_state(cut_off, TrialStatus.RUNNING)
    client.delete_models(client.get_run(cut_off))
    again = after.add(coeff=0.06, margin=0.3).points
    assert cut_off not in again["run_id"].to_list()
    pd.testing.assert_frame_equal(again.drop(columns="run_id"), points.drop(columns="run_id"))
    old = points[points["network"].isin(before["network"])]
    same = ["network", "val_accuracy", "certified_accuracy", "run_id"]
    assert (
        old[same].sort_values("network").values.tolist()
        == before[same].sort_values("network").values.tolist()
    )


@pytest.mark.parametrize(
    ("at", "line"),
    [
        ("coeff=0.2", "conditions must be coeff, margin, but got coeff"),
        ("coeff=0.2,margin=9", "0.1 <= margin <= 0.9 must hold, but got 9.0"),
        ("trust=1", "--at: must be such as coeff=0.1,margin=0.4, but got 'trust=1'"),
        ("0.2", "--at: must be such as coeff=0.1,margin=0.4, but got '0.2'"),
    ],
)
def test_conditions_that_are_none_of_the_family_are_refused_in_a_line(
    done: Study, at: str, line: str
) -> None:
    uri = done.driver.client.tracking_uri
    assert refused(report.app, "kin", "--tracking-uri", uri, "--at", at) == f"error: {line}\n"


def test_only_an_ended_study_with_a_family_gets_members(finished: Path, tracker: Tracker) -> None:
    ended = study.open("tiny", tracking_uri=f"sqlite:///{finished}/mlflow.db")
    with pytest.raises(UserError, match="a study must have trained a family, but tiny has not"):
        ended.add(coeff=0.2)
    runs = study.open("tiny", tracking_uri=tracker.client.tracking_uri)
    with pytest.raises(UserError, match="a study must have ended, but tiny has not"):
        runs.add(coeff=0.2)


def test_a_loop_of_the_user_s_own_trains_no_family(done: Study, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with (
        pytest.raises(ConfigError, match="must be left out of a loop"),
        study.loop({**FAMILY, "name": "own"}, tracking_uri=uri),
    ):
        pass
