"""What somebody who writes to MLflow too puts there: what is printed is what is looked up again."""

import math
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from study import report
from study.config.parser import parse
from study.errors import LaunchError, LocationError, TrackingError
from study.execution.driver.environment import Driver
from study.metrics.reports import TrialStatus
from study.results.front import Mark
from study.results.report import read
from study.results.views.listing import listed
from study.tracking import studies, tags
from study.tracking.handles import run_of
from study.tracking.records import Records
from study.tracking.server.client import Client
from study.tracking.study_record import StudyRecord
from study.tracking.tracker import Tracker
from tests.support.studies import epoch_report, tiny
from tests.support.tracked import SAMPLE


def log(
    tracker: Tracker,
    study: StudyRecord,
    trial_id: str,
    accuracy: float,
    repeat_of: str | None = None,
    **changes: float,
) -> None:
    """Log a trial that completed, of SAMPLE with some changes."""
    sample = {**SAMPLE, **changes}
    config = study.config.resolve(sample, seed=int(trial_id))
    tracker.start_trial(trial_id, sample, config, repeat_of)
    tracker.log_reports(trial_id, [epoch_report(3, val_accuracy=accuracy)])
    tracker.end_trial(trial_id, TrialStatus.COMPLETED)


def copied(tracker: Tracker, study: StudyRecord, name: str) -> StudyRecord:
    """Another experiment, whose study says that it is the first one."""
    client = tracker.client
    other = studies.create(client, replace(tiny(), name=name), study.source, study.storage)
    own = client.get_run(study.run_id).data.tags
    client.log(other.run_id, tags={"study.config": own["study.config"]})
    return other


def test_a_copy_of_a_study_is_named_by_its_own_experiment(
    tracker: Tracker, study: StudyRecord
) -> None:
    log(tracker, study, "0000", 0.5)
    copy = copied(tracker, study, "zz")
    log(Tracker(tracker.client, copy), copy, "0000", 0.999)
    records = Records(tracker.client)
    assert sorted(record.name for record in records.studies()) == ["tiny", "zz"]
    for name, accuracy in (("tiny", 0.5), ("zz", 0.999)):
        (point,) = read(records, name).points
        assert point.metrics["val_accuracy"] == accuracy
        assert point.handle == f"{name}/0000"
        assert run_of(records, point.handle) == point.first.run_id
        found = records.find_study(name)
        assert found is not None
        (network,) = records.read(found).networks
        assert network.run_id == point.first.run_id
        of_run = records.study_of(tracker.client.get_run(point.first.run_id))
        assert of_run is not None
        assert of_run.name == name


def test_an_experiment_whose_name_no_study_may_have_is_none(
    tracker: Tracker, study: StudyRecord
) -> None:
    copied(tracker, study, "zz")
    api = tracker.client.api
    for name in ("tiny@knee", "tiny/0000", "\x1b[2J"):
        experiment = api.get_experiment_by_name("zz")
        api.rename_experiment(experiment.experiment_id, name)
        assert [record.name for record in Records(tracker.client).studies()] == ["tiny"]
        api.rename_experiment(experiment.experiment_id, "zz")


def test_a_renamed_study_is_read_but_kept_where_it_began(
    tracker: Tracker, study: StudyRecord
) -> None:
    tracker.client.api.rename_experiment(study.experiment_id, "other")
    records = Records(tracker.client)
    assert records.find_study("tiny") is None
    renamed = records.find_study("other")
    assert renamed is not None
    driver = Driver(records, "/x/ray_results")
    with pytest.raises(LaunchError) as raised:
        driver.check_kept_here(renamed.name, renamed.storage)
    assert str(raised.value) == (
        "the experiment must have the name that its study began with, but was renamed from 'tiny' "
        "to 'other'; rename it in MLflow"
    )
    with pytest.raises(LaunchError, match=r"kept, which MLflow says is in /x/ray_results, but got"):
        Driver(records, "/y").check_kept_here("tiny", renamed.storage)
    driver.check_kept_here("tiny", renamed.storage)


