"""PostgreSQL and MLflow on the head of a cluster.

Their files are in one folder, where secrets are readable only by the owner:

    secrets.json    passwords and keys, made at the first start
    environment     variables for studies, to be sourced by a shell before Ray is started
    postgres/       the databases of MLflow and its users
    *.log           the output of both services
"""

import fcntl
import http.client
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from study.errors import UserError
from study.head.postgres import Postgres
from study.head.processes import in_group, refuse_if_taken, wait

_ADMIN = "admin"
_DATABASES = ("mlflow", "mlflow_users")
_ROLE = "mlflow"
# At the first start MLflow creates its tables.
_START_SECONDS = 120
_STOP_SECONDS = 20
# Passwords of PostgreSQL's superuser, its role for MLflow and MLflow's first user, and the key with
# which MLflow signs its forms; made once, at the first start.
_SECRETS = ("owner_password", "database_password", "admin_password", "server_key")


class Services:
    """PostgreSQL and MLflow, with their data in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._postgres = Postgres(folder / "postgres")
        self._mlflow_state = folder / "mlflow.json"
        self.environment = folder / "environment"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the services against other processes that start or stop them."""
        # Others, such as PostgreSQL's user, may enter the folder but not list it.
        self._folder.mkdir(mode=0o711, exist_ok=True)
        with (self._folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def start(self, storage_path: str, port: int, database_port: int) -> None:
        """Start the services that do not answer. Raises UserError if a program is missing, a
        port is taken, or a service does not come up."""
        known = self._secrets()
        database_password = known["database_password"]
        self._postgres.start(database_port, known["owner_password"])
        self._postgres.make_role(known["owner_password"], _ROLE, database_password, _DATABASES)
        uri = f"http://127.0.0.1:{port}"
        for_studies = {
            "MLFLOW_TRACKING_URI": uri,
            "MLFLOW_TRACKING_USERNAME": _ADMIN,
            "MLFLOW_TRACKING_PASSWORD": known["admin_password"],
            "STUDY_STORAGE_PATH": f"{storage_path}/studies",
        }
        exports = (f"export {name}={shlex.quote(value)}\n" for name, value in for_studies.items())
        self._write(self.environment, "".join(exports))
        if self._mlflow_group() is not None and _is_healthy(uri):
            return
        self._stop_mlflow()
        refuse_if_taken("port", port)
        records, users = (
            f"postgresql+psycopg://{_ROLE}:{database_password}@127.0.0.1:{database_port}/{name}"
            for name in _DATABASES
        )
        self._write(
            self._folder / "basic_auth.ini",
            # Nothing is visible without a password, and users do not see what others made.
            f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = {users}\n"
            f"admin_username = {_ADMIN}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            # Checking a password takes a third of a second, by design, for each request without
            # the cache. The process that checks passwords is the only one that changes them.
            "auth_cache_ttl_seconds = 3600\n",
        )
        # Every user of the machine can read a command line, but not an environment.
        environment = {
            "MLFLOW_BACKEND_STORE_URI": records,
            "MLFLOW_AUTH_CONFIG_PATH": str(self._folder / "basic_auth.ini"),
            "MLFLOW_AUTH_ADMIN_PASSWORD": known["admin_password"],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": known["server_key"],
            # Its jobs would be seven processes, which no study uses.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        self._start_mlflow(port, f"{storage_path}/artifacts", environment)

    def stop(self) -> None:
        """Stop both services. Raises UserError if one does not stop."""
        self._stop_mlflow()
        self._postgres.stop()

    def _secrets(self) -> dict[str, str]:
        path = self._folder / "secrets.json"
        if not path.exists():
            self._write(path, json.dumps({name: secrets.token_urlsafe(32) for name in _SECRETS}))
        known: dict[str, str] = json.loads(path.read_text())
        return known

    def _write(self, path: Path, text: str) -> None:
        """Write a file atomically, readable only by its owner."""
        with tempfile.NamedTemporaryFile("w", dir=self._folder, delete=False) as file:
            file.write(text)
        os.replace(file.name, path)

    def _start_mlflow(self, port: int, artifacts: str, environment: Mapping[str, str]) -> None:
        command = [
            sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1",
            "--host", "127.0.0.1", "--port", str(port), "--artifacts-destination", artifacts,
            # Against DNS rebinding. The user chooses the port of the tunnel.
            "--allowed-hosts", "localhost:*,127.0.0.1:*",
        ]  # fmt: skip
        log_file = self._folder / "mlflow.log"
        log_file.touch(mode=0o600)
        with log_file.open("a") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        self._write(self._mlflow_state, json.dumps({"group": process.pid}))

        def is_up() -> bool:
            if process.poll() is not None:
                raise UserError(f"MLflow ended as it started; see {log_file}")
            return _is_healthy(f"http://127.0.0.1:{port}")

        wait(is_up, _START_SECONDS, f"MLflow does not answer; see {log_file}")

    def _mlflow_group(self) -> int | None:
        """Process group of MLflow; None if it does not run."""
        if not self._mlflow_state.exists():
            return None
        group: int = json.loads(self._mlflow_state.read_text())["group"]
        return group if in_group(group, "mlflow") else None

    def _stop_mlflow(self) -> None:
        """Kill MLflow and its child processes, which frees its port."""
        group = self._mlflow_group()
        if group is not None:
            # Clients retry, as after a crash.
            os.killpg(group, signal.SIGKILL)
            wait(lambda: self._mlflow_group() is None, _STOP_SECONDS, "MLflow does not stop")


def _is_healthy(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    # Another protocol may answer at this port.
    except (OSError, http.client.HTTPException):
        return False
