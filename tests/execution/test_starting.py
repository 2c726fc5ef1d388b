import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private import services

from study.errors import LaunchError
from study.execution import nodes as of_nodes
from study.execution import starting
from study.execution.starting import Cluster, connected
from tests.support.drivers import driver
from tests.support.studies import tiny


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Has an item for each time that Ray was left."""
    times: list[bool] = []
    monkeypatch.setattr(ray, "shutdown", lambda: times.append(True))
    monkeypatch.setattr(of_nodes, "check_nodes", lambda *_: None)
    return times


def start(
    monkeypatch: pytest.MonkeyPatch, found: Cluster, said: list[str], left: list[bool], cpus: float
) -> int:
    monkeypatch.setattr(starting, "_connect", lambda address, n_trials: found)
    study = tiny(resources={"cpus": cpus}, search={"n_trials": 5})
    with connected(driver(Path("/x"), said=said), study) as n_at_once:
        assert not left
    return n_at_once


def test_as_many_trials_run_at_a_time_as_fit(
    monkeypatch: pytest.MonkeyPatch, left: list[bool]
) -> None:
    said: list[str] = []
    assert start(monkeypatch, Cluster(True, nodes({"CPU": 4})), said, left, cpus=2.0) == 2
    assert said == ["tiny: 5 trials of 3 epochs on digits, 2 at a time (4 CPUs, 0 GPUs)"]
    with pytest.raises(LaunchError, match=r"^resources.cpus: .* but got 3 of 2$"):
        start(monkeypatch, Cluster(True, nodes({"CPU": 2})), said, left=[], cpus=3.0)
    assert left == [True, True]


def test_a_cluster_is_waited_for(monkeypatch: pytest.MonkeyPatch, left: list[bool]) -> None:
    said: list[str] = []
    found = Cluster(False, nodes({"CPU": 2}), [(3, {"CPU": 8.0})])
    assert start(monkeypatch, found, said, left, cpus=4.0) == 6
    assert said == [
        "tiny: 5 trials of 3 epochs on digits, 0 at a time, 5 once the cluster has grown "
        "(2 CPUs, 0 GPUs on 1 nodes)",
        "no node has 4 CPU for a trial now: the trials wait for one that has",
    ]


def nodes(*resources: dict[str, float]) -> list[dict[str, object]]:
    return [{"NodeID": str(n), "Resources": of} for n, of in enumerate(resources)]


def test_a_trial_needs_all_of_its_resources_on_one_node() -> None:
    found = Cluster(False, nodes({"CPU": 3}, {"CPU": 3}, {"CPU": 1, "GPU": 2}, {"GPU": 1}, {}))
    assert found.n_at_once({"CPU": 2, "GPU": 0}) == 2
    assert found.n_at_once({"CPU": 1, "GPU": 0}) == 7
    assert found.n_at_once({"CPU": 1, "GPU": 1}) == 1
    assert found.n_at_once({"CPU": 0, "GPU": 0.5}) == 6
    assert found.n_at_once({"CPU": 0.5, "GPU": 0.25}) == 2
    # A trial has its part of one GPU.
    per_gpu = {0.3: 3, 0.4: 2, 0.6: 1, 0.7: 1, 0.1: 10, 0.3333: 3, 1: 1}
    for part, n in per_gpu.items():
        assert found.n_at_once({"CPU": 0, "GPU": part}) == 3 * n, part
    assert found.resources() == {"CPU": 7, "GPU": 3}


def test_the_cluster_grows_as_far_as_ray_up_lets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ray_bootstrap_config.yaml"  # as `ray up` leaves it on the head
    monkeypatch.setattr(starting, "_BOOTSTRAP_CONFIG", path)
    assert starting._growth(nodes({"CPU": 4})) == []
    types: dict[str, Any] = {
        "head": {"resources": {"CPU": 2}, "max_workers": 0},
        "worker": {"resources": {"CPU": 4, "GPU": 1, "memory": 9e9}, "max_workers": 8},
        "large": {"resources": {"CPU": 64}, "max_workers": 2},
    }
    config = {"max_workers": 5, "head_node_type": "head", "available_node_types": types}
    path.write_text(json.dumps(config))
    head_and_one = nodes({}, {"CPU": 4, "GPU": 1})
    growth = starting._growth(head_and_one)
    assert growth == [(4, types["worker"]["resources"]), (2, types["large"]["resources"])]
    found = Cluster(False, head_and_one, growth)
    assert found.n_at_once({"CPU": 1, "GPU": 0.5}) == 2
    assert found.n_at_most({"CPU": 1, "GPU": 0.5}) == 2 + 4 * 2
    assert starting._growth([*head_and_one, *nodes({}, {}, {}, {})]) == []  # it is full


def test_the_state_of_a_large_study_is_written_less_often() -> None:
    seconds = [starting.state_seconds(n) for n in (1, 250, 1_000, 10_000)]
    assert seconds == [5, 5, 20, 30]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="on Linux alone")
def test_a_signal_for_the_group_of_the_driver_does_not_end_what_ray_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    groups = []

    def init(**_: object) -> None:
        started = services.start_ray_process(["sleep", "60"], "gcs_server", fate_share=True)
        groups.append(os.getpgid(started.process.pid))
        started.process.kill()
        started.process.wait()

    monkeypatch.setattr(ray, "init", init)
    assert starting._join_or_start("local")
    init()  # somebody else's, later
    assert groups[0] != groups[1] == os.getpgrp()
