"""The Ray cluster of a study: found or started here, and looked over before the first trial."""

import logging
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import yaml
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import models
import study
from study import storage, training
from study.errors import LaunchError, UserError
from study.trial_config import TrialConfig

# Each has a default that is wrong for us; a user's own setting is kept.
_ENVIRONMENT = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # A trial that failed reports no metrics, which a scheduler's metric is among.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # Else Tune's state of a trial has its last results once for each checkpoint that is kept.
    "TUNE_ONLY_STORE_CHECKPOINT_SCORE_ATTRIBUTE": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
# Tune writes the state of all trials each time, so that a large study would do little else: seconds
# between two times for each trial that there may be, the least and the most.
_STATE_SECONDS = "TUNE_GLOBAL_CHECKPOINT_S"
_SECONDS_A_TRIAL, _LEAST_SECONDS, _MOST_SECONDS = 0.02, 5.0, 30.0
# What a trial asks for, and what is told of a cluster.
_KINDS = ("CPU", "GPU")
# Ray sets it in the drivers of submitted jobs, whose code is shipped already.
_OF_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
# `ray up` leaves it on the head: what the cluster can grow to.
_BOOTSTRAP_CONFIG = Path("~/ray_bootstrap_config.yaml")
# For a node to answer, and to fetch the data, seconds.
_NODE_PATIENCE = 600.0


@dataclass(frozen=True)
class NodeType:
    """What an autoscaler may add: up to max_workers nodes with these resources each."""

    name: str
    max_workers: int
    resources: Mapping[str, float]

    def __str__(self) -> str:
        has = {kind: self.resources.get(kind, 0) for kind in _KINDS}
        each = ", ".join(f"{amount:g} {kind}" for kind, amount in has.items() if amount)
        return f"up to {self.max_workers} nodes of {self.name} ({each})"


@dataclass(frozen=True)
class Cluster:
    """is_local: whether Ray was started here, so that no node can join; nodes: a description of
    each that is alive, as `ray.nodes` gives it; growth: what `ray up` lets be added to them."""

    is_local: bool
    nodes: Sequence[Mapping[str, Any]]
    growth: Sequence[NodeType] = ()

    def resources(self) -> dict[str, float]:
        """CPUs and GPUs of all nodes."""
        return {
            kind: sum(node["Resources"].get(kind, 0.0) for node in self.nodes) for kind in _KINDS
        }

    def n_at_once(self, wanted: Mapping[str, float]) -> int:
        """How many trials fit now, each on one node.

        Args:
            wanted: amount of each resource for a trial, of which one is above 0.
        """
        return sum(_n_fit(node["Resources"], wanted) for node in self.nodes)

    def n_at_most(self, wanted: Mapping[str, float]) -> int:
        """How many fit once the cluster has grown as far as it may."""
        return self.n_at_once(wanted) + sum(
            of.max_workers * _n_fit(of.resources, wanted) for of in self.growth
        )


def _n_fit(resources: Mapping[str, float], wanted: Mapping[str, float]) -> int:
    return min(
        int(resources.get(kind, 0) / amount) for kind, amount in wanted.items() if amount > 0
    )


