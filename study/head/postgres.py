"""A PostgreSQL of its own on this machine: laid out, started, stopped, given a role and databases.

It listens on 127.0.0.1 alone, and asks for a password even there.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg import errors, sql

from study.head.processes import ServiceError, in_group, refuse_if_taken

_OWNER = "owner"
_START_SECONDS = 120


class Postgres:
    """The server whose data lies in one folder.

    Raises:
        ServiceError: from whatever starts or stops it, if a program of PostgreSQL is missing or
            fails.
    """

    def __init__(self, data: Path) -> None:
        """data: its folder, made when it is first started."""
        self._data = data

    def start(self, port: int, owner_password: str) -> None:
        """Start it unless it runs, with its data laid out at the first time.

        Args:
            owner_password: of its superuser; the one of the first start stays.

        Raises:
            ServiceError: also if it runs on another port, or something else listens on this one.
        """
        if not (self._data / "PG_VERSION").exists():
            self._lay_out(owner_password)
        if self._runs():
            if self._port() != port:
                rule = f"it must be that of the database that runs, {self._port()}"
                raise ServiceError(rule, "database_port", port)
            return
        refuse_if_taken("database_port", port)
        # Left by one that was killed. PostgreSQL takes a zombie with that number for one that runs.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        options = f"-c listen_addresses=127.0.0.1 -c unix_socket_directories='' -p {port}"
        self._run(
            "pg_ctl", "start", "--pgdata", str(self._data), "--wait",
            "--timeout", str(_START_SECONDS), "--log", str(self._data / "postgres.log"),
            "--options", options,
        )  # fmt: skip

    def stop(self) -> None:
        if self._runs():
            self._run("pg_ctl", "stop", "--pgdata", str(self._data), "--mode", "fast")

    def _runs(self) -> bool:
        """Whether its first process does; another process may have its number now."""
        try:
            group = int((self._data / "postmaster.pid").read_text().splitlines()[0])
        except FileNotFoundError:
            return False
        return in_group(group, str(self._data))

    def make_role(
        self, owner_password: str, role: str, password: str, databases: Iterable[str]
    ) -> None:
        """Make what is not there of a role that logs in with a password, and of its databases."""
        name, its_password = sql.Identifier(role), sql.Literal(password)
        statements = [
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, its_password),
            *(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(database), name)
                for database in databases
            ),
        ]
        with psycopg.connect(
            host="127.0.0.1", port=self._port(), user=_OWNER, password=owner_password,
            dbname="postgres", autocommit=True,
        ) as connection:  # fmt: skip
            # Or the log would have the statements that fail, and with them the password.
            connection.execute("SET log_min_error_statement = panic")
            for statement in statements:
                with suppress(errors.DuplicateObject, errors.DuplicateDatabase):
                    connection.execute(statement)

    def _port(self) -> int:
        return int((self._data / "postmaster.pid").read_text().splitlines()[3])

    def _lay_out(self, owner_password: str) -> None:
        # What an interrupted start has left is not whole.
        shutil.rmtree(self._data, ignore_errors=True)
        self._data.mkdir(mode=0o700)
        user = _user()
        with tempfile.NamedTemporaryFile("w", dir=self._data.parent) as password:
            password.write(owner_password)
            password.flush()
            if user is not None:
                shutil.chown(self._data, user)
                shutil.chown(password.name, user)
            self._run(
                "initdb", "--pgdata", str(self._data), "--username", _OWNER, "--encoding", "UTF8",
                "--locale", "C.UTF-8", "--auth", "scram-sha-256", "--pwfile", password.name,
            )  # fmt: skip

    def _run(self, name: str, *arguments: str) -> None:
        """Run a program of PostgreSQL, as a user that it accepts."""
        done = subprocess.run(
            [_binary(name), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            user=_user(),
            check=False,
        )
        if done.returncode:
            raise ServiceError(f"PostgreSQL: {name} failed: {' '.join(done.stdout.split())}")


def _user() -> str | None:
    """The user that PostgreSQL runs as; None for this one. It refuses to run as root."""
    return "postgres" if os.geteuid() == 0 else None


def _binary(name: str) -> str:
    """The path of a program of PostgreSQL, of the newest where there are several."""
    # Debian keeps them off the PATH, a folder for each version.
    versions = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: float(p.parts[-3])
    )
    path = str(versions[-1]) if versions else shutil.which(name)
    if path is None:
        raise ServiceError(f"PostgreSQL must be installed, but there is no {name}")
    return path
