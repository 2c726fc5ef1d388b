"""A cluster of three hosts, started by `ray up` from the derived cluster.yaml, and the commands of
its user on another machine."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import requests
import yaml

from tests.cluster import user
from tests.cluster.derived import derive
from tests.cluster.hosts import Hosts
from tests.support.waiting import wait

_UP_SECONDS = 180
# Time for all workers to join after `ray up`.
_JOIN_SECONDS = 120
DASHBOARD_PORT = 8265
MLFLOW_PORT = 5000
DATABASE_PORT = 5433


@dataclass(frozen=True)
class Cluster:
    """A running cluster, seen from the machine of its user, who has a separate home."""

    hosts: Hosts
    name: str
    home: Path
    config: Path

    @property
    def environment(self) -> dict[str, str]:
        """Environment of the user's commands."""
        # Autoscaler v2 counts the head of provider `local` as a worker, and starts one too few.
        return {**user.environment(self.home), "RAY_UP_enable_autoscaler_v2": "0"}

    def run(self, *command: str, timeout_seconds: float = _UP_SECONDS) -> str:
        """Run a command of the user in the root of the project; returns stdout and stderr. Raises
        AssertionError if it fails, or TimeoutExpired."""
        return user.run(command, self.environment, timeout_seconds)

    def up(self) -> str:
        """Run `ray up` and wait for the workers; returns its output."""
        said = self.run("ray", "up", "-y", "--no-config-cache", str(self.config))
        wait(self.have_joined, _JOIN_SECONDS, self.monitor_log)
        return said

    def down(self) -> str:
        """Run `ray down`, then kill Ray on the workers, where it leaves Ray; returns its output."""
        said = self.run("ray", "down", "-y", str(self.config))
        for worker in self.hosts.workers:
            # On AWS these machines are gone now.
            wait(lambda host=worker: not host.kill("ray"), 20, f"Ray does not end on {worker.name}")
        return said

    def have_joined(self) -> bool:
        """Whether all workers have joined the cluster."""
        # Each look at Ray's list takes a tunnel, so look for the raylets first.
        for worker in self.hosts.workers:
            if not any("raylet/raylet" in line for line in worker.processes().values()):
                return False
        alive = [node for node in self.nodes() if node["state"] == "ALIVE"]
        return len(alive) == len(self.hosts.all)

    def nodes(self) -> list[dict[str, Any]]:
        """What `ray list nodes --detail` lists, which takes seconds of CPU time; empty while Ray's
        dashboard does not answer."""
        header = {"Authorization": f"Bearer {self.token}"}
        with self.tunnel(DASHBOARD_PORT) as port:
            url = f"http://127.0.0.1:{port}/api/v0/nodes?detail=1"
            try:
                answer = requests.get(url, headers=header, timeout=30)
            except requests.ConnectionError:
                return []
        listed: list[dict[str, Any]] = answer.json()["data"]["result"]["result"]
        return listed

    @property
    def token(self) -> str:
        """Ray's token, of the user and of all nodes."""
        return (self.home / ".ray" / "auth_token").read_text()

    def monitor_log(self) -> str:
        """The end of the autoscaler's log, for messages."""
        return self.hosts.head.run("tail -n 60 /tmp/ray/session_latest/logs/monitor*").stdout

    @contextmanager
    def tunnel(self, remote_port: int) -> Iterator[int]:
        """Forward a local port to a port of the head's loopback; yields the local port."""
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

    def submit(
        self,
        folder: Path,
        *entrypoint: str,
        timeout_seconds: float,
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """Run a job to its end, with `folder` as its working directory and with these variables on
        all nodes; returns its output. Raises AssertionError if it fails, or TimeoutExpired."""
        with self.tunnel(DASHBOARD_PORT) as port:
            where = ("--address", f"http://127.0.0.1:{port}", "--working-dir", str(folder))
            variables = json.dumps({"env_vars": dict(environment or {})})
            command = (
                "ray", "job", "submit", *where, "--runtime-env-json", variables, "--", *entrypoint,
            )  # fmt: skip
            return self.run(*command, timeout_seconds=timeout_seconds)

    @contextmanager
    def database(self) -> Iterator["psycopg.Connection[Any]"]:
        """A connection to MLflow's database, through a tunnel to the head."""
        secrets = json.loads(self.hosts.head.run("cat ~/.iresnet-study/secrets.json").stdout)
        with self.tunnel(DATABASE_PORT) as port, psycopg.connect(
            host="127.0.0.1", port=port, user="mlflow", password=secrets["database_password"],
            dbname="mlflow", autocommit=True,
        ) as connection:  # fmt: skip
            yield connection

    def on_head(self, command: str, exit_code: int = 0) -> str:
        """Run a command of `study.head`; returns stdout and stderr."""
        script = f"cd ~/iresnet-study && python -m study.head {command}"
        done = self.hosts.head.run(script, check=False)
        assert done.returncode == exit_code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def start_services(self, options: str = "", exit_code: int = 0) -> str:
        """Start MLflow and PostgreSQL on the head as cluster.yaml does; returns the output."""
        storage = '--storage-path "$(cat ~/.iresnet-study/storage)"'
        return self.on_head(f"start {storage} {options}", exit_code)

    def secrets(self) -> Mapping[str, str]:
        """Environment variables of a driver on the head."""
        lines = self.hosts.head.run("cat ~/.iresnet-study/environment").stdout.splitlines()
        return dict(line.removeprefix("export ").split("=", 1) for line in lines)


@contextmanager
def cluster(hosts: Hosts, folder: Path) -> Iterator[Cluster]:
    """Start a cluster on idle hosts, with which it ends; on exit, delete what it left on this
    machine. `folder` is the home of its user and must be empty."""
    name = f"iresnet-{os.getpid()}"
    config = folder / "derived.yaml"
    config.write_text(yaml.safe_dump(derive(hosts, name), sort_keys=False))
    made = Cluster(hosts, name, folder, config)
    with user.ssh_forgotten(name):
        made.run("bash", "-c", "umask 077; ray get-auth-token --generate")
        made.up()
        yield made


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
