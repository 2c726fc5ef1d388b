"""Ray for a study: reached or started, and found to have what a trial needs."""

import ray

from study.config.study import StudyConfig
from study.errors import LaunchError, count_of
from study.execution import cluster, nodes
from study.execution.cluster import Cluster
from study.execution.driver import Driver
from study.execution.preflight import longest_trial


def start_ray(driver: Driver, study: StudyConfig) -> int:
    """Connect to the cluster, or start Ray here, and say what the study has there.

    Returns:
        How many trials may run at a time once the cluster has grown.

    Raises:
        LaunchError: if this machine, or a node, lacks what a trial needs; Ray is left again then.
    """
    n_trials = study.n_trainings
    of_ray = cluster.connect(driver.address, n_trials)
    wanted = {"CPU": study.resources.cpus, "GPU": study.resources.gpus}
    try:
        if of_ray.is_local:
            _check_fits(of_ray, wanted)
        if study.resources.gpus > 0:
            nodes.check_gpus(of_ray)
        nodes.check_nodes(of_ray, driver.storage_path, longest_trial(study))
    except LaunchError:
        ray.shutdown()
        raise
    have, n_at_once = of_ray.resources(), of_ray.n_at_once(wanted)
    on = "" if of_ray.is_local else f" on {len(of_ray.nodes)} nodes"
    driver.say(
        f"{study.name}: {count_of(n_trials, 'trial')} of "
        f"{count_of(study.training.max_epochs, 'epoch')} on {study.data.name}, "
        f"{min(n_at_once, n_trials)} at a time "
        f"({have['CPU']:g} CPUs, {have['GPU']:g} GPUs{on})"
    )
    if n_at_once < n_trials:
        for node_type in of_ray.growth:
            driver.say(f"the cluster can add {node_type}")
    if n_at_once == 0:
        each = ", ".join(f"{amount:g} {kind}" for kind, amount in wanted.items() if amount)
        driver.say(f"no node has {each} for a trial now: the trials wait for one that has")
    return max(1, of_ray.n_at_most(wanted))


def _check_fits(machine: Cluster, wanted: dict[str, float]) -> None:
    have = machine.resources()
    for kind, amount in wanted.items():
        if amount > have[kind]:
            raise LaunchError(
                f"a trial must fit the machine, but got {amount:g} of {have[kind]:g}",
                f"resources.{kind.lower()}s",
            )
