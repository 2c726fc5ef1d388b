import csv
import io
import json
import math
import os
import random
import shutil
import sqlite3
import urllib.request
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import mlflow.artifacts
import pytest
from typer.testing import CliRunner

from study import report
from study.metrics.goals import Constraint
from study.metrics.reports import TrialStatus
from study.report import app
from study.results.report import collect, read
from study.results.views.report_view import view
from study.results.views.sections import as_csv, as_json
from study.tracking.records import Records
from study.tracking.server.client import Client
from study.tracking.tags import PARENT
from tests.support.records import STUDY, measured, printed, projection, trial, unread

RECORDS = [
    trial(0, val_accuracy=0.9),
    trial(1, TrialStatus.FAILED, reconstruction_error=math.inf),
    trial(2, val_accuracy=0.1),
]


def test_json_is_json_without_infinities() -> None:
    written = json.loads(
        as_json(collect(STUDY, RECORDS).content(every=True)),
        parse_constant=lambda name: pytest.fail(f"{name} is no JSON"),
    )
    assert [point["mark"] for point in written["points"]] == ["front", "failed", "dominated"]
    assert written["points"][1]["metrics"]["reconstruction_error"] is None
    assert written["n_trials"] == {"front": 1, "failed": 1, "dominated": 1}
    assert written["hypervolume"] > 0
    only_front = collect(STUDY, RECORDS).content(every=False)
    assert [point["trial_id"] for point in only_front["points"]] == ["0000"]


def test_the_table_says_which_sample_was_given() -> None:
    text = printed(collect(STUDY, [replace(trial(0), origin="given"), trial(1)]), every=True)
    found = {row.split()[0]: "given" in row for row in text.splitlines() if row}
    assert (found["tiny/0000"], found["tiny/0001"]) == (True, False)


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        # Of 0.1 + 0.1 that are certified and 0.3 + 0.5 that are not.
        ((0.3, 0.5), "; rounding in float32 takes 80% of the certified answers: set evaluation."),
        ((0.004, 0.006), ""),
        ((0.0, 0.0), ""),
    ],
)
def test_the_first_line_says_when_rounding_takes_much(lost: tuple[float, ...], says: str) -> None:
    records = [
        trial(number, certified_accuracy=0.1, lost_to_rounding=part)
        for number, part in enumerate(lost)
    ]
    first = printed(collect(STUDY, records), width=200).splitlines()[0]
    assert first.startswith("tiny: ")
    assert says in first
    assert ("rounding" in first) == bool(says)
    assert ("rounding in float32 takes 80%" in view(unread(records)).content()) == bool(says)


def test_a_report_of_nothing_says_so_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, nothing in (
        ([], "there is none"),
        (["tiny"], "there is no study 'tiny'; there are none"),
    ):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 2
        assert done.stdout == ""
        assert done.stderr == (
            f"error: STUDY: a study must be in MLflow at sqlite:///{tmp_path}/mlflow.db, "
            f"but {nothing}\n"
        )
    assert list(tmp_path.iterdir()) == []


def test_an_empty_front_says_what_to_do_where_the_constraints_made_it_so() -> None:
    unproven = trial(0, block_lipschitz_upper_bound=1.5)
    accuracy = (Constraint("val_accuracy", ">", 0.9),)
    hint = "; there are none: start a study with a search.ladder, a lower coeff or a looser "
    for results, says in (
        (collect(STUDY, [unproven]), f"block_lipschitz_upper_bound < 1{hint}constraint"),
        (
            collect(STUDY, [unproven], constraints=accuracy),
            "val_accuracy > 0.9; there are none: start a study with a looser constraint",
        ),
        (collect(STUDY, [unproven, trial(1)]), None),
        (collect(STUDY, [trial(0, TrialStatus.FAILED)]), None),
        (collect(STUDY, [unproven], where="coeff > 0.9"), None),
    ):
        text = " ".join(printed(results, width=80).split())
        assert ("there are none" in text) == (says is not None)
        assert says is None or f"on the front only completed trials with {says}" in text


