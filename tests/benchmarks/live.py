"""The page that follows a study: how late each network is on it, and what it costs the study.

    python -m tests.benchmarks.live [--rounds 3] [--trials 12]

Runs the default study alternately by itself and with its page open in Chromium from the start, on
the same cores, served by `study.report --serve`. Prints the seconds that each took, the CPU seconds
of the server, its start included, and how long after the end of each training the page showed it as
ended.
"""

import argparse
import os
import re
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from study.tracking.client import Client
from study.tracking.records import Records
from tests.benchmarks.alternating import machine
from tests.conftest import CHROMIUM
from tests.support.browser import FLAGS
from tests.support.launched import ROOT
from tests.support.waiting import wait

_MARKS = """() => Object.fromEntries([...document.querySelectorAll("tr[data-point]")].map((row) => [
    row.querySelector("button").textContent, row.innerText]))"""


def _study(folder: Path, n_trials: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "study.launch", "--trials", f"{n_trials}"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)


def _has_study(database: Path) -> bool:
    with closing(sqlite3.connect(database)) as connection, suppress(sqlite3.OperationalError):
        return connection.execute("SELECT COUNT(*) FROM runs").fetchone() > (0,)
    return False  # its tables are not there yet


@contextmanager
def _served(folder: Path, cpu_seconds: list[float]) -> Iterator[str]:
    """The address of the page of the study in a folder, once the study is there; the server's CPU
    seconds are added at its end."""
    command = [sys.executable, "-u", "-m", "study.report", "digits", "--serve"]
    database = folder / "mlflow.db"
    wait(lambda: database.exists() and _has_study(database), 60, "the study did not begin")
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        yield line.split()[0]
    finally:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process.terminate()
        process.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _watch(page: Page, study: subprocess.Popen[bytes], n_trials: int) -> dict[str, float]:
    """Training -> when the page showed it as ended, seconds since 1970-01-01 UTC."""
    seen: dict[str, float] = {}
    while len(seen) < n_trials:
        for network, text in page.evaluate(_MARKS).items():
            number = re.findall(r"/(\d{4})", network)[0]
            if "running" not in text:
                seen.setdefault(number, time.time())
        if study.poll() is not None and time.time() - max(seen.values(), default=0.0) > 10:
            break
        page.wait_for_timeout(100)
    assert len(seen) == n_trials, "a page of the table has 25 trainings"
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=12)
    arguments = parser.parse_args()
    print(machine())
    os.environ["PYTHONPATH"] = str(ROOT)
    seconds: dict[str, list[float]] = {"alone": [], "followed": []}
    delays: list[float] = []
    server: list[float] = []
    for _ in range(arguments.rounds):
        for how, of in seconds.items():
            with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
                folder, start = Path(name), time.perf_counter()
                study = _study(folder, arguments.trials)
                if how == "followed":
                    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
                    with _served(folder, server) as url:
                        page = browser.new_page(viewport={"width": 1440, "height": 900})
                        page.goto(url)
                        seen = _watch(page, study, arguments.trials)
                    browser.close()
                assert study.wait() == 0
                of.append(time.perf_counter() - start)
                if how == "followed":
                    records = Records(Client(f"sqlite:///{folder}/mlflow.db"))
                    record = records.find_study("digits")
                    assert record is not None
                    ends = {t.trial_id: t.ended for t in records.trials(record)}
                    delays += [at - (ends[number] or 0.0) for number, at in seen.items()]
            print(f"{how}: {of[-1]:.1f} s", flush=True)
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    print(f"followed over alone: {statistics.median(ratios):.3f}, {min(ratios):.3f} to "
          f"{max(ratios):.3f}")  # fmt: skip
    shares = [
        cpu / (whole * (os.cpu_count() or 1))
        for cpu, whole in zip(server, seconds["followed"], strict=True)
    ]
    print(f"CPU seconds of the server: {statistics.median(server):.1f}, "
          f"{statistics.median(shares):.1%} of what the machine has in that time")  # fmt: skip
    print(f"a network is on the page {statistics.median(delays):.1f} s after its end, "
          f"{max(delays):.1f} s at most; {len(delays)} of them")  # fmt: skip


if __name__ == "__main__":
    main()
