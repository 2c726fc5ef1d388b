import re
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from study.errors import TrackingError
from study.tracking.handles import network_label, run_of
from study.tracking.records import Records
from study.tracking.server.client import Client
from study.tracking.study_record import TrialRecord
from study.tracking.tracker import Tracker


@pytest.fixture
def records(finished: Path) -> Records:
    return Records(Client(f"sqlite:///{finished}/mlflow.db"))


@pytest.fixture
def trials(records: Records) -> list[TrialRecord]:
    study = records.find_study("tiny")
    assert study is not None
    return records.trials_and_projections(study)


def test_a_network_is_meant_by_its_handle_its_alias_and_the_beginning_of_its_run(
    records: Records, trials: list[TrialRecord]
) -> None:
    handles = [f"tiny/{network_label(t.trial_id, t.projected_to)}" for t in trials]
    assert len(set(handles)) == len(trials) >= 6
    assert [run_of(records, handle) for handle in handles] == [t.run_id for t in trials]
    aliases = {alias: t.run_id for t in trials for alias in t.aliases}
    assert set(aliases) == {"most-accurate", "knee", "most-invertible"}
    assert {alias: run_of(records, f"tiny@{alias}") for alias in aliases} == aliases
    for trial in trials:
        beginnings = (trial.run_id[:n] for n in range(4, 33))
        one = next(b for b in beginnings if sum(t.run_id.startswith(b) for t in trials) == 1)
        assert run_of(records, one) == run_of(records, trial.run_id) == trial.run_id


@pytest.mark.parametrize(
    ("network", "problem"),
    [
        ("tiny/0009", "must be in tiny, which has 0000, 0001, 0002, but got '0009'"),
        ("tiny/0001@0.9", "must be in tiny, which has 0001, 0001@"),
        ("tiny/", "must be in tiny"),
        (
            "nosuch/0001",
            "a study must be in MLflow at .*, but there is no study 'nosuch'; there are tiny",
        ),
        (
            "tiny@best",
            "tiny@ must be one of knee, most-accurate, most-invertible, but got 'best'",
        ),
        ("nosuch@knee", "a study must be in MLflow"),
        ("abc", "must be STUDY/TRIAL, .*but got 'abc'"),
        ("0001' or '1", "must be STUDY/TRIAL"),
        ("00000", "exactly one run .* that begins with '00000', but none does"),
        ("", "must be STUDY/TRIAL"),
    ],
)
def test_what_means_no_network_is_said_with_what_there_is(
    records: Records, network: str, problem: str
) -> None:
    with pytest.raises(TrackingError, match=f"^network: .*{problem}") as raised:
        run_of(records, network)
    assert "\n" not in str(raised.value)


def test_a_beginning_that_two_runs_have_is_refused_with_both(
    records: Records, trials: list[TrialRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(records.client.tracking_uri)
    both = [client.get_run(trial.run_id) for trial in trials[:2]]
    monkeypatch.setattr(records, "runs_beginning", lambda beginning: both)
    with pytest.raises(
        TrackingError, match=r"exactly one run .* that begins with 'abcd', but .* do$"
    ) as raised:
        run_of(records, "abcd")
    assert all(re.search(trial.run_id, str(raised.value)) for trial in trials[:2])


@pytest.mark.usefixtures("study")
def test_a_study_that_has_not_ended_has_none_recommended(tracker: Tracker) -> None:
    records = Records(tracker.client)
    with pytest.raises(TrackingError, match="tiny recommends none before it has ended"):
        run_of(records, "tiny@knee")