@pytest.mark.parametrize("seed", range(50))
def test_the_front_is_that_of_the_digits_that_are_printed(seed: int) -> None:
    """In these studies many networks differ by less than is printed."""
    rng = random.Random(seed)
    n_images = rng.choice([10, 288, 6000, 50_000])
    at = rng.choice([0.5, 0.9, 0.99])
    records = [
        measured(
            number,
            min(n_images, round(n_images * (at + rng.uniform(0, 0.003)))) / n_images,
            rng.choice([0.008, 0.064, 0.125]) * (1 + rng.uniform(-3e-4, 0)),
            3 + rng.choice([0, 0.01, 0.5]) + rng.uniform(-0.006, 0.006),
        )
        for number in range(rng.randint(1, 40))
    ]
    lines = printed(collect(STUDY, records), every=True).splitlines()
    head, *rows = (line.split() for line in lines[1 : 2 + len(records)])
    assert [word for word in head if word != "acc"][:3] == ["network", "mark", "val"]
    rounded = {
        # Certified accuracy and the bound of the inverse stand between them.
        row[0]: (-Decimal(row[2]), Decimal(row[6]), Decimal(row[5]))
        for row in sorted(rows)  # as they were trained
    }
    assert len(rounded) == len(records)
    names = list(rounded)

    def matched_or_beaten(name: str) -> bool:
        ours = rounded[name]
        return any(
            all(x <= y for x, y in zip(theirs, ours, strict=True))
            and (theirs != ours or names.index(other) < names.index(name))
            for other, theirs in rounded.items()
            if other != name
        )

    front = {row[0] for row in rows if row[1] == "front"}
    assert front == {name for name in names if not matched_or_beaten(name)}


def test_projections_are_counted_by_themselves() -> None:
    records = [
        trial(0, val_accuracy=0.9, block_lipschitz_upper_bound=0.8),
        projection(0, 0.7, val_accuracy=0.89, block_lipschitz_upper_bound=0.3),
        projection(0, 0.45, val_accuracy=0.1, block_lipschitz_upper_bound=0.3),
    ]
    written = collect(STUDY, records).content(every=True)
    assert [point["projected_to"] for point in written["points"]] == [None, 0.7, 0.45]
    assert written["n_trials"] == {"front": 1}
    assert written["n_projections"] == {"front": 1, "dominated": 1}


def test_a_frame_has_numbers_where_the_points_have() -> None:
    frame = collect(STUDY, [*RECORDS, projection(0, 0.3)]).frame
    assert list(frame["mark"]) == ["front", "failed", "dominated", "dominated"]
    assert frame["coeff"].dtype == frame["val_accuracy"].dtype == float
    assert list(frame["coeff"]) == [0.5] * 4  # of the training, of a projection too
    assert math.isinf(frame["reconstruction_error"][1])
    assert frame["projected_to"].isna().tolist() == [True, True, True, False]
    assert frame["projected_to"][3] == 0.3
    lines = list(csv.DictReader(io.StringIO(as_csv(frame))))
    assert [line["mark"] for line in lines] == list(frame["mark"])


def test_the_table_says_the_coefficient_of_the_training_and_which_proof_to_check() -> None:
    records = [
        trial(0, val_accuracy=0.9, block_lipschitz_upper_bound=0.8),
        projection(0, 0.7, val_accuracy=0.89, block_lipschitz_upper_bound=0.3),
    ]
    options = ["--tracking-uri", "http://x"]
    lines = printed(collect(STUDY, records), options=options).splitlines()
    head = lines[1].split()
    assert head[-3:] == ["coeff", "n_pow", "dropout"]
    assert [row.split()[-3] for row in lines[2:4]] == ["0.5", "0.5"]
    (check,) = [line for line in lines if line.startswith("Check a proof again: ")]
    knee = next(line.split(":")[0] for line in lines if line.endswith("knee"))
    assert check.endswith(f"python -m study.verify {knee} --tracking-uri http://x")


@pytest.mark.parametrize(("accuracy", "is_said"), [(0.9, False), (0.0, True)])
def test_a_front_that_reaches_no_hypervolume_is_said_to(accuracy: float, is_said: bool) -> None:
    results = collect(STUDY, [trial(0, val_accuracy=accuracy)])
    assert (results.hypervolume == 0) is is_said
    text = " ".join(printed(results).split())
    assert ("no network is better than that in every objective" in text) is is_said


