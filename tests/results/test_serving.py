"""The page on a server of its own, which follows a study that runs."""

import gzip
import math
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from urllib.parse import quote, urlsplit

import pytest

from study.errors import TrackingError
from study.results.report import Report, collect
from study.results.views import serving
from study.results.views.serving import Live, Server
from study.tracking.study_record import StudyRecord, TrialRecord
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
    """Status and text of an answer, which all forbid what others could do with it."""
    request = urllib.request.Request(url, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=10)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        body = answer.read()
        if answer.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        return answer.status, body.decode()


def test_it_answers_this_host_alone_and_sends_what_is_new(server: Server) -> None:
    assert server.url.startswith("http://127.0.0.1:")
    status, text = asked(server.url)
    assert status == 200
    shown = server.live.look()
    assert shown.tag in text
    assert asked(server.url + "content") == (200, shown.content)
    assert asked(server.url + "content", **{"If-None-Match": shown.tag}) == (304, "")
    for other in (server.url + "other", server.url.rstrip("/"), server.url + "content/"):
        assert asked(other)[0] == 404


def test_other_users_of_this_host_do_not_get_the_page(server: Server, running: Running) -> None:
    again = Server(running.read, running.read())
    again.close()
    token = urlsplit(server.url).path.strip("/")
    assert len(token) >= 43  # 256 bits
    root = server.url.removesuffix(f"{token}/")
    for path in ("", "content", again.token, f"{token[:-1]}/", f"{token}x/content", "\xe9/"):
        status, text = asked(root + quote(path))
        assert status == 403
        assert text == "the address must be the one that the server printed, with its token\n"


def test_a_tunnel_may_have_another_port_and_a_name_of_others_is_refused_with_a_reason(
    server: Server,
) -> None:
    for host in ("localhost:9999", "127.0.0.1:80", "[::1]:9999", "LOCALHOST"):
        assert asked(server.url, Host=host)[0] == 200, host
    for host in ("evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example", "[::1"):
        status, text = asked(server.url, Host=host)
        assert status == 403
        assert text == (f"the host must be 127.0.0.1 or localhost, at any port, but got '{host}'\n")


@pytest.mark.parametrize(
    ("accepted", "is_packed"),
    [(None, False), ("identity", False), ("gzip, deflate, br", True)],
)
def test_what_is_sent_is_packed_for_clients_that_take_it(
    server: Server, accepted: str | None, is_packed: bool
) -> None:
    place = urlsplit(server.url)
    line = "" if accepted is None else f"Accept-Encoding: {accepted}\r\n"
    with socket.create_connection((place.hostname, place.port), timeout=10) as client:
        client.sendall(f"GET {place.path} HTTP/1.0\r\nHost: localhost\r\n{line}\r\n".encode())
        head, _, body = client.makefile("rb").read().partition(b"\r\n\r\n")
    assert (b"\r\nContent-Encoding: gzip" in head) == is_packed
    assert b"\r\nVary: Accept-Encoding" in head
    text = gzip.decompress(body) if is_packed else body
    assert text.startswith(b"<!doctype html>")


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.0\r\nHost: lo"])
def test_a_client_that_sends_nothing_more_is_left(
    server: Server, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    assert 0 < serving._Handler.timeout < 300
    monkeypatch.setattr(serving._Handler, "timeout", 0.2)
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port), timeout=10) as client:
        client.sendall(sent)
        assert client.recv(1) == b""


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
