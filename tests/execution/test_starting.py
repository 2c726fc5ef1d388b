import re
from pathlib import Path
from typing import Any

import pytest
import ray

from study.errors import LaunchError
from study.execution import cluster, nodes
from study.execution.cluster import Cluster, NodeType
from study.execution.starting import start_ray
from tests.support.drivers import driver
from tests.support.studies import tiny


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Has an item for each time that Ray was left."""
    times: list[bool] = []
    monkeypatch.setattr(ray, "shutdown", lambda: times.append(True))
    monkeypatch.setattr(nodes, "check_nodes", lambda *_: None)
    monkeypatch.setattr(nodes, "check_gpus", lambda _: None)
    return times


def start(
    monkeypatch: pytest.MonkeyPatch,
    found: Cluster,
    said: list[str],
    **resources: Any,
) -> int:
    monkeypatch.setattr(cluster, "connect", lambda address, n_trials: found)
    return start_ray(
        driver(Path("/x"), said=said), tiny(resources=resources, search={"n_trials": 5})
    )


def machine(n_cpus: float, is_local: bool = True, *growth: NodeType) -> Cluster:
    return Cluster(is_local, [{"Resources": {"CPU": n_cpus}}], growth)


def test_as_many_trials_run_at_a_time_as_fit(
    monkeypatch: pytest.MonkeyPatch, left: list[bool]
) -> None:
    said: list[str] = []
    assert start(monkeypatch, machine(4.0), said, cpus=2.0) == 2
    (line,) = said
    assert re.fullmatch(
        r"tiny: 5 trials of 3 epochs on digits, 2 at a time \(4 CPUs, 0 GPUs\)", line
    )
    assert not left


def test_a_machine_that_has_not_what_a_trial_needs_is_refused_and_ray_is_left(
    monkeypatch: pytest.MonkeyPatch, left: list[bool]
) -> None:
    with pytest.raises(LaunchError, match=r"^resources.cpus: .* but got 3 of 2$"):
        start(monkeypatch, machine(2.0), [], cpus=3.0)
    assert left == [True]


def test_a_cluster_is_waited_for(monkeypatch: pytest.MonkeyPatch, left: list[bool]) -> None:
    said: list[str] = []
    grows = NodeType("worker", 3, {"CPU": 8.0})
    assert start(monkeypatch, machine(2.0, False, grows), said, cpus=4.0) == 6
    assert said[1:] == [
        "the cluster can add up to 3 nodes of worker (8 CPU)",
        "no node has 4 CPU for a trial now: the trials wait for one that has",
    ]
    assert not left