@pytest.mark.parametrize("name", ["0000", "0000@0.5"])
def test_two_runs_of_one_name_are_refused(tracker: Tracker, study: StudyRecord, name: str) -> None:
    log(tracker, study, "0000", 0.5)
    api, records = tracker.client.api, Records(tracker.client)
    (trial,) = records.trials(study)
    of_trial = api.get_run(trial.run_id)
    # The second bound is printed as the first.
    projections = [
        {"study.kind": "projection", "study.projected_to": bound} for bound in ("0.5", "0.50000001")
    ]
    ids = [trial.run_id] if name == "0000" else []
    for added in [{}] if name == "0000" else projections:
        run = api.create_run(study.experiment_id, tags={**of_trial.data.tags, **added})
        tracker.client.log(run.info.run_id, params=of_trial.data.params)
        ids.append(run.info.run_id)
    for refused in (
        lambda: read(records, "tiny"),
        lambda: run_of(records, f"tiny/{name}"),
    ):
        with pytest.raises(TrackingError) as raised:
            refused()
        text = str(raised.value)
        assert text.startswith(f"network: exactly one run must be tiny/{name}, but ")
        assert text.endswith(" are; delete one of them in MLflow")
        assert all(run_id in text for run_id in ids)
    api.delete_run(ids[1])
    assert run_of(records, f"tiny/{name}") == ids[0]
    read(records, "tiny")


def test_two_runs_with_one_recommendation_are_refused(tracker: Tracker, study: StudyRecord) -> None:
    for trial_id in ("0000", "0001"):
        log(tracker, study, trial_id, 0.5)
    records = Records(tracker.client)
    for trial in records.trials(study):
        tracker.client.log(trial.run_id, tags={"study.alias": "knee"})
    with pytest.raises(TrackingError, match=r"exactly one run must be tiny@knee, but \w+ and \w+"):
        run_of(records, "tiny@knee")


@pytest.mark.parametrize(("repeats", "means"), [(1, [0.5, 0.7, 0.9]), (2, [0.6, 0.9])])
def test_only_trainings_of_one_sample_are_averaged(
    client: Client, repeats: int, means: list[float]
) -> None:
    """And only where the study repeats; the tag of the third says that it is a repeat, too."""
    config = tiny(search={"repeats": repeats})
    study = studies.create(client, config, "/x/tiny.yaml", "/x/ray_results/tiny")
    tracker = Tracker(client, study)
    log(tracker, study, "0000", 0.5)
    log(tracker, study, "0001", 0.7, repeat_of="0000")
    log(tracker, study, "0002", 0.9, repeat_of="0000", coeff=0.9)
    records = Records(tracker.client)
    points = read(records, "tiny").points
    assert [point.metrics["val_accuracy"] for point in points] == pytest.approx(means)
    third = read(records, "tiny", "network = 'tiny/0002'").points
    assert [point.metrics["val_accuracy"] for point in third] == [0.9]
    # A filter that leaves out the first joins no more.
    later = read(records, "tiny", "metrics.val_accuracy > 0.6").points
    assert [point.metrics["val_accuracy"] for point in later] == [0.7, 0.9]


def write(tracker: Tracker, statement: str, *values: object) -> None:
    """Write to the database, as somebody may who does not go through MLflow."""
    path = tracker.client.tracking_uri.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("val_accuracy", -5.0),
        ("val_accuracy", math.inf),
        ("val_accuracy", "x"),
        ("block_lipschitz_upper_bound", -0.1),
        ("inverse_lipschitz_upper_bound", -5.0),
        ("inverse_lipschitz_upper_bound", "x"),
        ("inverse_steps", -1.0),
    ],
)
def test_a_value_that_no_network_can_have_counts_as_not_measured(
    client: Client, metric: str, value: float | str
) -> None:
    directions = {"val_accuracy": "maximize", "block_lipschitz_upper_bound": "minimize"}
    others = {"inverse_steps": "minimize", "inverse_lipschitz_upper_bound": "minimize"}
    config = parse(
        {
            **tiny().to_dict(),
            "objectives": {**directions, **others},
            "reference_point": {"inverse_lipschitz_upper_bound": 1e7},
        },
        "tiny.yaml",
    )
    study = studies.create(client, config, "/x/tiny.yaml", "/x/ray_results/tiny")
    tracker = Tracker(client, study)
    log(tracker, study, "0000", 0.5)
    log(tracker, study, "0001", 0.6)
    sql = "UPDATE latest_metrics SET value = ? WHERE key = ? AND run_uuid = ?"
    records = Records(tracker.client)
    write(tracker, sql, value, metric, records.trials(study)[0].run_id)
    first, second = read(records, "tiny").points
    assert metric not in first.metrics
    assert (first.mark, second.mark) == (Mark.NOT_MEASURED, Mark.FRONT)
    for options in ([], ["--all"], ["--all", "--format", "json"]):
        uri = ["--tracking-uri", tracker.client.tracking_uri]
        done = CliRunner().invoke(report.app, ["tiny", *uri, *options])
        assert done.exit_code == 0, done.output


