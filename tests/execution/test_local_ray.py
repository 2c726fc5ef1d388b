"""Ray that a study starts on this host is its driver's alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray
from ray._private import services

from study.execution.driver.local_ray import local_ray
from tests.support.launched import ROOT

# Start Ray as a study does, and print: where its processes listen; where a token stands; and with
# which of three tokens the GCS answers, of which one is written by the user meanwhile. At last, the
# token with which this process would join a cluster.
STUDY = """
import json, os
from pathlib import Path

import grpc, ray
from ray._raylet import AuthenticationTokenLoader
from ray.util import get_node_ip_address

from study.execution.driver.starting import connected
from tests.support.drivers import driver
from study.execution.driver.local_ray import local_ray
from tests.support.launched import descendants
from tests.support.studies import tiny

CALL = "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"
loader = AuthenticationTokenLoader.instance()
file = Path.home() / ".ray" / "auth_token"

def listening(pid):
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(link))
        except FileNotFoundError:
            continue
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in inodes:
                yield local.partition(":")[0]

def answers(token):
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(ray.get_runtime_context().gcs_address) as channel:
        try:
            channel.unary_unary(CALL)(b"", metadata=metadata, timeout=10)
        except grpc.RpcError as error:
            return error.code().name
    return "OK"

said = {}
with connected(driver("nowhere"), tiny()):
    said["addresses"] = sorted({at for pid in descendants(os.getpid()) for at in listening(pid)})
    said["written"] = [str(path) for path in Path.home().rglob("*auth_token*")]
    file.parent.mkdir(exist_ok=True)
    file.write_text("f" * 64)
    own = loader.get_raw_token(ignore_auth_mode=True)
    said["answers"] = [answers(token) for token in (None, "f" * 64, own)]
    on_lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in descendants(os.getpid())]
    said["on a command line"] = [line for line in on_lines if own in line]
said["afterwards"] = loader.get_raw_token(ignore_auth_mode=True)
said["mode"] = os.environ.get("RAY_AUTH_MODE")
print(json.dumps(said))
"""
# In /proc/net: 127.0.0.1, as such and mapped into IPv6.
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="on Linux alone")
def test_it_listens_on_loopback_alone_and_has_a_token_of_its_own_that_is_in_no_file(
    tmp_path: Path,
) -> None:
    unset = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE")
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-c", STUDY],
        env={**inherited, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["addresses"]
    assert set(said["addresses"]) <= LOOPBACK
    assert said["written"] == said["on a command line"] == []
    assert said["answers"] == ["UNAUTHENTICATED", "UNAUTHENTICATED", "OK"]
    # What the process joins later is the user's cluster.
    assert said["afterwards"] == "f" * 64
    assert said["mode"] is None


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="on Linux alone")
@pytest.mark.parametrize(("usage", "is_reported"), [("0", False), ("1", True)])
def test_only_what_is_started_with_it_has_a_group_of_its_own_and_reports_no_usage(
    usage: str, is_reported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal for the group of the driver must not end what Ray started."""
    groups, reports = list[int](), list[str]()

    def init(**_: object) -> None:
        started = services.start_ray_process(["sleep", "60"], "gcs_server", fate_share=True)
        groups.append(os.getpgid(started.process.pid))
        started.process.kill()
        started.process.wait()
        services.start_api_server(f"start {len(groups)}")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(services, "start_api_server", reports.append)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", usage)
    with local_ray("local"):
        init()  # somebody else's, later
    assert groups[0] != groups[1] == os.getpgrp()
    assert reports == ["start 1"] * is_reported + ["start 2"]
