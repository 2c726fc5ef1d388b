import json
import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from study.results.front import Mark
from study.results.report import read
from study.results.views.published import publish
from study.tracking.records import Records
from study.tracking.server.client import Client


def front_in_mlflow(client: MlflowClient, experiment_id: str) -> set[str]:
    found = client.search_runs([experiment_id], "tags.study.mark = 'front'")
    return {run.info.run_id for run in found}


def check(folder: Path, name: str) -> set[str]:
    """That MLflow says what the report says; the runs of the front."""
    uri = f"sqlite:///{folder}/mlflow.db"
    records, client = Records(Client(uri)), MlflowClient(uri)
    results = read(records, name)
    front = {point.first.run_id for point in results.front}
    assert front == front_in_mlflow(client, results.study.experiment_id) != set()
    for point in results.points:
        assert point.first.mark == point.mark.value
    wanted = {one.point.first.run_id: one for one in results.recommended}
    aliases = {p.first.run_id: p.first.aliases for p in results.points if p.first.aliases}
    assert aliases == {run_id: one.aliases for run_id, one in wanted.items()}
    for run_id, one in wanted.items():
        assert client.get_run(run_id).data.tags["study.why"] == one.sentence
    of_study = client.get_run(results.study.run_id).data
    assert of_study.metrics["hypervolume"] == results.hypervolume
    assert of_study.metrics["n_front"] == len(front)
    assert 0 < of_study.metrics["hours"] <= of_study.metrics["device_hours"]
    trials = [p.first for p in results.points if p.is_trial]
    cpu_hours = sum(trial.metrics["cpu_hours"] for trial in trials)
    assert of_study.metrics["cpu_hours"] == pytest.approx(cpu_hours)
    assert cpu_hours > 0
    assert "gpu_hours" not in of_study.metrics
    assert f"{name}/" in of_study.tags["mlflow.note.content"]
    return front


def test_mlflow_has_the_front_of_the_report(finished: Path) -> None:
    check(finished, "tiny")


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> tuple[Records, MlflowClient]:
    """A copy of a study's database, to be changed."""
    shutil.copy(finished / "mlflow.db", tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    return Records(Client(uri)), MlflowClient(uri)


def test_marks_follow_the_results_when_a_study_ends_again(
    copied: tuple[Records, MlflowClient], tmp_path: Path
) -> None:
    """The front's points are beaten, and the aliases move with it."""
    records, client = copied
    results = read(records, "tiny")
    loser = next(p for p in results.points if p.mark is Mark.DOMINATED)
    for name, value in (("val_accuracy", 1.0), ("block_lipschitz_upper_bound", 1e-6)):
        client.log_metric(loser.first.run_id, name, value, step=100)
    client.log_metric(loser.first.run_id, "inverse_steps", 1.0, step=100)
    before = {p.first.run_id for p in results.front}
    publish(read(records, "tiny"))
    assert check(tmp_path, "tiny") == {loser.first.run_id}
    for run_id in before:
        tags = client.get_run(run_id).data.tags
        assert tags["study.mark"] == "dominated"
        assert tags.get("study.alias", "") == tags.get("study.why", "") == ""


def test_a_sentence_that_changed_is_written_again_and_a_users_note_stays(
    copied: tuple[Records, MlflowClient], tmp_path: Path
) -> None:
    records, client = copied
    best = read(records, "tiny").recommended[0].point.first.run_id
    client.set_tag(best, "study.why", "since somebody said so")
    experiment_id = read(records, "tiny").study.experiment_id
    client.set_experiment_tag(experiment_id, "mlflow.note.content", "my own words")
    publish(read(records, "tiny"))
    check(tmp_path, "tiny")
    tags = client.get_experiment(experiment_id).tags
    assert tags["mlflow.note.content"] == "my own words"


def test_of_repeats_the_first_has_the_mark(copied: tuple[Records, MlflowClient]) -> None:
    records, client = copied
    results = read(records, "tiny")
    first, second, *_ = [p.first for p in results.points if p.is_trial]
    # Of a study that repeats, and the same sample.
    config = results.study.config.to_dict()
    config["search"]["repeats"] = 2
    client.set_tag(results.study.run_id, "study.config", json.dumps(config))
    client.set_tag(second.run_id, "study.sample", json.dumps(first.sample))
    client.set_tag(second.run_id, "study.repeat_of", first.trial_id)
    publish(read(records, "tiny"))
    marked = read(records, "tiny")
    front = {point.first.run_id for point in marked.front}
    assert front == front_in_mlflow(client, results.study.experiment_id)
    assert client.get_run(second.run_id).data.tags["study.mark"] == "repeat"
