"""PostgreSQL and MLflow on the head of a cluster.

All they need lies in one folder, and what is secret there is readable by its owner alone:

    secrets.json    passwords and keys, made at the first start
    environment     what a study must know, to be sourced by a shell before Ray is started
    postgres/       the databases of MLflow and of its users
    *.log           the output of the two
"""

import fcntl
import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.head.postgres import Postgres
from study.head.processes import ServiceError, in_group, refuse_if_taken, wait

_ADMIN = "admin"
_DATABASES = ("mlflow", "mlflow_users")
_ROLE = "mlflow"
# Seconds: MLflow lays out its tables at the first start.
_START_SECONDS = 120
_STOP_SECONDS = 20


@dataclass(frozen=True)
class _Secrets:
    """Made once, at the first start of a cluster."""

    owner_password: str
    """Of PostgreSQL's superuser, with which the databases are made."""
    database_password: str
    admin_password: str
    """Of MLflow's first user."""
    server_key: str
    """With which MLflow signs its forms."""

    @classmethod
    def new(cls) -> "_Secrets":
        return cls(*(secrets.token_urlsafe(32) for _ in range(4)))


class Services:
    """The two services whose data lies in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._postgres = Postgres(folder / "postgres")
        self._mlflow_state = folder / "mlflow.json"
        self.environment = folder / "environment"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other process starts or stops them."""
        # Others may enter, as PostgreSQL's user must, but not list it.
        self._folder.mkdir(mode=0o711, exist_ok=True)
        with (self._folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def start(self, storage_path: str, host: str, port: int, database_port: int) -> None:
        """Start what does not answer.

        Raises:
            ServiceError: if something is missing, in the way, or does not come up.
        """
        known = self._secrets()
        self._postgres.start(database_port, known.owner_password)
        self._postgres.make_role(known.owner_password, _ROLE, known.database_password, _DATABASES)
        uri = f"http://127.0.0.1:{port}"
        self._write(
            self.environment,
            _exports(
                {
                    "MLFLOW_TRACKING_URI": uri,
                    "MLFLOW_TRACKING_USERNAME": _ADMIN,
                    "MLFLOW_TRACKING_PASSWORD": known.admin_password,
                    "STUDY_STORAGE_PATH": f"{storage_path}/studies",
                }
            ),
        )
        if not self.mlflow_answers():
            self._stop_mlflow()
            self._start_mlflow(known, f"{storage_path}/artifacts", host, port, database_port)

    def stop(self) -> None:
        """Raises ServiceError if PostgreSQL does not stop."""
        self._stop_mlflow()
        self._postgres.stop()

    def database_answers(self) -> bool:
        return self._postgres.answers()

    def mlflow_answers(self) -> bool:
        if not self._mlflow_state.exists():
            return False
        state = json.loads(self._mlflow_state.read_text())
        return in_group(state["group"], "mlflow") and _is_healthy(state["uri"])

    def _secrets(self) -> _Secrets:
        path = self._folder / "secrets.json"
        if not path.exists():
            self._write(path, json.dumps(vars(_Secrets.new())))
        return _Secrets(**json.loads(path.read_text()))

    def _write(self, path: Path, text: str) -> None:
        """Write a file that its owner alone may read, whole or not at all."""
        with tempfile.NamedTemporaryFile("w", dir=self._folder, delete=False) as file:
            file.write(text)
        os.replace(file.name, path)

    # MLflow

    def _start_mlflow(
        self, known: _Secrets, artifacts: str, host: str, port: int, database_port: int
    ) -> None:
        refuse_if_taken("port", port)
        databases = (
            f"postgresql+psycopg://{_ROLE}:{known.database_password}@127.0.0.1:{database_port}/{name}"
            for name in _DATABASES
        )
        records, users = databases
        settings = self._folder / "basic_auth.ini"
        self._write(
            settings,
            # Without a password nothing is visible, and users do not see what others made.
            f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = {users}\n"
            f"admin_username = {_ADMIN}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            # A check of a password takes a third of a second, by design; without the cache each
            # request would. The process that checks passwords is the only one that changes them.
            "auth_cache_ttl_seconds = 3600\n",
        )
        names = {"localhost", "127.0.0.1", host, _address()}
        command = [
            sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1",
            "--host", host, "--port", str(port), "--artifacts-destination", artifacts,
            # So that a page of another site cannot reach it by a name of its own. The port is that
            # of the tunnel, which the user chooses.
            "--allowed-hosts", ",".join(f"{name}:*" for name in sorted(names)),
        ]  # fmt: skip
        environment = {
            **os.environ,
            # A command line can be read by every user of the machine, an environment cannot.
            "MLFLOW_BACKEND_STORE_URI": records,
            "MLFLOW_AUTH_CONFIG_PATH": str(settings),
            "MLFLOW_AUTH_ADMIN_PASSWORD": known.admin_password,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": known.server_key,
            # They would be seven processes, which no study uses.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        log_file = self._folder / "mlflow.log"
        log_file.touch(mode=0o600)
        with log_file.open("a") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=environment,
                start_new_session=True,
            )
        uri = f"http://127.0.0.1:{port}"
        self._write(self._mlflow_state, json.dumps({"group": process.pid, "uri": uri}))

        def is_up() -> bool:
            if process.poll() is not None:
                raise ServiceError(f"MLflow ended as it started; see {self._folder}/mlflow.log")
            return _is_healthy(uri)

        wait(is_up, _START_SECONDS, f"MLflow does not answer; see {self._folder}/mlflow.log")

    def _stop_mlflow(self) -> None:
        """End it and its child processes, so that its port is free."""
        if not self._mlflow_state.exists():
            return
        group = json.loads(self._mlflow_state.read_text())["group"]
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not in_group(group, "mlflow"):
                return
            os.killpg(group, number)
            try:
                wait(lambda: not in_group(group, "mlflow"), _STOP_SECONDS, "MLflow does not stop")
            except ServiceError:
                if number is signal.SIGKILL:
                    raise


def _exports(values: Mapping[str, str]) -> str:
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())


def _is_healthy(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _address() -> str:
    """This machine's address on the way to the outside; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"  # there is no way to the outside
        address: Any = probe.getsockname()
        return str(address[0])
