"""Faults of a cluster, and how to repair them."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.cluster.cluster import Cluster
from tests.cluster.hosts import Host

_START_WORKER = (
    "unset OMP_NUM_THREADS; "
    "ray start --address={head}:6379 --object-manager-port=8076 --num-cpus=1 --num-gpus=0"
)
# Time for every worker to come back after a fault.
_BACK_SECONDS = 240


@dataclass(frozen=True)
class Fault:
    """`strike` returns what was done, in a few words; None if there was no target any more. If
    `ends_driver`, the study must be resumed."""

    strike: Callable[[Cluster, random.Random], str | None]
    ends_driver: bool = False


def _kill_trial(cluster: Cluster, rng: random.Random) -> str | None:
    for host in rng.sample(cluster.hosts.workers, 2):
        if host.kill("ray::", "Trainable"):
            return f"a trial on {host.name} killed"
    return None


def _kill_raylet(cluster: Cluster, rng: random.Random) -> str | None:
    host = rng.choice(cluster.hosts.workers)
    if not host.kill("/raylet/raylet"):
        return None
    time.sleep(rng.uniform(0, 10))  # how long the node is gone
    return f"the raylet of {host.name} killed"


def _kill_driver(cluster: Cluster, rng: random.Random) -> str | None:
    return "the driver killed" if cluster.hosts.head.kill("study.launch") else None


def _kill_mlflow(cluster: Cluster, rng: random.Random) -> str | None:
    head = cluster.hosts.head
    # Both, since the server's workers outlive it.
    hit = [*head.kill("mlflow", "server"), *head.kill("uvicorn", "mlflow")]
    return f"MLflow killed, {_away(cluster, rng)}" if hit else None


def _kill_postgres(cluster: Cluster, rng: random.Random) -> str | None:
    hit = cluster.hosts.head.kill("postgres")
    return f"PostgreSQL killed, {_away(cluster, rng)}" if hit else None


def _away(cluster: Cluster, rng: random.Random) -> str:
    """Restart the services after a while; returns for how long they were away, in words."""
    seconds = rng.uniform(1, 20)
    time.sleep(seconds)  # how long the service is away
    cluster.start_services()
    return f"and away for {seconds:.0f} s"


def _cut_off(cluster: Cluster, rng: random.Random) -> str | None:
    host = rng.choice(cluster.hosts.workers)
    # Ray gives a node up after about half a minute; test shorter and longer cuts.
    seconds = rng.choice((rng.uniform(1, 10), rng.uniform(35, 45)))
    host.cut_off()
    time.sleep(seconds)  # how long it is cut off
    host.heal()
    return f"{host.name} cut off for {seconds:.0f} s"


def _fill_disk(cluster: Cluster, rng: random.Random) -> str | None:
    deadline = time.monotonic() + 120
    while any("study.launch" in line for line in cluster.hosts.head.processes().values()):
        # Repeatedly, since deleted checkpoints free space.
        cluster.hosts.fill_bucket()
        if time.monotonic() > deadline:
            cluster.hosts.free_bucket()
            return None  # it had nothing left to write
        time.sleep(0.2)  # until the study has stopped
    cluster.hosts.free_bucket()
    return "the storage full until the study stopped"


def _tear_state(cluster: Cluster, rng: random.Random) -> str | None:
    if not cluster.hosts.head.kill("study.launch"):
        return None
    time.sleep(1)  # for Ray to finish writing
    (folder,) = (cluster.hosts.bucket / "studies").glob("current*")
    newest = max(path.stem for path in folder.glob("experiment_state-*.json"))
    session = newest.removeprefix("experiment_state-")
    torn = rng.sample([*sorted(folder.glob(f"[!.]*-{session}.*")), folder / "tuner.pkl"], 1)
    if rng.random() < 0.5:
        torn += rng.sample(sorted(folder.glob("snapshots/*.zip")), 1)
    for path in torn:
        content = path.read_bytes()
        # May be empty already, if Tune was writing it.
        path.write_bytes(content[: rng.randrange(max(1, len(content)))])
    return f"the driver killed, {' and '.join(path.name for path in torn)} torn"


FAULTS = {
    "trial": Fault(_kill_trial),
    "raylet": Fault(_kill_raylet),
    "driver": Fault(_kill_driver, ends_driver=True),
    "MLflow": Fault(_kill_mlflow),
    "PostgreSQL": Fault(_kill_postgres),
    "cut off": Fault(_cut_off),
    "disk": Fault(_fill_disk, ends_driver=True),
    "torn state": Fault(_tear_state, ends_driver=True),
}


def make_good(cluster: Cluster) -> None:
    """Restart everything that a fault may have ended, except the study."""
    cluster.hosts.free_bucket()
    cluster.start_services()
    deadline = time.monotonic() + _BACK_SECONDS
    while not cluster.have_joined():
        assert time.monotonic() < deadline, cluster.monitor_log()
        for host in cluster.hosts.workers:
            if not _runs_ray(host):
                # Fails with its ports taken if the autoscaler is faster.
                host.run(_START_WORKER.format(head=cluster.hosts.head.address), check=False)
        time.sleep(5)  # between checks of the cluster


def _runs_ray(host: Host) -> bool:
    return any("/raylet/raylet" in line for line in host.processes().values())
