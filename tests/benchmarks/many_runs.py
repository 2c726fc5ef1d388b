"""Ten thousand runs: what a report costs over the bare search, and how the page of them behaves.

    python -m tests.benchmarks.many_runs FOLDER [--runs 10000] [--rounds 5] [--only-page]

Writes a study of so many trials into a new MLflow database (the rows of one real trial, copied by
SQL with other numbers), serves it with a real MLflow server, and times whole processes in turns: a
script that does nothing but search_runs, `study.report --all --format json`, and both with a
selective filter. Beside it the same within one process, without its start and imports. Then opens
the page in Chromium: seconds until its parts are there, and the longest that each action keeps the
page from answering.
"""

import argparse
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from mlflow.tracking import MlflowClient
from playwright.sync_api import sync_playwright

from study.metrics.definitions import (
    BLOCK_LIPSCHITZ_UPPER_BOUND,
    INVERSE_STEPS,
    TEST_ACCURACY,
    VAL_ACCURACY,
)
from study.metrics.reports import TrialStatus
from study.results.report import collect, read
from study.results.views import report_view
from study.results.views.page import write_page
from study.results.views.sections import as_json
from study.tracking import studies, tags
from study.tracking.records import Records
from study.tracking.server.client import Client
from study.tracking.tracker import Tracker
from tests.conftest import CHROMIUM
from tests.support.browser import FLAGS
from tests.support.launched import ROOT
from tests.support.served import served
from tests.support.studies import epoch_report, tiny

_SEARCH = """
import sys
from mlflow.tracking import MlflowClient
client, where, token, n = MlflowClient(sys.argv[1]), sys.argv[2], None, 0
experiment = client.get_experiment_by_name("tiny").experiment_id
while True:
    page = client.search_runs([experiment], where, max_results=1000, page_token=token)
    n, token = n + len(page), page.token
    if not token:
        break
print(n)
"""
_SELECTIVE = f"metrics.{VAL_ACCURACY} > 0.999"


def write(folder: Path, n_runs: int) -> None:
    """A study of so many trials."""
    os.chdir(folder)
    client = Client(f"sqlite:///{folder}/mlflow.db")
    study = studies.create(client, tiny(search={"n_trials": n_runs}), "/x/tiny.yaml", "/x/tiny")
    tracker = Tracker(client, study)
    sample = {"coeff": 0.5, "n_power_iterations": 3, "dropout": 0.1}
    tracker.start_trial("0000", sample, study.config.resolve(sample, 0))
    for epoch in (1, 2, 3):
        changes = {TEST_ACCURACY: 0.5} if epoch == 3 else {}
        tracker.log_reports("0000", [epoch_report(epoch, **changes)])
    tracker.end_trial("0000", TrialStatus.COMPLETED)
    studies.close(client, Records(client).read(study), TrialStatus.COMPLETED)
    (template,) = (trial.run_id for trial in Records(client).trials(study))
    generator = random.Random(0)
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        for number in range(1, n_runs):
            _copy(database, template, number, generator)


def _copy(
    database: sqlite3.Connection, template: str, number: int, generator: random.Random
) -> None:
    run_id = uuid.uuid4().hex
    sample = {
        "coeff": generator.uniform(0.3, 0.99),
        "n_power_iterations": generator.randint(1, 20),
        "dropout": generator.uniform(0, 0.5),
    }
    metrics = {
        VAL_ACCURACY: generator.random(),
        BLOCK_LIPSCHITZ_UPPER_BOUND: sample["coeff"] ** 3 * generator.uniform(0.8, 1.3),
        INVERSE_STEPS: generator.uniform(2, 10),
    }
    state = generator.choices(["completed", "stopped_early", "failed"], [0.8, 0.15, 0.05])[0]
    own_tags = {
        tags.TRIAL_ID: f"{number:04d}",
        tags.REPEAT_OF: f"{number:04d}",
        tags.SAMPLE: json.dumps(sample),
        tags.STATE: state,
    }
    for table in ("runs", "tags", "params", "metrics", "latest_metrics"):
        cursor = database.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", (template,))
        names = [column[0] for column in cursor.description]
        marks = ", ".join("?" * len(names))
        for row in cursor.fetchall():
            values = dict(zip(names, row, strict=True))
            values["run_uuid"] = run_id
            if table == "runs":
                values["name"] = f"{number:04d}"
                values["start_time"] += number
            elif table == "tags":
                values["value"] = own_tags.get(values["key"], values["value"])
            elif table == "params":
                values["value"] = str(sample.get(values["key"], values["value"]))
            else:
                values["value"] = metrics.get(values["key"], values["value"])
            database.execute(f"INSERT INTO {table} VALUES ({marks})", list(values.values()))


