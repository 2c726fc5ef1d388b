"""A separate PostgreSQL server on this machine: created, started, stopped; roles and databases.

It listens only on 127.0.0.1, and requires a password even there.
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

from study.errors import UserError
from study.head.processes import in_group, refuse_if_taken

_OWNER = "owner"
_START_SECONDS = 120


class Postgres:
    """A PostgreSQL server with its data in one folder. Its methods raise UserError if a program of
    PostgreSQL is missing or fails."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def start(self, port: int, owner_password: str) -> None:
        """Start the server unless it runs. The first start creates its data folder and sets the
        superuser's password.

        Raises:
            UserError: also if it runs on another port, or something else listens on this port.
        """
        if not (self._data / "PG_VERSION").exists():
            self._lay_out(owner_password)
        if self._runs():
            if self._port() != port:
                rule = f"it must be that of the database that runs, {self._port()}"
                raise UserError(rule, "database_port", port)
            return
        refuse_if_taken("database_port", port)
        # Left by a killed server. PostgreSQL takes a zombie with that number for a running one.
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
        """Whether the server runs. Another process may have the number of its first one by now."""
        try:
            group = int((self._data / "postmaster.pid").read_text().splitlines()[0])
        except FileNotFoundError:
            return False
        return in_group(group, str(self._data))

    def make_role(
        self, owner_password: str, role: str, password: str, databases: Iterable[str]
    ) -> None:
        """Make a role with a password, and its databases, unless they exist."""
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
            # Else failing statements are logged, the password with them.
            connection.execute("SET log_min_error_statement = panic")
            for statement in statements:
                with suppress(errors.DuplicateObject, errors.DuplicateDatabase):
                    connection.execute(statement)

    def _port(self) -> int:
        return int((self._data / "postmaster.pid").read_text().splitlines()[3])

    def _lay_out(self, owner_password: str) -> None:
        # An interrupted first start leaves an incomplete folder.
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
            raise UserError(f"PostgreSQL: {name} failed: {' '.join(done.stdout.split())}")


def _user() -> str | None:
    """The user that PostgreSQL is run as, since it refuses root; None for the current user."""
    return "postgres" if os.geteuid() == 0 else None


def _binary(name: str) -> str:
    """Path of a program of PostgreSQL, of the newest version."""
    # Debian keeps them off the PATH, in one folder per version.
    versions = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: float(p.parts[-3])
    )
    path = str(versions[-1]) if versions else shutil.which(name)
    if path is None:
        raise UserError(f"PostgreSQL must be installed, but there is no {name}")
    return path