def test_values_at_the_ends_of_their_range_stay(tracker: Tracker, study: StudyRecord) -> None:
    log(tracker, study, "0000", 1.0)
    (trial,) = Records(tracker.client).trials(study)
    ends = {"val_accuracy": 0.0, "block_lipschitz_upper_bound": math.inf, "median_radius": -1.0}
    for metric, value in ends.items():
        stored = min(value, sys.float_info.max)  # as MLflow has infinity
        sql = "UPDATE latest_metrics SET value = ? WHERE key = ?"
        write(tracker, sql, stored, metric)
    (trial,) = Records(tracker.client).trials(study)
    assert {metric: trial.metrics[metric] for metric in ends} == ends


@pytest.mark.parametrize("time", ["abc", 2**62, -1])
@pytest.mark.parametrize("column", ["start_time", "end_time"])
def test_a_time_that_is_none_counts_as_unknown(
    tracker: Tracker, study: StudyRecord, column: str, time: object
) -> None:
    log(tracker, study, "0000", 0.5)
    studies.close(tracker.client, Records(tracker.client).read(study), TrialStatus.COMPLETED)
    write(tracker, f"UPDATE runs SET {column} = ?", time)
    records = Records(tracker.client)
    (trial,) = records.trials(study)
    if column == "start_time":
        assert trial.started == 0.0
        assert listed(tracker.client).lines[0]["began"] is None
    else:
        assert trial.ended is None
        assert records.ended(study, since=0.0) == set()
    uri = ["--tracking-uri", tracker.client.tracking_uri]
    for options in (["tiny"], ["--list"], ["--list", "--format", "json"]):
        done = CliRunner().invoke(report.app, [*options, *uri])
        assert done.exit_code == 0, done.output
    Tracker(tracker.client, study)


@pytest.mark.parametrize("value", ["x", math.inf])
def test_figures_of_a_study_that_are_no_numbers_are_not_listed(
    tracker: Tracker, study: StudyRecord, value: object
) -> None:
    log(tracker, study, "0000", 0.5)
    for name in ("n_completed", "n_front", "hypervolume", "hours"):
        tracker.client.api.log_metric(study.run_id, name, 7.0)
    studies.close(tracker.client, Records(tracker.client).read(study), TrialStatus.COMPLETED)
    (line,) = listed(tracker.client).lines
    assert (line["n_completed"], line["n_front"], line["hours"]) == (7, 7, 7.0)
    write(tracker, "UPDATE latest_metrics SET value = ? WHERE run_uuid = ?", value, study.run_id)
    (line,) = listed(tracker.client).lines
    assert line["n_completed"] == 1  # counted
    assert {line[key] for key in ("n_front", "hypervolume", "hours")} == {None}


def test_a_run_without_an_address_of_its_files_is_refused(
    tracker: Tracker, study: StudyRecord
) -> None:
    log(tracker, study, "0000", 0.5)
    write(tracker, "UPDATE runs SET artifact_uri = NULL")
    with pytest.raises(LocationError, match=r"but MLflow says that they are in no place$"):
        Records(tracker.client).artifacts(study.run_id)


def test_damaged_text_in_a_database_is_one_line(tracker: Tracker, study: StudyRecord) -> None:
    log(tracker, study, "0000", 0.5)
    write(tracker, "UPDATE params SET value = CAST(x'ff80' AS TEXT)")
    uri = ["--tracking-uri", tracker.client.tracking_uri]
    done = CliRunner().invoke(report.app, ["tiny", *uri])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: MLflow at {tracker.client.tracking_uri}: ")
    assert done.stderr.count("\n") == 1


def test_extensions_that_are_none_count_as_none(tracker: Tracker, study: StudyRecord) -> None:
    for text, n_searches in (
        ('{"n_searches": 1}', 1), ("", 0), ("[]", 0), ("1", 0), ('{"n_searches": "8"}', 0),
        ("[" * 100_000, 0),
    ):  # fmt: skip
        tracker.client.api.set_tag(study.run_id, tags.EXTENSION, text)
        assert Records(tracker.client).find_study("tiny") == replace(study, n_searches=n_searches)