def timed(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return time.perf_counter() - start


def clocked(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def spread(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3g} [{low:.3g}, {high:.3g}]"


def compare(uri: str, n_rounds: int) -> None:
    report = [
        sys.executable,
        "-m",
        "study.report",
        "tiny",
        "--format",
        "json",
        "--tracking-uri",
        uri,
    ]
    commands = {
        "search_runs": [sys.executable, "-c", _SEARCH, uri, ""],
        "report": [*report, "--all"],
        "search_runs, selective": [sys.executable, "-c", _SEARCH, uri, _SELECTIVE],
        "report, selective": [*report, "--all", "--where", _SELECTIVE],
    }
    records, client = Records(Client(uri)), MlflowClient(uri)
    study = records.find_study("tiny")
    assert study is not None

    def bare(where: str = "") -> None:
        token = None
        while True:
            page = client.search_runs(
                [study.experiment_id], where, max_results=1000, page_token=token
            )
            token = page.token
            if not token:
                return

    inside = {
        "search_runs": bare,
        "report": lambda: as_json(
            collect(study, records.trials_and_projections(study)).content(every=True)
        ),
        "search_runs, selective": lambda: bare(_SELECTIVE),
        "report, selective": lambda: as_json(
            collect(study, records.trials_and_projections(study, _SELECTIVE)).content(every=True)
        ),
    }
    processes: dict[str, list[float]] = {name: [] for name in commands}
    functions: dict[str, list[float]] = {name: [] for name in inside}
    for _ in range(n_rounds):
        for name, command in commands.items():
            processes[name].append(timed(command))
        for name, function in inside.items():
            functions[name].append(clocked(function))
    for title, measured in (("whole processes", processes), ("within a process", functions)):
        print(f"{title}, seconds, median [quartiles] of {n_rounds}:")
        for name, seconds in measured.items():
            print(f"  {name:22} {spread(seconds)}")
        for which in ("", ", selective"):
            pairs = zip(measured[f"report{which}"], measured[f"search_runs{which}"], strict=True)
            print(f"  report over search_runs{which}: {spread([a / b for a, b in pairs])}")


_PRESSING = """([what, value]) => new Promise((done) => {
    const element = document.querySelector(what);
    const start = performance.now();
    if (value === null) {
        element.click();
    } else {
        element.value = value;
        element.dispatchEvent(new Event("input"));
        element.dispatchEvent(new Event("change"));
    }
    requestAnimationFrame(() => setTimeout(() => done((performance.now() - start) / 1000)));
})"""


_OPENED = {
    "table": "cards and the table are there",
    "figure": "figure is there, with the front and a sample of the others",
    "all": "figure has all points",
}
# Milliseconds from the start of the navigation to the frame in which something is there.
_OPENING = """
globalThis.opened = {};
globalThis.nDrawn = () => (document.getElementById("front-plot")?.data ?? [])
    .reduce((n, trace) => n + (trace.customdata?.length ?? 0), 0);
new MutationObserver(() => {
    const there = {
        table: document.querySelector("#point-table tbody tr"),
        figure: document.querySelector("#front-plot .main-svg"),
        all: nDrawn() >= N_POINTS,
    };
    for (const [what, is] of Object.entries(there)) {
        if (!is || what in opened) continue;
        opened[what] = null;
        requestAnimationFrame(() => { opened[what] = performance.now(); });
    }
}).observe(document, { childList: true, subtree: true });
"""


def open_page(path: Path, n_points: int, n_rounds: int) -> None:
    """Times of the page of so many points in Chromium, whose 3D is drawn in software here."""
    actions = {
        "hide and show a mark": ("#marks input[data-mark=dominated]", None),
        "filter": ("#filter", "coeff<0.5"),
        "no filter": ("#filter", ""),
        "sort": ("#point-table th[data-column=val_accuracy] button", None),
        "another axis": ("#axis-x", "coeff"),
        "three dimensions": ("#axis-z", "inverse_steps"),
    }
    opening: dict[str, list[float]] = {"table": [], "figure": [], "all": []}
    acting: dict[str, list[float]] = {name: [] for name in actions}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        for _ in range(n_rounds):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.add_init_script(_OPENING.replace("N_POINTS", str(n_points)))
            page.goto(path.as_uri())
            page.wait_for_function("opened.all")
            for what, of in opening.items():
                of.append(page.evaluate(f"opened.{what} / 1000"))
            for name, (what, value) in actions.items():
                acting[name].append(page.evaluate(_PRESSING, [what, value]))
            page.close()
        browser.close()
    print(f"page of {path.stat().st_size / 1e6:.1f} MB, {n_points} points, seconds:")
    for what, seconds in opening.items():
        print(f"  open, until the {_OPENED[what]}: {spread(seconds)}")
    for name, seconds in acting.items():
        print(f"  {name}: {spread(seconds)}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only-page", action="store_true", help="time no searches and reports")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "mlflow.db").exists():
        write(folder, arguments.runs)
    with served(folder) as uri:
        if not arguments.only_page:
            compare(uri, arguments.rounds)
        path = folder / "report.html"
        # The command would refuse: the runs have no files.
        records = Records(Client(uri))
        start = time.perf_counter()
        report = read(records, "tiny")
        write_page(path, report_view.view(report))
        print(f"its page is written in {time.perf_counter() - start:.1f} s")
    open_page(path, len(report.points), arguments.rounds)


if __name__ == "__main__":
    main()
