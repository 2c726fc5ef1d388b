"""Connect to a Ray cluster or start Ray here, and check that it has what a trial needs."""

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.job_config import JobConfig

import models
import study
from study.config.imports import to_ship
from study.config.study import StudyConfig
from study.errors import LaunchError, count_of, reason
from study.execution.driver import nodes
from study.execution.driver.environment import Driver
from study.execution.driver.local_ray import local_ray
from study.execution.driver.preflight import longest_trial
from study.metrics.rounding import radius_text

# Variables of Ray whose defaults are wrong here; the user's own settings are kept.
_ENVIRONMENT = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # A failed trial reports no metrics, not even the scheduler's.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # Else Tune's state repeats a trial's last results for every checkpoint that is kept.
    "TUNE_ONLY_STORE_CHECKPOINT_SCORE_ATTRIBUTE": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
# Tune's state holds all trials, so a large study that wrote it often would do little else. Seconds
# between two writes: for each possible trial, at least, and at most.
_STATE_SECONDS = "TUNE_GLOBAL_CHECKPOINT_S"
_OWN_STATE_SECONDS = os.environ.get(_STATE_SECONDS)
_SECONDS_A_TRIAL, _LEAST_SECONDS, _MOST_SECONDS = 0.02, 5.0, 30.0
# Ray counts resources in units of 1 / 10,000.
_UNITS = 10_000
# Ray's name of a resource, "CPU" or "GPU" -> amount.
Resources = Mapping[str, float]
# Variable that Ray sets in the drivers of submitted jobs, whose code has been shipped.
_OF_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
# `ray up` writes it on the head: JSON with the size that the cluster can grow to.
_BOOTSTRAP_CONFIG = Path("~/ray_bootstrap_config.yaml")
# Variable that KubeRay sets on the head of a RayCluster that grows; Kubernetes has its size.
_GROWS_IN_KUBERNETES = "RAY_enable_autoscaler_v2"


@contextmanager
def connected(driver: Driver, study: StudyConfig) -> Iterator[int]:
    """Connect to Ray or start it, tell the user how the study will run, and disconnect at the end.
    Yields the number of trials that can run in parallel once the cluster has grown.

    Raises:
        LaunchError: if Ray cannot be reached, or a node lacks what a trial needs.
    """
    with ExitStack() as stack:
        is_local = _connect(stack, driver.address, study)
        stack.callback(ray.shutdown)
        here = [node for node in ray.nodes() if node["Alive"]]
        if study.resources.gpus > 0:
            nodes.check_gpus(here)
        if not is_local:
            nodes.check_nodes(here, driver.storage_path, longest_trial(study))
        yield _n_at_most(driver, study, [node["Resources"] for node in here], is_local)


def _n_at_most(driver: Driver, study: StudyConfig, has: Sequence[Resources], is_local: bool) -> int:
    """Number of trials that can run in parallel once the cluster has grown; tells the user. `has`
    lists the resources of each node. If Ray `is_local`, no node can join."""
    wanted = {"CPU": study.resources.cpus, "GPU": study.resources.gpus}
    total = {kind: sum(of_node.get(kind, 0.0) for of_node in has) for kind in wanted}
    for kind, amount in wanted.items():
        if is_local and amount > total[kind]:
            raise LaunchError(
                f"must be at most the {total[kind]:g} {kind}s of this machine, but got {amount:g}",
                f"resources.{kind.lower()}s",
            )
    n_at_once = sum(_n_fit(of_node, wanted) for of_node in has)
    added = () if is_local else _growth(driver, len(has))
    n_at_most = n_at_once + sum(_n_fit(of_node, wanted) for of_node in added)
    n_trials = study.n_trainings
    grown = f", {min(n_at_most, n_trials)} once the cluster has grown"
    on = "" if is_local else f" on {len(has)} nodes"
    radius = study.evaluation.radius
    is_certified = any(study.known_metrics[o.metric].is_within_radius for o in study.objectives)
    certified = f", certified at radius {radius_text(radius)}" if is_certified and radius else ""
    driver.say(
        f"{study.name}: {count_of(n_trials, 'trial')} of "
        f"{count_of(study.training.max_epochs, 'epoch')} on {study.data.name}, "
        f"{min(n_at_once, n_trials)} at a time{grown if n_at_once < n_at_most else ''} "
        f"({total['CPU']:g} CPUs, {total['GPU']:g} GPUs{on}){certified}"
    )
    if n_at_once == 0:
        each = ", ".join(f"{amount:g} {kind}" for kind, amount in wanted.items() if amount)
        driver.say(f"no node has {each} for a trial now: the trials wait for one that has")
    return max(1, n_at_most)


