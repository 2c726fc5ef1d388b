"""Ray for a study: a cluster that runs already, or one started here; it has what a trial needs."""

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray._private import services

import models
import study
from study.config.study import StudyConfig
from study.errors import LaunchError, count_of
from study.execution import nodes
from study.execution.driver import Driver
from study.execution.preflight import longest_trial

# Ray reads them from the environment. Each has a default that is wrong here; a user's own setting
# is kept.
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
# Tune writes the state of all trials each time, and a large study would do little else. Seconds
# between two times: for each trial that there may be, at least, and at most.
_STATE_SECONDS = "TUNE_GLOBAL_CHECKPOINT_S"
_OWN_STATE_SECONDS = os.environ.get(_STATE_SECONDS)
_SECONDS_A_TRIAL, _LEAST_SECONDS, _MOST_SECONDS = 0.02, 5.0, 30.0
# Ray counts resources in parts of so many.
_UNITS = 10_000
# The resources that a trial asks for.
_KINDS = ("CPU", "GPU")
# Ray sets it in the drivers of submitted jobs, whose code is shipped already.
_OF_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
# `ray up` leaves it on the head, as JSON: what the cluster can grow to.
_BOOTSTRAP_CONFIG = Path("~/ray_bootstrap_config.yaml")


@dataclass(frozen=True)
class Cluster:
    """The nodes of a cluster, and what may be added to them.

    Attributes:
        is_local: whether Ray was started here, so that no node can join.
        nodes: a description of each that is alive, as `ray.nodes` gives it.
        growth: what `ray up` may add: how many nodes, and the resources of each.
    """

    is_local: bool
    nodes: Sequence[Mapping[str, Any]]
    growth: Sequence[tuple[int, Mapping[str, float]]] = ()

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
        more = (n_nodes * _n_fit(resources, wanted) for n_nodes, resources in self.growth)
        return self.n_at_once(wanted) + sum(more)


def _n_fit(resources: Mapping[str, float], wanted: Mapping[str, float]) -> int:
    """How many fit on one node, in whole units of Ray."""
    n_fit = []
    for kind, amount in wanted.items():
        if amount > 0:
            has, units = round(resources.get(kind, 0) * _UNITS), round(amount * _UNITS)
            # A trial has its part of one GPU, not of two.
            n_fit.append(has // _UNITS * (_UNITS // units) if kind == "GPU" else has // units)
    return min(n_fit)


@contextmanager
def connected(driver: Driver, study: StudyConfig) -> Iterator[int]:
    """Ray, reached or started, and left again afterwards; what the study has there is said.

    Yields:
        How many trials may run at a time once the cluster has grown.

    Raises:
        LaunchError: if this machine, or a node, lacks what a trial needs.
    """
    n_trials = study.n_trainings
    cluster = _connect(driver.address, n_trials)
    try:
        wanted = {"CPU": study.resources.cpus, "GPU": study.resources.gpus}
        if study.resources.gpus > 0:
            nodes.check_gpus(cluster.nodes)
        if cluster.is_local:
            _check_fits(cluster, wanted)
        else:
            nodes.check_nodes(cluster.nodes, driver.storage_path, longest_trial(study))
        have = cluster.resources()
        n_at_once, n_at_most = cluster.n_at_once(wanted), cluster.n_at_most(wanted)
        grown = f", {min(n_at_most, n_trials)} once the cluster has grown"
        on = "" if cluster.is_local else f" on {len(cluster.nodes)} nodes"
        driver.say(
            f"{study.name}: {count_of(n_trials, 'trial')} of "
            f"{count_of(study.training.max_epochs, 'epoch')} on {study.data.name}, "
            f"{min(n_at_once, n_trials)} at a time{grown if n_at_once < n_at_most else ''} "
            f"({have['CPU']:g} CPUs, {have['GPU']:g} GPUs{on})"
        )
        if n_at_once == 0:
            each = ", ".join(f"{amount:g} {kind}" for kind, amount in wanted.items() if amount)
            driver.say(f"no node has {each} for a trial now: the trials wait for one that has")
        yield max(1, n_at_most)
    finally:
        ray.shutdown()


def _check_fits(machine: Cluster, wanted: Mapping[str, float]) -> None:
    have = machine.resources()
    for kind, amount in wanted.items():
        if amount > have[kind]:
            raise LaunchError(
                f"a trial must fit the machine, but got {amount:g} of {have[kind]:g}",
                f"resources.{kind.lower()}s",
            )


def _connect(address: str | None, n_trials: int) -> Cluster:
    """Connect to the cluster, or start Ray here; the code of this project goes with it.

    Args:
        n_trials: of the study, at most.

    Raises:
        LaunchError: if it cannot be reached.
    """
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    # Anew for each study that this process runs.
    os.environ[_STATE_SECONDS] = _OWN_STATE_SECONDS or f"{state_seconds(n_trials):g}"
    try:
        is_local = _join_or_start(address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise LaunchError(f"Ray must be reachable, but: {text}", "address") from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    # Tracebacks of lost workers; study.execution.failures says in a line what was lost.
    logging.getLogger("ray.tune.execution.tune_controller").setLevel(logging.CRITICAL)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return Cluster(is_local, nodes, () if is_local else _growth(nodes))


def state_seconds(n_trials: int) -> float:
    """How often Tune writes its state of a study of so many trials: seconds between two times."""
    return min(_MOST_SECONDS, max(_LEAST_SECONDS, _SECONDS_A_TRIAL * n_trials))


def _growth(nodes: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, float]]]:
    """What may still be added to these nodes. Only the head of `ray up` has the file."""
    path = _BOOTSTRAP_CONFIG.expanduser()
    if not path.exists():
        return []
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise LaunchError(
            f"{path}: it must be the JSON that `ray up` leaves there, but: {error}"
        ) from error
    n_left = config["max_workers"] - (len(nodes) - 1)
    return [
        (min(n_left, of.get("max_workers", 0)), of.get("resources", {}))
        for name, of in config["available_node_types"].items()
        if name != config["head_node_type"] and n_left > 0
    ]


@contextmanager
def _groups_of_their_own() -> Iterator[None]:
    """The processes that Ray starts get process groups of their own. A signal for the group of this
    one, such as `timeout` sends, would end them while the study still finishes its epochs.

    On Linux alone, where they end with this process in any case."""
    popen = services.ConsolePopen
    if sys.platform == "linux":
        services.ConsolePopen = partial(popen, process_group=0)  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        services.ConsolePopen = popen  # type: ignore[misc]


def _join_or_start(address: str | None) -> bool:
    """Connect to Ray; True if it was started here, so that no node can join."""
    quiet: dict[str, Any] = {
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    if address in (None, "local"):
        try:
            # With resources of its own Ray starts here, or refuses, if it finds a cluster.
            with _groups_of_their_own():
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
