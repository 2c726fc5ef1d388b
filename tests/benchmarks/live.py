"""The page that follows a study: how late each network is on it, and what it costs the study.

    python -m tests.benchmarks.live [--rounds 3] [--trials 12] [--epochs 30]

Runs the default study alternately by itself and with its page open in Chromium from the start, on
the same cores, served by `study.report --serve`. Prints the seconds that each took, the CPU seconds
of server and browser, their starts included, and how long after the end of each training the page
showed it as ended.
"""

import argparse
import math
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path

from playwright.sync_api import sync_playwright

from study.tracking.records import Records
from study.tracking.server.client import Client
from tests.benchmarks.alternating import machine
from tests.conftest import CHROMIUM
from tests.support.browser import FLAGS
from tests.support.launched import ROOT, descendants
from tests.support.waiting import wait

# When each training was first drawn as ended. The page notes it by itself: to ask it again and
# again would take more CPU time than the page does.
_NOTE = """() => {
    const ended = globalThis.ended = {};
    const note = () => {
        for (const row of document.querySelectorAll("tr[data-point]")) {
            const training = row.textContent.match(/\\/(\\d{4})/)[1];
            if (!row.textContent.includes("running")) ended[training] ??= Date.now() / 1000;
        }
    };
    new MutationObserver(() => requestAnimationFrame(note)).observe(
        document.body, { childList: true, subtree: true });
    note();
}"""
# Until the page has all that the study sent at its end.
_LAST_SECONDS = 10.0


def _study(folder: Path, options: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "study.launch", *options]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)


def _has_study(database: Path) -> bool:
    with closing(sqlite3.connect(database)) as connection, suppress(sqlite3.OperationalError):
        return connection.execute("SELECT COUNT(*) FROM runs").fetchone() > (0,)
    return False  # its tables are not there yet


def _cpu_seconds(pids: list[int]) -> float:
    """What processes that run have used so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # of user and system
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def _served(folder: Path) -> Iterator[tuple[str, int]]:
    """The address of the page of the study in a folder, once the study is there, and the server's
    process."""
    command = [sys.executable, "-u", "-m", "study.report", "digits", "--serve"]
    database = folder / "mlflow.db"
    wait(lambda: database.exists() and _has_study(database), 60, "the study did not begin")
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        yield line.split()[0], process.pid
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _followed(folder: Path, cpu: dict[str, list[float]], delays: list[float]) -> Iterator[None]:
    """With the page of a study open. At the end, adds how late each training was on it, and the CPU
    seconds of the server and the browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        with _served(folder) as (url, server):
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(url)
            page.evaluate(_NOTE)
            yield
            page.wait_for_timeout(1000 * _LAST_SECONDS)
            seen = page.evaluate("ended")
            cpu["server"].append(_cpu_seconds([server]))
            cpu["browser"].append(_cpu_seconds(descendants(os.getpid())) - cpu["server"][-1])
        browser.close()
    records = Records(Client(f"sqlite:///{folder}/mlflow.db"))
    study = records.find_study("digits")
    assert study is not None
    ends = {trial.trial_id: trial.ended or math.nan for trial in records.trials(study)}
    delays += [at - ends[number] for number, at in seen.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=12, help="25 at most, a page of the table")
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    options = ["--trials", f"{arguments.trials}", "--epochs", f"{arguments.epochs}"]
    print(machine())
    os.environ["PYTHONPATH"] = str(ROOT)
    seconds: dict[str, list[float]] = {"alone": [], "followed": []}
    delays: list[float] = []
    cpu: dict[str, list[float]] = {"server": [], "browser": []}
    for _ in range(arguments.rounds):
        for how, of in seconds.items():
            with tempfile.TemporaryDirectory() as name:
                folder, start = Path(name), time.perf_counter()
                study = _study(folder, options)
                with _followed(folder, cpu, delays) if how == "followed" else nullcontext():
                    assert study.wait() == 0
                    of.append(time.perf_counter() - start)
            print(f"{how}: {of[-1]:.1f} s", flush=True)
    assert len(delays) == arguments.rounds * arguments.trials
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    print(f"followed over alone: {statistics.median(ratios):.3f}, {min(ratios):.3f} to "
          f"{max(ratios):.3f}")  # fmt: skip
    alone = seconds["alone"]
    print(f"alone: {statistics.median(alone):.1f} s, {min(alone):.1f} to {max(alone):.1f}")
    for process, used in cpu.items():
        shares = [
            one / (whole * (os.cpu_count() or 1))
            for one, whole in zip(used, seconds["followed"], strict=True)
        ]
        print(f"CPU seconds of the {process}: {statistics.median(used):.1f}, "
              f"{statistics.median(shares):.1%} of what the machine has in that time")  # fmt: skip
    print(f"a network is on the page {statistics.median(delays):.1f} s after its end, "
          f"{max(delays):.1f} s at most; {len(delays)} of them")  # fmt: skip


if __name__ == "__main__":
    main()
