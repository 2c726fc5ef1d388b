import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Metric
from typer.testing import CliRunner

from study import open as open_study
from study import report
from study.metrics.definitions import HOURS, HYPERVOLUME, N_COMPLETED, N_FRONT
from study.metrics.reports import TrialStatus
from study.results.views.listing import Listing, listed
from study.tracking import studies
from study.tracking.records import Records
from study.tracking.study_record import StudyRecord
from study.tracking.tracker import Tracker
from tests.support.studies import epoch_report, tiny

HEAD = "study,state,data,n_completed,n_trials,n_front,hypervolume,hours,began,end_of_search\n"
SAMPLE = {"coeff": 0.5, "n_power_iterations": 3, "dropout": 0.1}
LINE = {
    "study": "tiny", "state": "done", "data": "digits", "n_completed": 3, "n_trials": 3,
    "n_front": 2, "hypervolume": 1.25, "hours": 0.5, "began": "2023-11-14T22:13:20+00:00",
    "end_of_search": None,
}  # fmt: skip


def finish(tracker: Tracker, record: StudyRecord, **figures: float) -> None:
    metrics = [Metric(name, value, 0, 0) for name, value in figures.items()]
    tracker.client.log(record.run_id, metrics)
    studies.close(tracker.client, Records(tracker.client).read(record), TrialStatus.COMPLETED)


def trial(tracker: Tracker, record: StudyRecord, number: int, status: TrialStatus) -> None:
    tracker.start_trial(f"{number:04d}", SAMPLE, record.config.resolve(SAMPLE, seed=number))
    tracker.log_reports(f"{number:04d}", [epoch_report(1)])
    tracker.end_trial(f"{number:04d}", status)


def test_every_study_is_a_line_the_latest_first(tracker: Tracker, study: StudyRecord) -> None:
    for number, status in enumerate((TrialStatus.COMPLETED, TrialStatus.FAILED)):
        trial(tracker, study, number, status)
    config = replace(tiny(search={"n_trials": 7, "repeats": 2}), name="later")
    later = studies.create(tracker.client, config, "/x/later.yaml", "/x/later")
    figures = {N_COMPLETED: 5.0, N_FRONT: 2.0, HYPERVOLUME: 1.5, HOURS: 0.25}
    finish(tracker, later, **figures)
    studies.note_end_of_search(tracker.client, later, "stop: it no longer grew")
    first, second = listed(tracker.client).lines
    assert {**first, "began": None} == {
        "study": "later", "state": "done", "data": "digits", "n_completed": 5, "n_trials": 14,
        "n_front": 2, "hypervolume": 1.5, "hours": 0.25, "began": None,
        "end_of_search": "stop: it no longer grew",
    }  # fmt: skip
    # What has not ended, and what ended without figures, is counted.
    assert {**second, "began": None} == {
        "study": "tiny", "state": "running", "data": "digits", "n_completed": 1, "n_trials": 3,
        "n_front": None, "hypervolume": None, "hours": None, "began": None, "end_of_search": None,
    }  # fmt: skip
    finish(tracker, study)
    assert [line["n_completed"] for line in listed(tracker.client).lines] == [5, 1]


def test_a_study_that_goes_on_has_no_figures_of_before(
    tracker: Tracker, study: StudyRecord
) -> None:
    finish(tracker, study, **{N_COMPLETED: 3.0, N_FRONT: 2.0, HYPERVOLUME: 1.5, HOURS: 0.25})
    trial(tracker, study, 0, TrialStatus.COMPLETED)
    Tracker(tracker.client, study)
    (line,) = listed(tracker.client).lines
    assert (line["state"], line["n_completed"], line["hypervolume"]) == ("running", 1, None)


def test_of_studies_that_are_done_no_trial_is_read(
    tracker: Tracker, study: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(tracker, study, **{N_COMPLETED: 3.0, N_FRONT: 2.0})
    search, asked = tracker.client.search_runs, list[str]()

    def counted(ids: list[str], condition: str, *rest: Any) -> Any:
        asked.append(condition)
        return search(ids, condition, *rest)

    monkeypatch.setattr(tracker.client, "search_runs", counted)
    assert len(listed(tracker.client).lines) == 1
    assert asked == ["tags.`study.kind` = 'study'"]


def test_the_command_gives_json_and_csv_alone(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{finished}/mlflow.db"
    done = CliRunner().invoke(report.app, ["--list", "--format", "json", "--tracking-uri", uri])
    (line,) = json.loads(done.stdout)
    assert (line["study"], line["state"], line["data"]) == ("tiny", "done", "digits")
    assert (line["n_completed"], line["n_trials"]) == (3, 3)
    opened = open_study("tiny", tracking_uri=uri)
    assert (line["n_front"], line["hypervolume"]) == (len(opened.front), opened.hypervolume)
    done = CliRunner().invoke(report.app, ["--list", "--format", "csv", "--tracking-uri", uri])
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert {key: value or None for key, value in row.items()} == {
        key: None if value is None else str(value) for key, value in line.items()
    }


def test_the_table_has_80_columns_and_names_that_can_be_typed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "a-name-of-a-hundred-letters-" + "x" * 70
    early = {**LINE, "study": name, "state": "interrupted", "end_of_search": "stop: enough"}
    large = {**early, "n_completed": 9_999, "n_trials": 10_000, "n_front": 12_345}
    Listing([LINE, {**LINE, "data": "fashion_mnist"}, large], "").print_table()
    *lines, legend, note = capsys.readouterr().out.splitlines()
    assert legend.startswith("volume: ")
    assert note == f"{name} ended early: stop: enough"
    assert max(map(len, lines)) <= 80
    table = "\n".join(lines)
    assert name in "".join(line.partition(" ")[0] for line in lines[3:])
    for value in ("9999/10000", "12345", "interrupted", "1.25", "3/3", "done"):
        assert value in table
    assert "fashion_mnist" in "".join(line[22:34].strip() for line in lines[2:4])


def test_no_study_is_none(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    nothing = f"there is no study in MLflow at {uri}\n"
    for format, out in (("table", nothing), ("json", "[]\n"), ("csv", HEAD)):
        arguments = ["--list", "--format", format, "--tracking-uri", uri]
        assert CliRunner().invoke(report.app, arguments).stdout == out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", [["tiny"], ["--all"], ["--where", "coeff < 1"], ["--html", "x"]])
def test_a_list_is_of_all_studies(other: list[str]) -> None:
    done = CliRunner().invoke(report.app, ["--list", *other])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: --list allows only --format and --tracking-uri")