def test_what_cannot_be_compared_is_one_line_and_writes_nothing(
    finished: Path, tmp_path: Path
) -> None:
    uri = f"sqlite:///{finished}/mlflow.db"
    page = tmp_path / "page.html"
    for arguments, says in (
        (["tiny", "tiny"], "STUDY: each study must be named once, but got 'tiny' twice"),
        (["tiny", "nosuch"], "but there is no study 'nosuch'; there are tiny"),
        (["tiny", "x", "--optuna", "sqlite:///o.db"], "--optuna requires one study, but got 2"),
        (["tiny", "x", "--radii", "0.5"], "--radii requires one study, but got 2"),
        (["tiny", "x", "--figures", "f"], "--figures requires one study, but got 2"),
        (["tiny", "x", "--at", "coeff=0.1"], "--at requires one study, but got 2"),
        (["tiny", "--data-root", "d"], "--data-root and --trust require --at"),
        (["tiny", "--trust"], "--data-root and --trust require --at"),
        (
            ["tiny", "--figures", str(tmp_path / "no" / "f")],
            "--figures: the folder must be writable, but",
        ),
        (["tiny", "--radii", "0.5,x"], "--radii: must be numbers of 0 or more, such as 0.5 or 36"),
        (["tiny", "x", "y", "--tracking-uri", "sqlite:///b.db"], "but got 2 for 3"),
        (["tiny", "--tracking-uri", "sqlite:///b.db"], "but got 2 for 1"),
        (
            ["tiny", "tiny", "--objective", "x"],
            "--objective: must be NAME:maximize or NAME:minimize",
        ),
    ):
        done = CliRunner().invoke(app, [*arguments, "--html", str(page), "--tracking-uri", uri])
        assert done.exit_code == 2, done.output
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert says in done.stderr
    assert not page.exists()


@pytest.fixture
def two_servers(finished: Path, tmp_path: Path) -> list[str]:
    """The finished study, and a copy on another server with other run ids."""
    copy = tmp_path / "mlflow.db"
    shutil.copy(finished / "mlflow.db", copy)
    with closing(sqlite3.connect(copy)) as database, database:
        database.execute("PRAGMA foreign_keys = OFF")
        tables = ("runs", "tags", "params", "metrics", "latest_metrics")
        for table in tables:
            database.execute(
                f"UPDATE {table} SET run_uuid = substr(run_uuid, 2) || substr(run_uuid, 1, 1)"
            )
        database.execute(
            "UPDATE tags SET value = substr(value, 2) || substr(value, 1, 1) WHERE key = ?",
            [PARENT],
        )
    return [f"sqlite:///{path}" for path in (finished / "mlflow.db", copy)]


