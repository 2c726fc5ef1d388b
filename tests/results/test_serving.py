"""The page on a server of its own, which follows a study that runs."""

import gzip
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from study.errors import TrackingError
from study.results import serving
from study.results.report import Report, collect
from study.results.serving import Live, Server
from study.tracking.records import StudyRecord, TrialRecord
from tests.support.records import STUDY, Kept, measured, projection

if TYPE_CHECKING:  # the fast tests do without
    from tests.support.browser import Pages


class Running(Kept):
    """A study that runs: `trials` have ended so far."""

    def __init__(self, trials: list[TrialRecord]) -> None:
        super().__init__()
        self.trials_so_far, self.n_reads, self.is_away = trials, 0, False

    def ended(self, study: StudyRecord, since: float) -> set[tuple[str, float]]:
        if self.is_away:
            raise TrackingError("MLflow does not answer")
        ends = {(trial.run_id, trial.ended or 0.0) for trial in self.trials_so_far}
        return {(run_id, end) for run_id, end in ends if end > since}

    def read(self) -> Report:
        self.n_reads += 1
        study = replace(STUDY, finished=False)
        return replace(collect(study, self.trials_so_far), records=self)


@pytest.fixture
def running() -> Running:
    return Running([measured(number, 0.9 + number / 100, number / 10 + 0.1) for number in range(4)])


@pytest.fixture
def server(running: Running) -> Iterator[Server]:
    served = Server(running.read)
    yield served
    served.close()


def test_it_reads_again_what_has_ended_and_nothing_else(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_LOOK_SECONDS", 0.0)
    live = Live(running.read)
    live.look()  # which runs the report has
    n_reads, tag = running.n_reads, live.tag
    live.look()
    assert (running.n_reads, live.tag) == (n_reads, tag)
    assert live.state == "Live: 4 of 3 trainings have ended."
    running.trials_so_far = [*running.trials_so_far, measured(4, 0.99)]
    live.look()
    assert running.n_reads == n_reads + 1
    assert live.tag != tag
    assert "tiny/0004" in live.content
    running.is_away = True
    live.look()
    assert live.state == "MLflow does not answer"
    assert "tiny/0004" in live.content


def test_it_looks_no_more_than_once_a_second(running: Running) -> None:
    live = Live(running.read)
    running.is_away = True
    for _ in range(5):
        live.look()
    assert live.state.startswith("Live:")


def asked(url: str, **headers: str) -> tuple[int, str]:
    """Status and text of an answer."""
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, gzip.decompress(answer.read()).decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def test_it_answers_this_host_alone_and_sends_what_is_new(server: Server) -> None:
    assert server.url.startswith("http://127.0.0.1:")
    status, text = asked(server.url)
    assert status == 200
    assert server.live.tag in text
    assert asked(server.url + "content") == (200, server.live.content)
    assert asked(server.url + "content", **{"If-None-Match": server.live.tag}) == (304, "")
    assert asked(server.url + "other")[0] == 404
    port = server.url.rstrip("/").rpartition(":")[2]
    for host in ("evil.example", f"evil.example:{port}", f"localhost:{port}"):
        assert asked(server.url, Host=host)[0] == 403


@pytest.mark.browser
def test_a_new_network_is_there_within_3_seconds_and_the_view_is_as_it_was(
    look: "Pages", running: Running, server: Server
) -> None:
    page = look.at(server.url)
    page.wait_for_selector("#front-plot .main-svg")
    page.select_option("#axis-color", "")
    page.locator("#point-table button", has_text="tiny/0001").click()
    plot = page.locator("#front-plot .nsewdrag").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 30, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    page.locator("#filter").press_sequentially("val_accuracy > 0.5")

    def view() -> list[object]:
        return page.evaluate(
            """() => {
                const { xaxis, yaxis } = document.getElementById("front-plot")._fullLayout;
                return [xaxis.range, yaxis.range, location.hash, document.activeElement.id,
                        document.activeElement.selectionStart,
                        Math.round(document.activeElement.getBoundingClientRect().top),
                        document.querySelector("#detail h3").textContent];
            }"""
        )

    page.wait_for_timeout(300)
    before = view()
    assert before[3] == "filter"
    start = time.monotonic()
    running.trials_so_far = [*running.trials_so_far, measured(4, 0.99), projection(4, 0.3)]
    page.locator("#point-table button", has_text="tiny/0004").first.wait_for(timeout=10_000)
    assert time.monotonic() - start < 3
    assert page.locator("#live").inner_text() == "Live: 5 of 3 trainings have ended."
    assert view() == before
    page.keyboard.type(" and coeff < 2")
    assert page.input_value("#filter") == "val_accuracy > 0.5 and coeff < 2"
    server.close()
    page.get_by_text("The server of this page has ended.").wait_for(timeout=10_000)
    (said,) = look.heard
    assert "ERR_CONNECTION_REFUSED" in said
    look.heard.clear()
