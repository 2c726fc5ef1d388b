import json
import sys
from pathlib import Path

import pytest
import ray
from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient
from ray.core.generated.common_pb2 import JobConfig as JobMessage

from study.errors import LaunchError
from study.execution.driver import nodes as of_nodes
from study.execution.driver import starting
from study.execution.driver.starting import connected
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
    monkeypatch: pytest.MonkeyPatch, *has: dict[str, float], is_local: bool, cpus: float
) -> tuple[int, list[str]]:
    """How many trials may run at a time on these nodes, and what is said of that."""
    said: list[str] = []
    monkeypatch.setattr(starting, "_connect", lambda *_: is_local)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": of} for of in has])
    study = tiny(resources={"cpus": cpus}, search={"n_trials": 5})
    with connected(driver(Path("/x"), said=said), study) as n_at_once:
        pass
    return n_at_once, said


def test_as_many_trials_run_at_a_time_as_fit(
    monkeypatch: pytest.MonkeyPatch, left: list[bool]
) -> None:
    assert start(monkeypatch, {"CPU": 4}, is_local=True, cpus=2.0) == (
        2, ["tiny: 5 trials of 3 epochs on digits, 2 at a time (4 CPUs, 0 GPUs)"],
    )  # fmt: skip
    with pytest.raises(LaunchError, match=r"^resources.cpus: .* the 2 CPUs of .* but got 3$"):
        start(monkeypatch, {"CPU": 2}, is_local=True, cpus=3.0)
    assert left == [True, True]


def test_a_trial_needs_all_of_its_resources_on_one_node() -> None:
    has = ({"CPU": 3}, {"CPU": 3}, {"CPU": 1, "GPU": 2}, {"GPU": 1}, {})

    def n_fit(cpus: float, gpus: float) -> int:
        return sum(starting._n_fit(of_node, {"CPU": cpus, "GPU": gpus}) for of_node in has)

    assert (n_fit(2, 0), n_fit(1, 0), n_fit(1, 1), n_fit(0, 0.5), n_fit(0.5, 0.25)) == (
        2, 7, 1, 6, 2,
    )  # fmt: skip
    # A trial has its part of one GPU.
    per_gpu = {0.3: 3, 0.4: 2, 0.6: 1, 0.7: 1, 0.1: 10, 0.3333: 3, 1: 1}
    for part, n in per_gpu.items():
        assert n_fit(0, part) == 3 * n, part


def test_a_cluster_is_waited_for_that_grows_as_far_as_ray_up_lets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: list[bool]
) -> None:
    path = tmp_path / "ray_bootstrap_config.yaml"  # as `ray up` leaves it on the head
    monkeypatch.setattr(starting, "_BOOTSTRAP_CONFIG", path)
    n_at_once, said = start(monkeypatch, {}, {"CPU": 2}, is_local=False, cpus=4.0)
    assert n_at_once == 1
    waits = "no node has 4 CPU for a trial now: the trials wait for one that has"
    assert said[1:] == [waits]
    types = {
        "head": {"resources": {"CPU": 2}, "max_workers": 0},
        "worker": {"resources": {"CPU": 4, "memory": 9e9}, "max_workers": 8},
        "large": {"resources": {"CPU": 8}, "max_workers": 1},
    }
    config = {"max_workers": 3, "head_node_type": "head", "available_node_types": types}
    path.write_text(json.dumps(config))
    n_at_once, said = start(monkeypatch, {}, {"CPU": 2}, is_local=False, cpus=4.0)
    assert n_at_once == 2 + 2
    assert said == [
        "tiny: 5 trials of 3 epochs on digits, 0 at a time, 4 once the cluster has grown "
        "(2 CPUs, 0 GPUs on 2 nodes)",
        waits,
    ]
    assert start(monkeypatch, *4 * [{"CPU": 4.0}], is_local=False, cpus=4.0)[0] == 4  # it is full


def test_a_raycluster_of_kuberay_is_waited_for_as_far_as_it_may_grow(
    monkeypatch: pytest.MonkeyPatch, left: list[bool]
) -> None:
    monkeypatch.setenv("RAY_CLUSTER_NAME", "mine")  # as KubeRay sets it in every container
    monkeypatch.setenv("RAY_CLUSTER_NAMESPACE", "default")
    asked: list[str] = []
    group = {"resources": {"limits": {"cpu": "4", "memory": "8Gi"}}}
    template = {"spec": {"containers": [group]}}
    worker = {"groupName": "worker", "minReplicas": 0, "maxReplicas": 3, "template": template}
    head = {"rayStartParams": {"num-cpus": "0"}, "template": template}
    cluster = {
        "metadata": {"name": "mine", "namespace": "default"},
        "spec": {"headGroupSpec": head, "workerGroupSpecs": [worker]},
    }

    def get(client: object, path: str) -> dict[str, object]:
        asked.append(path)
        return cluster

    monkeypatch.setattr(KubernetesHttpApiClient, "get", get)
    assert start(monkeypatch, {}, is_local=False, cpus=2.0)[0] == 1
    assert not asked  # it does not grow
    monkeypatch.setenv("RAY_enable_autoscaler_v2", "true")  # as on the head of one that does
    n_at_once, said = start(monkeypatch, {}, is_local=False, cpus=2.0)
    assert (n_at_once, asked) == (3 * 2, ["rayclusters/mine"])
    assert "0 at a time, 5 once the cluster has grown" in said[0]
    assert start(monkeypatch, {}, {"CPU": 4}, is_local=False, cpus=2.0)[0] == 3 * 2


def test_a_raycluster_that_cannot_be_read_is_taken_not_to_grow(
    monkeypatch: pytest.MonkeyPatch, left: list[bool]
) -> None:
    for name in ("RAY_CLUSTER_NAME", "RAY_CLUSTER_NAMESPACE"):
        monkeypatch.setenv(name, "mine")
    monkeypatch.setenv("RAY_enable_autoscaler_v2", "true")
    # No token of a service account is here.
    n_at_once, said = start(monkeypatch, {"CPU": 4}, is_local=False, cpus=2.0)
    assert n_at_once == 2
    assert said[0].startswith("the RayCluster cannot be read, so it is taken not to grow: ")


def test_the_state_of_a_large_study_is_written_less_often() -> None:
    seconds = [starting.state_seconds(n) for n in (1, 250, 1_000, 10_000)]
    assert seconds == [5, 5, 20, 30]


@pytest.mark.parametrize("first", ["", None])
def test_workers_look_for_modules_where_the_driver_does(
    first: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*([] if first is None else [first]), "/library"])
    job = starting._Job()
    # As Ray does for every driver.
    job._py_driver_sys_path.extend(["/library", str(tmp_path)])
    message = JobMessage.FromString(job._serialize())
    own = [] if first is None else [str(tmp_path)]
    assert list(message.py_driver_sys_path) == ["/library", *own]