def _n_fit(resources: Resources, wanted: Resources) -> int:
    """Number of trials, each with the resources `wanted`, that fit on one node."""
    n_fit = []
    for kind, amount in wanted.items():
        if amount > 0:
            has, units = round(resources.get(kind, 0) * _UNITS), round(amount * _UNITS)
            # A fraction of a GPU must be of one GPU, not spread over two.
            n_fit.append(has // _UNITS * (_UNITS // units) if kind == "GPU" else has // units)
    return min(n_fit)


def _connect(stack: ExitStack, address: str | None, study: StudyConfig) -> bool:
    """Set Ray's environment and connect; True if Ray was started here, which `stack` then undoes
    after `ray.shutdown`. Raises LaunchError if Ray cannot be reached."""
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    # Set anew for each study of this process.
    os.environ[_STATE_SECONDS] = _OWN_STATE_SECONDS or f"{state_seconds(study.n_trainings):g}"
    try:
        is_local = _join_or_start(stack, address, to_ship(path for _, path in study.import_paths))
    except (ConnectionError, RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise LaunchError(f"Ray must be reachable, but: {text}", "address") from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    # It logs tracebacks of lost workers; study.execution.callbacks.failures reports them in a line.
    logging.getLogger("ray.tune.execution.tune_controller").setLevel(logging.CRITICAL)
    return is_local


def state_seconds(n_trials: int) -> float:
    """Time in seconds between two writes of Tune's state, for a study of `n_trials` trials."""
    return min(_MOST_SECONDS, max(_LEAST_SECONDS, _SECONDS_A_TRIAL * n_trials))


def _growth(driver: Driver, n_nodes: int) -> list[Resources]:
    """Resources of each node that an autoscaler may still add; none without an autoscaler."""
    config = _config_of_the_autoscaler(driver)
    if config is None:
        return []
    n_left = config["max_workers"] - (n_nodes - 1)
    return [
        of.get("resources", {})
        for name, of in config["available_node_types"].items()
        if name != config["head_node_type"]
        for _ in range(min(n_left, of.get("max_workers", 0)))
    ]


def _config_of_the_autoscaler(driver: Driver) -> dict[str, Any] | None:
    """The autoscaler's config; None unless this is the head of a cluster of `ray up` or KubeRay."""
    path = _BOOTSTRAP_CONFIG.expanduser()
    if path.exists():
        try:
            config: dict[str, Any] = json.loads(path.read_text())
        except ValueError as error:
            raise LaunchError(
                f"{path}: it must be the JSON that `ray up` leaves there, but: {error}"
            ) from error
        return config
    if os.environ.get(_GROWS_IN_KUBERNETES) != "true":
        return None
    # Imported here, since no other cluster needs it.
    from ray.autoscaler._private.kuberay.autoscaling_config import AutoscalingConfigProducer

    try:
        names = os.environ["RAY_CLUSTER_NAME"], os.environ["RAY_CLUSTER_NAMESPACE"]
        config = AutoscalingConfigProducer(*names)()
    except (OSError, KeyError, ValueError) as error:
        driver.say(f"the RayCluster cannot be read, so it is taken not to grow: {reason(error)}")
        return None
    return config


class _Job(JobConfig):
    """A job whose workers search for modules only in folders that this process searches too: Ray
    would always put the working directory first on their path."""

    def _serialize(self) -> str:
        searched = {path or os.getcwd() for path in sys.path}
        self._py_driver_sys_path = [p for p in self._py_driver_sys_path if p in searched]
        return super()._serialize()


def _join_or_start(stack: ExitStack, address: str | None, own: Sequence[str]) -> bool:
    """Connect to Ray or start it here; True if it was started here, so that no node can join.

    Args:
        stack: undoes the start of Ray; to be closed after `ray.shutdown`.
        own: folders and files of the user's code, which every worker gets.
    """
    quiet: dict[str, Any] = {
        "include_dashboard": False,
        "job_config": _Job(),
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    if address in (None, "local"):
        here = {**quiet, "runtime_env": {"py_modules": list(own)}} if own else quiet
        try:
            stack.enter_context(local_ray(address, **here))
            return True
        except ValueError:
            pass
    if _OF_A_JOB not in os.environ:
        # The nodes run the code of this driver, whatever is installed there.
        packages = [str(Path(str(package.__file__)).parent) for package in (models, study)]
        quiet["runtime_env"] = {"py_modules": [*packages, *own]}
    ray.init(address=address, **quiet)
    return False
