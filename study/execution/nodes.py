"""Whether every node of a cluster has and reaches what a trial needs, before the first trial."""

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.config.trial import TrialConfig
from study.errors import GpuError, GpuMemoryError, LaunchError, UserError
from study.execution import storage
from study.trial import gpu
from study.trial.check import check

# For all nodes to answer, and to fetch the data, seconds.
_NODE_SECONDS = 600.0


def check_gpus(nodes: Sequence[Mapping[str, Any]]) -> None:
    """Whether CUDA works on every node that offers GPUs, this machine included.

    Args:
        nodes: as `ray.nodes` describes them.

    Raises:
        LaunchError: names each node where it does not.
    """
    _ask([n for n in nodes if n["Resources"].get("GPU", 0) > 0], _gpu_problem_here)


def check_nodes(nodes: Sequence[Mapping[str, Any]], folder: str, trial: TrialConfig) -> None:
    """Whether every node reaches the storage, and the data, which is fetched if the study says so.

    Only the driver calls MLflow, and it has read from there by now.

    Args:
        nodes: as `ray.nodes` describes them.
        folder: for studies; it is made where it is not there.
        trial: one of the study, for its data.

    Raises:
        LaunchError: names each node that does not.
    """
    storage.make_folder(folder)
    files, path = storage.filesystem(folder)
    probe = f"probe-{secrets.token_hex(8)}"
    with files.open_output_stream(f"{path}/{probe}") as stream:
        stream.write(b"probe")
    try:
        _ask(nodes, _problem_here, folder, probe, trial)
    finally:
        files.delete_file(f"{path}/{probe}")


def _ask(nodes: Sequence[Mapping[str, Any]], task: Any, *arguments: object) -> None:
    """Run a task on each node; raise LaunchError if one answers with a problem, or not at all."""
    answers = {
        node["NodeManagerAddress"]: task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(*arguments)
        for node in nodes
    }
    until, problems = time.monotonic() + _NODE_SECONDS, []
    for address, answer in answers.items():
        try:
            problem = ray.get(answer, timeout=max(0.0, until - time.monotonic()))
        except GetTimeoutError:
            problem = f"it must answer within {_NODE_SECONDS:g} s, but does not"
        except RayError as error:
            problem = f"it must run a task, but: {' '.join(str(error).split())[-300:]}"
        if problem is not None:
            problems.append(f"node {address}: {problem}")
    if problems:
        raise LaunchError("; ".join(problems))


# It takes none of the GPUs, which others may use; Ray would hide them from it then. Its worker ends
# with it, and with that what CUDA holds on every GPU.
@ray.remote(
    num_cpus=0,
    max_retries=0,
    max_calls=1,
    runtime_env={"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}},
)
def _gpu_problem_here() -> str | None:
    """Why CUDA does not work on this node; None if it does."""
    try:
        gpu.check_gpus()
    except (GpuError, GpuMemoryError) as error:
        return f"resources.gpus: {error}"
    return None


@ray.remote(num_cpus=0, max_retries=0)
def _problem_here(folder: str, probe: str, trial: TrialConfig) -> str | None:
    """What this node does not reach; None if it reaches all that a trial needs."""
    try:
        files, path = storage.filesystem(folder)
        with files.open_input_stream(f"{path}/{probe}") as file:
            file.readall()
        own = f"{path}/{probe}-{secrets.token_hex(4)}"
        with files.open_output_stream(own) as stream:
            stream.write(b"probe")
        files.delete_file(own)
    except (OSError, UserError) as error:
        return f"every node must see the same storage, {folder}, but: {error}"
    try:
        check(trial)
    except UserError as error:
        return str(error)
    return None
