"""The user of a cluster, on a machine outside it, with a home of their own."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path

from tests.cluster.derived import ROOT


def environment(home: Path) -> dict[str, str]:
    """Environment of the user's commands: Ray's token, and no variables of this process."""
    return {
        "HOME": str(home), "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}", "TERM": "dumb",
        "RAY_AUTH_MODE": "token",
        # Where `ray up` keeps its state of the cluster.
        "TMPDIR": str(home), "RAY_TMPDIR": str(home),
        # There is no way to the internet.
        "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip


def run(command: Sequence[str], environment: Mapping[str, str], timeout_seconds: float) -> str:
    """Run a command in the root of the project; returns stdout and stderr. Raises AssertionError if
    it fails, or TimeoutExpired."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
    return done.stdout


@contextmanager
def ssh_forgotten(cluster_name: str) -> Iterator[None]:
    """On exit, delete the folder of Ray's launcher for its SSH connections to a cluster, which lies
    here regardless of TMPDIR."""
    try:
        yield
    finally:
        names = (getuser(), cluster_name)
        user, of = (hashlib.sha256(name.encode()).hexdigest()[:10] for name in names)
        shutil.rmtree(f"/tmp/ray_ssh_{user}/{of}", ignore_errors=True)
