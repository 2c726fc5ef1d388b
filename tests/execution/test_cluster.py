import json
import os
import sys
from pathlib import Path

import pytest
import ray
from ray._private import services

from study.execution import cluster
from study.execution.cluster import Cluster, NodeType


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


@pytest.fixture
def bootstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `ray up` leaves its configuration on the head."""
    path = tmp_path / "ray_bootstrap_config.yaml"
    monkeypatch.setattr(cluster, "_BOOTSTRAP_CONFIG", path)
    return path


def test_the_cluster_grows_as_far_as_ray_up_lets_it(bootstrap: Path) -> None:
    types = {
        "head": {"resources": {"CPU": 2}, "max_workers": 0},
        "worker": {"resources": {"CPU": 4, "GPU": 1, "memory": 9e9}, "max_workers": 8},
        "large": {"resources": {"CPU": 64}, "max_workers": 2},
    }
    config = {"max_workers": 5, "head_node_type": "head", "available_node_types": types}
    bootstrap.write_text(json.dumps(config))
    head_and_one = nodes({}, {"CPU": 4, "GPU": 1})
    growth = cluster._growth(head_and_one)
    assert [str(of) for of in growth] == [
        "up to 4 nodes of worker (4 CPU, 1 GPU)",
        "up to 2 nodes of large (64 CPU)",
    ]
    found = Cluster(False, head_and_one, growth)
    assert found.n_at_once({"CPU": 1, "GPU": 0.5}) == 2
    assert found.n_at_most({"CPU": 1, "GPU": 0.5}) == 2 + 4 * 2


def test_what_no_launcher_describes_does_not_grow(bootstrap: Path) -> None:
    assert cluster._growth(nodes({"CPU": 4})) == []
    assert Cluster(False, nodes({"CPU": 4})).n_at_most({"CPU": 1, "GPU": 0}) == 4


def test_a_full_cluster_does_not_grow(bootstrap: Path) -> None:
    types = {"head": {}, "worker": {"resources": {"CPU": 4}, "max_workers": 2}}
    config = {"max_workers": 2, "head_node_type": "head", "available_node_types": types}
    bootstrap.write_text(json.dumps(config))
    assert cluster._growth(nodes({}, {"CPU": 4}, {"CPU": 4})) == []
    assert cluster._growth(nodes({}, {"CPU": 4})) == [NodeType("worker", 1, {"CPU": 4})]


def test_the_state_of_a_large_study_is_written_less_often() -> None:
    seconds = [cluster.state_seconds(n) for n in (1, 250, 1_000, 10_000)]
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
    assert cluster._connect("local")
    init()  # somebody else's, later
    assert groups[0] != groups[1] == os.getpgrp()
