"""A cluster of three hosts, brought up by `ray up` from the derived cluster.yaml, and what a user
does with it from a machine of their own."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from getpass import getuser
from pathlib import Path
from typing import Any

import psycopg
import yaml

from tests.cluster.derived import ROOT, derive
from tests.cluster.hosts import Hosts
from tests.support.waiting import wait

_UP_SECONDS = 180
# All workers have joined within so many seconds of `ray up`.
_JOIN_SECONDS = 120
DASHBOARD_PORT = 8265
MLFLOW_PORT = 5000
DATABASE_PORT = 5433


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up, seen from the machine of its user, who has a home of their own."""

    hosts: Hosts
    name: str
    home: Path
    config: Path

    @property
    def environment(self) -> dict[str, str]:
        """Of what the user types: with the token, and nothing of ours."""
        path = f"{sys.prefix}/bin:{os.environ['PATH']}"
        return {
            "HOME": str(self.home), "PATH": path, "TERM": "dumb", "RAY_AUTH_MODE": "token",
            # Here `ray up` keeps what it knows of the cluster.
            "TMPDIR": str(self.home), "RAY_TMPDIR": str(self.home),
            # The second autoscaler takes the head of provider `local` for one of its workers, and
            # then starts one too few.
            "RAY_UP_enable_autoscaler_v2": "0",
            # The hosts have no way to whoever counts.
            "RAY_USAGE_STATS_ENABLED": "0",
        }  # fmt: skip

    def run(self, *command: str, timeout_seconds: float = _UP_SECONDS) -> str:
        """Run a command of the user in the root of the project; its output, both ways.

        Raises:
            AssertionError: if it fails. TimeoutExpired.
        """
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
        return done.stdout

    def up(self) -> str:
        """`ray up`, and wait for the workers; what it said."""
        said = self.run("ray", "up", "-y", "--no-config-cache", str(self.config))
        wait(self.have_joined, _JOIN_SECONDS, self.monitor_log)
        return said

    def down(self) -> str:
        """`ray down`; what it said. Of the hosts it stops Ray on the head alone."""
        said = self.run("ray", "down", "-y", str(self.config))
        for worker in self.hosts.workers:
            # On AWS their machines are gone now.
            wait(lambda host=worker: not host.kill("ray"), 20, f"Ray does not end on {worker.name}")
        return said

    def have_joined(self) -> bool:
        """Whether all workers are nodes of the cluster."""
        # Ray's own list takes seconds of a CPU, so it is asked when it can be complete at last.
        for worker in self.hosts.workers:
            if not any("raylet/raylet" in line for line in worker.processes().values()):
                return False
        listed = self.hosts.head.run("ray list nodes --filter state=ALIVE --format json").stdout
        return len(yaml.safe_load(listed)) == len(self.hosts.all)

    def monitor_log(self) -> str:
        """The end of what the autoscaler says, for messages."""
        return self.hosts.head.run("tail -n 60 /tmp/ray/session_latest/logs/monitor*").stdout

    @contextmanager
    def tunnel(self, remote_port: int) -> Iterator[int]:
        """Forward a port of this machine to one of the head's own address; the port here."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        forward = ("-N", "-L", f"127.0.0.1:{port}:127.0.0.1:{remote_port}")
        with subprocess.Popen(self.hosts.ssh(self.hosts.head, *forward)) as process:
            try:
                wait(partial(_answers, port), 20, "the tunnel does not open")
                yield port
            finally:
                process.terminate()

    def submit(self, folder: Path, *entrypoint: str, timeout_seconds: float) -> str:
        """Run a job to its end, a folder being its working directory; what it said.

        Raises:
            AssertionError: if it fails. TimeoutExpired.
        """
        with self.tunnel(DASHBOARD_PORT) as port:
            where = ("--address", f"http://127.0.0.1:{port}", "--working-dir", str(folder))
            command = ("ray", "job", "submit", *where, "--", *entrypoint)
            return self.run(*command, timeout_seconds=timeout_seconds)

    @contextmanager
    def database(self) -> Iterator["psycopg.Connection[Any]"]:
        """MLflow's database, over a tunnel to the head."""
        secrets = json.loads(self.hosts.head.run("cat ~/.iresnet-study/secrets.json").stdout)
        with self.tunnel(DATABASE_PORT) as port, psycopg.connect(
            host="127.0.0.1", port=port, user="mlflow", password=secrets["database_password"],
            dbname="mlflow", autocommit=True,
        ) as connection:  # fmt: skip
            yield connection

    def secrets(self) -> Mapping[str, str]:
        """What a driver on the head has in its environment for the study."""
        lines = self.hosts.head.run("cat ~/.iresnet-study/environment").stdout.splitlines()
        return dict(line.removeprefix("export ").split("=", 1) for line in lines)


@contextmanager
def cluster(hosts: Hosts, folder: Path) -> Iterator[Cluster]:
    """Bring a cluster up on the hosts. It goes with them; what it left on this machine, here.

    Args:
        hosts: on which nothing runs.
        folder: the home of the user who brings it up; it must be empty.
    """
    name = f"iresnet-{os.getpid()}"
    config = folder / "derived.yaml"
    config.write_text(yaml.safe_dump(derive(hosts, name), sort_keys=False))
    made = Cluster(hosts, name, folder, config)
    try:
        made.run("ray", "get-auth-token", "--generate")
        made.up()
        yield made
    finally:
        # Where the launcher keeps its SSH connections, whatever TMPDIR says.
        user, of = (hashlib.sha256(text.encode()).hexdigest()[:10] for text in (getuser(), name))
        shutil.rmtree(f"/tmp/ray_ssh_{user}/{of}", ignore_errors=True)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
