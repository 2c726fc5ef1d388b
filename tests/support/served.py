"""An MLflow server process on a free local port, which can be killed and restarted."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.support.waiting import wait


class Server:
    """Serves the mlflow.db of a folder, at the same address after each start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        # What `mlflow server` starts and then waits for, which takes seconds of CPU time itself.
        command = [sys.executable, "-m", "uvicorn", "mlflow.server.fastapi_app:app"]
        environment = {
            "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{self._folder}/mlflow.db",
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": "./mlartifacts",
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        with (self._folder / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                [*command, "--port", str(self._port)],
                cwd=self._folder,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        wait(self._is_up, 60, "the server did not come up")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _is_up(self) -> bool:
        assert self._process.poll() is None, (self._folder / "server.log").read_text()
        try:
            return requests.get(f"{self.uri}/health", timeout=5).ok
        except requests.RequestException:
            return False


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the mlflow.db of a folder while the context lasts; yields the address."""
    server = Server(folder)
    server.start()
    try:
        yield server.uri
    finally:
        server.kill()
