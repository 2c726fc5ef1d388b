"""The page on a server of its own, which follows a study that runs."""

import gzip
import math
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from urllib.parse import quote

import pytest

from study.errors import TrackingError
from study.results import serving
from study.results.report import Report, collect
from study.results.serving import Live, Server
from study.tracking.records import StudyRecord, TrialRecord
from tests.support.browser import Pages
from tests.support.records import STUDY, Kept, measured, projection


class Running(Kept):
    """A study that runs: `trials` have ended so far."""

    def __init__(self, trials: list[TrialRecord]) -> None:
        super().__init__()
        self.trials_so_far, self.n_reads, self.seconds = trials, 0, 0.0
        self.is_away = self.is_unreadable = False

    def ended(self, study: StudyRecord, since: float) -> set[tuple[str, float]]:
        if self.is_away:
            raise TrackingError("MLflow does not answer")
        ends = {(trial.run_id, trial.ended or 0.0) for trial in self.trials_so_far}
        return {(run_id, end) for run_id, end in ends if end > since}

    def read(self) -> Report:
        self.n_reads += 1
        if self.is_unreadable:
            raise TrackingError("the study cannot be read")
        study = replace(STUDY, finished=False)
        return replace(collect(study, self.trials_so_far), records=self)


@pytest.fixture
def running() -> Running:
    return Running([measured(number, 0.9 + number / 100, number / 10 + 0.1) for number in range(4)])


@pytest.fixture
def server(running: Running) -> Iterator[Server]:
    served = Server(running.read, running.read())
    yield served
    served.close()


def test_it_reads_again_what_has_ended_and_nothing_else(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(serving, "_SHARE", math.inf)
    live = Live(running.read, running.read())
    first = live.look()  # which runs the report has
    n_reads = running.n_reads
    assert live.look() == first
    assert running.n_reads == n_reads
    assert first.state == "Live: 4 of 3 trainings have ended."
    running.trials_so_far = [*running.trials_so_far, measured(4, 0.99)]
    # What could not be read is read later.
    running.is_unreadable = True
    assert live.look() == replace(first, state="the study cannot be read")
    running.is_unreadable = False
    second = live.look()
    assert second.tag != first.tag
    assert "tiny/0004" in second.content
    assert live.look() == second
    running.is_away = True
    assert live.look() == replace(second, state="MLflow does not answer")


def test_it_looks_no_more_than_once_a_second_and_reads_no_more_than_a_fifth_of_the_time(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = Live(running.read, running.read())
    running.is_away = True
    assert {live.look().state for _ in range(5)} == {"Live: 4 of 3 trainings have ended."}
    clock = time.monotonic()
    monkeypatch.setattr(serving.time, "monotonic", lambda: clock)
    running.is_away, running.seconds = False, 4.0
    reads = []
    for second in range(1, 100):
        clock += 1.0
        running.trials_so_far = [*running.trials_so_far, measured(3 + second, 0.5)]

        def read_slowly() -> Report:
            nonlocal clock
            clock += running.seconds
            reads.append(clock)
            return running.read()

        live._read = read_slowly
        live.look()
    assert len(reads) >= 2
    assert min(b - a for a, b in pairwise(reads)) >= 5 * running.seconds


def test_what_a_filter_leaves_is_not_said_to_be_all(running: Running) -> None:
    filtered = replace(running.read(), where="val_accuracy > 0.9")
    state = Live(running.read, filtered).look().state
    assert state == "Live: 4 trainings within the filter have ended."


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
    shown = server.live.look()
    assert shown.tag in text
    assert asked(server.url + "content") == (200, shown.content)
    assert asked(server.url + "content", **{"If-None-Match": shown.tag}) == (304, "")
    assert asked(server.url + "other")[0] == 404
    port = server.url.rstrip("/").rpartition(":")[2]
    for host in ("evil.example", f"evil.example:{port}", f"localhost:{port}"):
        assert asked(server.url, Host=host)[0] == 403


def test_a_page_that_shows_everything_is_answered_when_there_is_more(
    running: Running, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_HOLD_SECONDS", 60.0)  # longer than `asked` waits
    url = server.url + "content"
    first = server.live.look()
    shown = {"If-None-Match": first.tag, "X-Study-State": quote(first.state)}
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(asked, url, **shown)
        with pytest.raises(TimeoutError):
            answer.result(timeout=0.5)
        running.trials_so_far = [*running.trials_so_far, measured(4, 0.99)]
        status, text = answer.result(timeout=5)
        assert (status, "tiny/0004" in text) == (200, True)
        # A state that the page does not show is news as well.
        assert asked(url, **shown | {"If-None-Match": server.live.look().tag}) == (304, "")
        second = server.live.look()
        shown = {"If-None-Match": second.tag, "X-Study-State": quote(second.state)}
        with monkeypatch.context() as patch:
            patch.setattr(serving, "_HOLD_SECONDS", 0.0)
            assert asked(url, **shown) == (304, "")
        answer = pool.submit(asked, url, **shown)
        with pytest.raises(TimeoutError):
            answer.result(timeout=0.5)
        server.close()
        assert answer.result(timeout=5) == (304, "")


@pytest.mark.parametrize(("error", "is_said"), [(BrokenPipeError, False), (ValueError, True)])
def test_a_browser_that_leaves_is_no_error_and_others_are(
    server: Server, capsys: pytest.CaptureFixture[str], error: type[Exception], is_said: bool
) -> None:
    try:
        raise error
    except error:
        server._server.handle_error(None, ("127.0.0.1", 1))
    assert ("Traceback" in capsys.readouterr().err) == is_said


@pytest.mark.browser
def test_a_new_network_is_there_within_3_seconds_and_the_view_is_as_it_was(
    look: Pages, running: Running, server: Server
) -> None:
    page = look.at(server.url)
    page.wait_for_selector("#front-plot .main-svg")
    page.select_option("#axis-color", "")
    plot = page.locator("#front-plot .nsewdrag").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 30, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    page.locator("#filter").press_sequentially("val_accuracy > 0.5")
    best = page.locator("#detail h3").inner_text()  # which is the knee, and will not be
    page.locator("#point-table button", has_text=best).click()
    page.locator("#filter").click()
    page.keyboard.press("End")

    def view() -> list[object]:
        return page.evaluate(
            """() => {
                const { xaxis, yaxis } = document.getElementById("front-plot")._fullLayout;
                return [xaxis.range, yaxis.range, location.hash, document.activeElement.id,
                        document.activeElement.selectionStart,
                        Math.round(document.activeElement.getBoundingClientRect().top),
                        document.querySelector("#detail h3").textContent,
                        document.querySelector("tr.detail h3").textContent];
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
    page.get_by_text("The server of this page does not answer").wait_for(timeout=10_000)
    # Refused, or cut off in one way or another if it was asked as it closed.
    assert all(said.startswith("Failed to load resource: net::ERR_") for said in look.heard)
    page.close()
    look.heard.clear()