def test_studies_of_one_name_on_two_servers_are_compared(
    two_servers: list[str], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    uris = [word for uri in two_servers for word in ("--tracking-uri", uri)]
    done = CliRunner().invoke(app, ["tiny", "tiny", *uris, "--html", str(page)])
    assert done.exit_code == 0, done.output
    out = " ".join(done.stdout.split())
    for text in (
        "tiny, tiny (2): 2 studies",
        "+0 (-",
        "Settings that differ no setting differs",
        f"tiny: in MLflow at {two_servers[0]}",
        f"tiny (2): the study tiny in MLflow at {two_servers[1]}",
        f" --tracking-uri {two_servers[0]} hypervolume of the joint front",
    ):
        assert text in out
    assert page.read_text().endswith("</html>\n")
    for arguments, fronts in (([], {"tiny"}), (["--where", "coeff > 2"], set())):
        done = CliRunner().invoke(
            app, ["tiny", "tiny", *uris, "--format", "json", "--all", *arguments]
        )
        assert done.exit_code == 0, done.output
        content = json.loads(done.stdout)
        assert [one["name"] for one in content["studies"]] == ["tiny", "tiny (2)"]
        # Of equal networks the front has those of the first study.
        assert {p["study"] for p in content["points"] if p["mark"] == "front"} == fronts


def test_any_radii_are_shown_of_a_study_that_knew_none_of_them(finished: Path) -> None:
    options = ["--all", "--radii", "0,1e-3,4", "--tracking-uri", f"sqlite:///{finished}/mlflow.db"]
    table, by_csv, by_json = (
        CliRunner().invoke(app, ["tiny", "--format", form, *options])
        for form in ("table", "csv", "json")
    )
    assert {one.exit_code for one in (table, by_csv, by_json)} == {0}
    for head in ("test cert@0 ", "test cert@0.001 ", "test cert@4 "):
        assert table.stdout.splitlines()[1].count(head) == 1
    points = {point["network"]: point["metrics"] for point in json.loads(by_json.stdout)["points"]}
    rows = list(csv.DictReader(io.StringIO(by_csv.stdout)))
    assert len(rows) == len(points) > 3
    for row in rows:
        metrics = points[row["network"]]
        within = [metrics[f"test_certified_accuracy@{radius}"] for radius in ("0", "0.001", "4")]
        assert [str(one) for one in within] == [
            row[f"test_certified_accuracy@{radius}"] for radius in ("0", "0.001", "4")
        ]
        assert metrics["test_accuracy"] >= within[0] >= within[1] >= within[2]
        assert within[2] == metrics["test_certified_accuracy"]


def test_figures_are_written_into_a_folder(finished: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{finished}/mlflow.db"
    folder = tmp_path / "figures"
    done = CliRunner().invoke(app, ["tiny", "--figures", str(folder), "--tracking-uri", uri])
    assert done.exit_code == 0, done.output
    # All but the correlations, for which it has too few trials.
    kinds = "front", "growth", "proofs", "radii", "inverse"
    names = [f"{kind}.{form}" for kind in kinds for form in ("svg", "pdf")]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert [line for line in done.stderr.splitlines() if line.startswith("written: ")] == [
        f"written: {folder / name}" for name in names
    ]


@pytest.mark.parametrize(
    "options", [["--all"], ["--html", "p.html"], ["--format", "csv"], ["second"]]
)
def test_what_is_served_is_one_page_alone(options: list[str]) -> None:
    done = CliRunner().invoke(app, ["tiny", "--serve", *options])
    assert done.exit_code == 2
    assert "--serve allows one study, " in done.stderr


def test_a_study_is_served_until_ctrl_c(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = []

    def pressed(url: str) -> None:
        with urllib.request.urlopen(url, timeout=10) as answer:
            answers.append(answer.headers["X-Study-State"])

    monkeypatch.setattr(report, "_until_ctrl_c", pressed)
    monkeypatch.setattr(os, "nice", lambda _: 0)  # it could not be taken back
    uri = f"sqlite:///{finished}/mlflow.db"
    done = CliRunner().invoke(app, ["tiny", "--serve", "--tracking-uri", uri])
    assert done.exit_code == 0, done.output
    assert answers == ["The%20study%20is%20done."]


def test_of_a_study_that_is_followed_each_file_is_read_once(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(f"sqlite:///{finished}/mlflow.db")
    as_usual = view(read(Records(client), "tiny")).content()
    download, downloaded = mlflow.artifacts.download_artifacts, list[str]()

    def counted(uri: str, **options: str) -> str:
        downloaded.append(uri)
        return download(uri, **options)

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", counted)
    followed = Records(client, keeps_files=True)
    for _ in range(2):
        assert view(read(followed, "tiny")).content() == as_usual
    assert downloaded
    assert len(set(downloaded)) == len(downloaded)
    # A trial that ends again has files that may differ.
    study = followed.find_study("tiny")
    assert study is not None
    ended = followed.ended(study, 0.0)
    followed.forget({run_id for run_id, _ in ended})
    downloaded.clear()
    assert view(read(followed, "tiny")).content() == as_usual
    assert downloaded
    assert all(any(run_id in uri for run_id, _ in ended) for uri in downloaded)


def test_of_a_study_that_is_followed_it_is_known_what_ended_without_projections(
    finished: Path,
) -> None:
    records = Records(Client(f"sqlite:///{finished}/mlflow.db"))
    study = records.find_study("tiny")
    assert study is not None
    ends = {trial.run_id: trial.ended or math.nan for trial in records.trials(study)}
    ends[study.run_id] = records.client.get_run(study.run_id).info.end_time / 1000
    for since in (0.0, *ends.values()):
        after = {(run_id, end) for run_id, end in ends.items() if end > since}
        assert records.ended(study, since) == after
