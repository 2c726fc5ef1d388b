"""Check before the first trial that every node has and reaches what a trial needs."""

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.config.trial import TrialConfig
from study.errors import GpuError, GpuMemoryError, LaunchError, UserError
from study.execution.files import storage
from study.trial import device
from study.trial.check import check

# Time for all nodes to answer, fetching the data included.
_NODE_SECONDS = 600.0


def check_gpus(nodes: Sequence[Mapping[str, Any]]) -> None:
    """Raise LaunchError naming each node that offers GPUs, this machine included, but has no
    working CUDA; `nodes` is as returned by `ray.nodes`."""
    _ask([n for n in nodes if n["Resources"].get("GPU", 0) > 0], _gpu_problem_here)


def check_nodes(nodes: Sequence[Mapping[str, Any]], folder: str, trial: TrialConfig) -> None:
    """Raise LaunchError naming each node that does not reach the storage or the data, which is
    downloaded if the study says so. MLflow is left out: only the driver calls it, and already has.

    Args:
        nodes: as returned by `ray.nodes`.
        folder: the storage of all studies; created if missing.
        trial: any trial of the study, for its data.
    """
    storage.make_folder(folder)
    files, path = storage.filesystem(folder)
    probe = _probe()
    with files.open_output_stream(f"{path}/{probe}") as stream:
        stream.write(b"probe")
    try:
        _ask(nodes, _problem_here, folder, probe, trial)
    finally:
        files.delete_file(f"{path}/{probe}")


def _ask(nodes: Sequence[Mapping[str, Any]], task: Any, *arguments: object) -> None:
    """Run a task on each node. Raises LaunchError if any returns a problem or does not answer."""
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


def _probe() -> str:
    """A new name for a file that tries whether the storage can be written. The policy for workers
    on AWS permits this ending, besides checkpoints."""
    return f"{secrets.token_hex(8)}.probe"


# The task reserves no GPU, since all may be in use; the variable keeps Ray from hiding them then.
# max_calls=1 ends its worker, which frees the memory that CUDA holds on every GPU.
@ray.remote(
    num_cpus=0,
    max_retries=0,
    max_calls=1,
    runtime_env={"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}},
)
def _gpu_problem_here() -> str | None:
    try:
        device.check_gpus()
    except (GpuError, GpuMemoryError) as error:
        return f"resources.gpus: {error}"
    return None


@ray.remote(num_cpus=0, max_retries=0)
def _problem_here(folder: str, probe: str, trial: TrialConfig) -> str | None:
    try:
        files, path = storage.filesystem(folder)
        with files.open_input_stream(f"{path}/{probe}") as file:
            file.readall()
        own = f"{path}/{_probe()}"
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
