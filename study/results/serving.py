"""The page of a study on a server of its own, which keeps up with a study that runs.

The page asks for its content each second. MLflow is then asked, at most once a second, which runs
have ended since, and only if there is one the report is made anew. So a server without a browser
costs nothing, and one with a browser little.
"""

import gzip
import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

from study.errors import UserError
from study.metrics.reports import TrialStatus
from study.results.page import content, page
from study.results.report import Report

_HOST = "127.0.0.1"
_LOOK_SECONDS = 1.0
# Some time after a run has ended its driver says so, since an outage may be in between.
_LATE_SECONDS = 10.0
# What does not end a run, such as the marks of a study that ends, is seen so much later at most.
_ANEW_SECONDS = 30.0


@dataclass
class Live:
    """A report that is read again when MLflow has something new of its study.

    Attributes:
        read: the report as it is now. Raises UserError if it cannot be read.
    """

    read: Callable[[], Report]
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        self._ended = set[tuple[str, float]]()
        self._take(self.read())

    def _take(self, report: Report) -> None:
        self.report, self.content = report, content(report)
        self.tag = hashlib.sha256(self.content.encode()).hexdigest()[:16]
        self.state = _state(report)
        self._read_at = self._looked_at = time.monotonic()

    def look(self) -> None:
        """Bring report, content, tag and state up to date, unless that was just done. Where MLflow
        does not answer only the state changes, and says so."""
        with self._lock:
            now = time.monotonic()
            if now - self._looked_at < _LOOK_SECONDS:
                return
            self._looked_at = now
            try:
                if now - self._read_at > _ANEW_SECONDS or self._has_ended():
                    self._take(self.read())
                self.state = _state(self.report)
            except UserError as error:
                self.state = str(error)

    def _has_ended(self) -> bool:
        """Whether a run has ended since the last time."""
        ends = [one.ended for point in self.report.points for one in point.records if one.ended]
        since = max(ends, default=0.0) - _LATE_SECONDS
        ended = self.report.files.ended(self.report.study, since)
        is_known = ended <= self._ended
        self._ended |= ended
        return not is_known


def _state(report: Report) -> str:
    """How far a study is, for a line on its page."""
    if report.study.finished:
        return "The study is done."
    n_ended = sum(training.state is not TrialStatus.RUNNING for training in report.trainings)
    return f"Live: {n_ended} of {report.study.config.n_trainings} trainings have ended."


class Server:
    """Serves the page of a study on this host, in a thread, until `close` or the process ends.

    Attributes:
        url: of the page.
    """

    def __init__(self, read: Callable[[], Report]) -> None:
        """Raises UserError if the report cannot be read."""
        self.live = Live(read)
        self._server = ThreadingHTTPServer((_HOST, 0), partial(_Handler, self))
        self._server.daemon_threads = True
        self.url = f"http://{_HOST}:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop serving; an open page says so."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, server: "Server", *args: Any) -> None:
        self._live, self._url = server.live, server.url
        super().__init__(*args)

    def do_GET(self) -> None:  # http.server calls it so
        # A name that somebody else makes lead here gets nothing (DNS rebinding).
        if f"http://{self.headers['Host']}/" != self._url:
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        live = self._live
        live.look()
        if self.path == "/":
            self._send("text/html", page(live.report, live.content, live.tag))
        elif self.path != "/content":
            self.send_error(HTTPStatus.NOT_FOUND)
        elif self.headers["If-None-Match"] == live.tag:
            self._send("application/json", None)
        else:
            self._send("application/json", live.content)

    def _send(self, kind: str, text: str | None) -> None:
        """Answer with a text, or that there is nothing new."""
        body = b"" if text is None else gzip.compress(text.encode(), compresslevel=1)
        self.send_response(HTTPStatus.NOT_MODIFIED if text is None else HTTPStatus.OK)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("ETag", self._live.tag)
        self.send_header("X-Study-State", quote(self._live.state))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of requests."""