def connect(address: str | None, n_trials: int) -> Cluster:
    """Connect to the cluster, or start Ray here; the code of this project goes with it.

    Args:
        address: of Ray; None for RAY_ADDRESS, a cluster on this host, or a start here.
        n_trials: of the study, at most.

    Raises:
        LaunchError: if it cannot be reached.
    """
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    os.environ.setdefault(_STATE_SECONDS, f"{state_seconds(n_trials):g}")
    try:
        is_local = _connect(address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise LaunchError(f"--address: Ray must be reachable, but: {text}") from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    # Tracebacks of lost workers; study.failures says in a line what was lost and goes on.
    logging.getLogger("ray.tune.execution.tune_controller").setLevel(logging.CRITICAL)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return Cluster(is_local, nodes, () if is_local else _growth(nodes))


def state_seconds(n_trials: int) -> float:
    """How often Tune writes its state of a study of so many trials: seconds between two times."""
    return min(_MOST_SECONDS, max(_LEAST_SECONDS, _SECONDS_A_TRIAL * n_trials))


def _growth(nodes: Sequence[Mapping[str, Any]]) -> list[NodeType]:
    """What may still be added to these nodes; the file is there on the head of `ray up` alone."""
    path = _BOOTSTRAP_CONFIG.expanduser()
    if not path.exists():
        return []
    config = yaml.safe_load(path.read_text())
    n_left = config["max_workers"] - (len(nodes) - 1)
    found = []
    for name, of in config["available_node_types"].items():
        n_more = min(n_left, of.get("max_workers", 0))
        if name != config["head_node_type"] and n_more > 0:
            found.append(NodeType(name, n_more, of.get("resources", {})))
    return found


def _connect(address: str | None) -> bool:
    """Connect to Ray as --address says; True if it was started here, so that no node can join."""
    quiet: dict[str, Any] = {
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    if address == "local" or (address is None and not os.environ.get("RAY_ADDRESS")):
        try:
            # Ray starts with resources of ours, or refuses: a cluster that is there takes none.
            ray.init(address=address, resources={"started_by_study": 1}, **quiet)
            return True
        except ValueError:
            pass
    if _OF_A_JOB not in os.environ:
        # The nodes run the code that is launched, whatever is installed there.
        packages = [str(Path(str(package.__file__)).parent) for package in (models, study)]
        quiet["runtime_env"] = {"py_modules": packages}
    ray.init(address=address, **quiet)
    return False


def check_nodes(cluster: Cluster, folder: str, trial: TrialConfig) -> None:
    """Whether every node sees the storage, and the data, which is fetched where it may be.

    MLflow is spoken to by the driver alone, which has found the study's records there by now.

    Args:
        folder: for studies; it is made where it is not there.
        trial: one of the study, for its data.

    Raises:
        LaunchError: that names each node that does not.
    """
    if cluster.is_local:
        return
    storage.make_folder(folder)
    files, path = storage.filesystem(folder)
    mark = secrets.token_hex(8)
    with files.open_output_stream(f"{path}/{_probe(mark)}") as stream:
        stream.write(mark.encode())
    looks = {
        node["NodeManagerAddress"]: _look.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(folder, mark, trial)
        for node in cluster.nodes
    }
    problems = [
        f"node {address}: {problem}"
        for address, look in looks.items()
        if (problem := _answer(look)) is not None
    ]
    files.delete_file(f"{path}/{_probe(mark)}")
    if problems:
        raise LaunchError("; ".join(problems))


def _probe(mark: str) -> str:
    return f"probe-{mark}"


def _answer(look: Any) -> str | None:
    try:
        problem: str | None = ray.get(look, timeout=_NODE_PATIENCE)
    except GetTimeoutError:
        return f"it must answer within {_NODE_PATIENCE:g} s, but does not"
    except RayError as error:
        return f"it must run a task, but: {' '.join(str(error).split())[-300:]}"
    return problem


@ray.remote(num_cpus=0, max_retries=0)
def _look(folder: str, mark: str, trial: TrialConfig) -> str | None:
    """What this node cannot reach; None if it can reach all that a trial needs."""
    try:
        files, path = storage.filesystem(folder)
        with files.open_input_stream(f"{path}/{_probe(mark)}") as file:
            file.readall()
        own = f"{path}/{_probe(mark)}-{secrets.token_hex(4)}"
        with files.open_output_stream(own) as stream:
            stream.write(mark.encode())
        files.delete_file(own)
    except (OSError, UserError) as error:
        return f"--storage-path: every node must see the same {folder}, but: {error}"
    try:
        training.check(trial)
    except UserError as error:
        return f"data.root: {error}"
    return None
