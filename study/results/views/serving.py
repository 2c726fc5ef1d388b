"""The page of a study on a server of its own, which keeps up with a study that runs.

The page asks for what it does not show yet, and the server answers once there is something, or
after ten seconds. Meanwhile the server asks MLflow each second whether the study or one of its
trials has ended. Only then, and once a minute, does it read the study again, which takes at most a
fifth of its time. A server without a browser does nothing.

The address of the page has a random token, since every user of this host can connect to its ports.
"""

import gzip
import hashlib
import hmac
import secrets
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, urlsplit

from study.errors import UserError, quoted
from study.metrics.reports import TrialStatus
from study.results.report import Report
from study.results.views import report_view
from study.results.views.page import page

_HOST = "127.0.0.1"
# The host names that a request may be for, at any port, since a tunnel may have another one. Names
# that somebody else makes lead here (DNS rebinding) are refused.
_NAMES = {_HOST, "localhost", "::1"}
# Headers of every answer. No page of another origin may frame this one or learn its token.
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_LOOK_SECONDS = 1.0
# How long a page waits for news. It holds a connection, of which a browser has six for a server.
_HOLD_SECONDS = 10.0
# How long a client may take to send a request, or to receive an answer of up to some megabytes.
_CLIENT_SECONDS = 60.0
# How much later a trial's end may reach MLflow: the driver collects what it sends.
_LATE_SECONDS = 10.0
# Other changes show up within this many seconds, until the study is done.
_ANEW_SECONDS = 60.0
# Largest share of the time to spend on reading a study that is large.
_SHARE = 1 / 5


@dataclass(frozen=True)
class Served:
    """A report as it is served: with its content, a tag of the content, and a line that says how
    far the study is."""

    report: Report
    content: str
    tag: str
    state: str


class Live:
    """A report that is read again when MLflow has something new about its study."""

    def __init__(self, read: Callable[[], Report], first: Report) -> None:
        """
        Args:
            read: gives the report as it is now. Raises UserError if it cannot be read.
            first: the report, read just now.
        """
        self._read = read
        self._lock = threading.Lock()
        self._ended = set[tuple[str, float]]()
        self._take(first, took=0.0)

    def _take(self, report: Report, took: float) -> None:
        drawn = report_view.view(report).content()
        tag = hashlib.sha256(drawn.encode()).hexdigest()[:16]
        self._served = Served(report, drawn, tag, _state(report))
        self._looked_at = self._read_at = time.monotonic()
        self._next_read = self._read_at + took / _SHARE

    def look(self) -> Served:
        """What to serve now. If MLflow does not answer, that is what was served before, with a
        state that says so."""
        with self._lock:
            start = time.monotonic()
            if start - self._looked_at >= _LOOK_SECONDS and start >= self._next_read:
                self._looked_at = start
                try:
                    self._look(start)
                except UserError as error:
                    self._served = replace(self._served, state=str(error))
            return self._served

    def _look(self, start: float) -> None:
        report = self._served.report
        since = max((end for _, end in self._ended), default=0.0) - _LATE_SECONDS
        ended = report.files.ended(report.study, since)
        is_old = start - self._read_at > _ANEW_SECONDS and not report.study.finished
        if is_old or not ended <= self._ended:
            # A trial that ended once more, after a crash, may have other files.
            report.files.forget({run_id for run_id, _ in ended - self._ended})
            self._take(self._read(), took=time.monotonic() - start)
            # Not before: what could not be read is not known yet.
            self._ended |= ended
        else:
            self._served = replace(self._served, state=_state(report))


def _state(report: Report) -> str:
    """How far a study is, for a line on its page."""
    if report.study.finished:
        return "The study is done."
    n_ended = sum(training.state is not TrialStatus.RUNNING for training in report.trainings)
    if report.where:
        return f"Live: {n_ended} trainings within the filter have ended."
    return f"Live: {n_ended} of {report.study.config.n_trainings} trainings have ended."


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print a traceback, unless a browser left before it had the whole answer."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Server:
    """Serves the page of a study on this host, in a thread, until `close` or the process ends.

    Attributes:
        url: of the page. Whoever has it can read the page on this host.
        token: the part of the address that nobody can guess.
        closed: set by `close`.
    """

    def __init__(self, read: Callable[[], Report], first: Report) -> None:
        """Arguments as for Live."""
        self.live = Live(read, first)
        self.closed = threading.Event()
        self.token = secrets.token_urlsafe()
        self._server = _HTTPServer((_HOST, 0), partial(_Handler, self))
        self.url = f"http://{_HOST}:{self._server.server_port}/{self.token}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop serving; an open page says so."""
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()


def _name_of(host: str) -> str | None:
    """The name in a Host header, without the port; None if it has none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


class _Handler(BaseHTTPRequestHandler):
    timeout = _CLIENT_SECONDS

    def __init__(self, server: Server, *args: Any) -> None:
        self._live, self._token, self._closed = server.live, server.token, server.closed
        super().__init__(*args)

    def do_GET(self) -> None:  # http.server calls it so
        host = self.headers["Host"] or ""
        token, slash, name = self.path.removeprefix("/").partition("/")
        place = slash + name
        if _name_of(host) not in _NAMES:
            names = f"{_HOST} or localhost"
            self._refuse(
                HTTPStatus.FORBIDDEN,
                f"the host must be {names}, at any port, but got {quoted(host)}",
            )
        elif not hmac.compare_digest(token.encode(), self._token.encode()):
            self._refuse(
                HTTPStatus.FORBIDDEN,
                "the address must be the one that the server printed, with its token",
            )
        elif place == "/":
            served = self._live.look()
            view = report_view.view(served.report)
            self._send(served, "text/html", page(view, served.content, served.tag))
        elif place == "/content":
            served = self._news()
            is_known = served.tag == self.headers["If-None-Match"]
            self._send(served, "application/json", None if is_known else served.content)
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "the page is at the address that the server printed")

    def _news(self) -> Served:
        """What to serve, as soon as it differs from what the page shows, or after _HOLD_SECONDS."""
        shown = self.headers["If-None-Match"], self.headers["X-Study-State"]
        until = time.monotonic() + _HOLD_SECONDS
        served = self._live.look()
        while (served.tag, quote(served.state)) == shown and time.monotonic() < until:
            if self._closed.wait(_LOOK_SECONDS):
                break
            served = self._live.look()
        return served

    def _send(self, served: Served, kind: str, text: str | None) -> None:
        """Answer with a text, or, for None, that there is nothing new."""
        self.send_response(HTTPStatus.NOT_MODIFIED if text is None else HTTPStatus.OK)
        self.send_header("ETag", served.tag)
        self.send_header("X-Study-State", quote(served.state))
        self.send_header("Vary", "Accept-Encoding")
        if text is None:
            self.end_headers()
            return
        body = text.encode()
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, compresslevel=1)
            self.send_header("Content-Encoding", "gzip")
        self._send_body(kind, body)

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self.send_response(status)
        self._send_body("text/plain", f"{reason}\n".encode())

    def _send_body(self, kind: str, body: bytes) -> None:
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def end_headers(self) -> None:
        """Add the headers that every answer has, and end the headers."""
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing about requests."""
