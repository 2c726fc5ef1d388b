"""The services of the head as processes: started, killed, started again, and what they refuse."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import requests

from tests.cluster.derived import ROOT
from tests.support.waiting import wait


class Head:
    """A home in which the services lie, and the command."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / ".iresnet-study"
        self.port, self.database_port = _free_ports()

    def run(self, *arguments: str, exit_code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "study.head", *arguments],
            cwd=ROOT,
            env={**os.environ, "HOME": str(self.home)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == exit_code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def start(self, *more: str, exit_code: int = 0) -> str:
        ports = ("--port", str(self.port), "--database-port", str(self.database_port))
        storage = ("--storage-path", str(self.home / "bucket"))
        return self.run("start", *storage, *ports, *more, exit_code=exit_code)

    @property
    def environment(self) -> dict[str, str]:
        """What the file says, read by a shell."""
        script = f". {self.folder}/environment && env -0"
        out = subprocess.run(["env", "-i", "sh", "-c", script], check=True, capture_output=True)
        pairs = (line.split("=", 1) for line in out.stdout.decode().strip("\0").split("\0"))
        return dict(pairs)

    def status(self) -> int:
        """That of an answer of MLflow to who has the password."""
        known = self.environment
        password = known["MLFLOW_TRACKING_USERNAME"], known["MLFLOW_TRACKING_PASSWORD"]
        url = f"{known['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/get?experiment_id=0"
        return requests.get(url, auth=password, timeout=30).status_code

    def processes(self, word: str) -> list[int]:
        """Ours alone: MLflow has our port on its command line, PostgreSQL our folder."""
        marks = {"mlflow": f"--port {self.port} ", "postgres": str(self.folder)}
        found = []
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                text = line.read_bytes().replace(b"\0", b" ").decode()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if word in text and marks[word] in text:
                found.append(int(line.parent.name))
        return found


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    # Where PostgreSQL's user may pass through, which pytest's own folders do not let it.
    home = Path(tempfile.mkdtemp())
    home.chmod(0o711)
    made = Head(home)
    try:
        yield made
    finally:
        made.run("stop")
        shutil.rmtree(home)


pytestmark = pytest.mark.cluster


def test_start_is_there_when_it_returns_and_changes_nothing_the_second_time(head: Head) -> None:
    head.start()
    assert head.status() == 200
    before = (head.environment, head.processes("mlflow"), head.processes("postgres"))
    assert before[0]["STUDY_STORAGE_PATH"] == f"{head.home}/bucket/studies"
    head.start()
    assert (head.environment, head.processes("mlflow"), head.processes("postgres")) == before


def test_secrets_are_for_their_owner_and_every_way_in_asks_for_a_password(head: Head) -> None:
    for name in ("secrets.json", "environment", "basic_auth.ini", "mlflow.log"):
        assert (head.folder / name).stat().st_mode & 0o777 == 0o600, name
    hba = (head.folder / "postgres" / "pg_hba.conf").read_text().splitlines()
    methods = {line.split()[-1] for line in hba if line and not line.startswith("#")}
    assert methods == {"scram-sha-256"}
    secrets = json.loads((head.folder / "secrets.json").read_text()).values()
    for log in head.folder.rglob("*.log"):
        assert not [secret for secret in secrets if secret in log.read_text()], log


def test_what_was_killed_is_there_again_after_start(head: Head) -> None:
    passwords = head.environment
    for word in ("mlflow", "postgres"):
        for pid in head.processes(word):
            os.kill(pid, 9)
        wait(lambda word=word: not head.processes(word), 20, f"{word} does not end")
    head.start()
    assert head.environment == passwords
    assert head.status() == 200


def test_it_stops_when_ray_has_nothing_to_do(head: Head) -> None:
    looks = []

    class Jobs(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            looks.append(self.path)
            jobs = [{"status": "RUNNING" if len(looks) < 20 else "SUCCEEDED"}]
            # A dashboard that has trouble of its own does not say that there is nothing to do.
            self.send_response(500 if len(looks) in (3, 4) else 200)
            self.end_headers()
            self.wfile.write(json.dumps(jobs).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Jobs) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        dashboard = f"http://127.0.0.1:{server.server_port}"
        done = head.home / "shut-down"
        # Looked at ten times in 0.6 s: twice as long as it may be idle, a job runs.
        said = head.run(
            "stop-when-idle", "--minutes", "0.01", "--dashboard", dashboard,
            "--then", f"touch {done}",
        )  # fmt: skip
        server.shutdown()
        thread.join()
    assert "no job for 0.01 minutes" in said
    assert len(looks) > 20
    assert set(looks) == {"/api/jobs/"}
    assert done.exists()
    assert head.processes("mlflow") == head.processes("postgres") == []


def test_ports_that_cannot_be_used_are_refused_in_one_line(head: Head) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", head.port))
        other.listen()
        said = head.start(exit_code=2)
    assert said == f"error: --port: the port must be free, but something listens on {head.port}\n"
    said = head.start("--database-port", "1", exit_code=2)  # PostgreSQL has started
    assert said.startswith("error: --database-port: it must be that of the database that runs")
    assert said.count("\n") == 1
