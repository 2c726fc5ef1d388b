"""cluster.yaml for hosts without a cloud: what differs from the real one, and why."""

import sys
from pathlib import Path
from typing import Any

import yaml
from ray.autoscaler._private.aws.config import _create_default_inbound_rules

from tests.cluster.hosts import BUCKET, Hosts

ROOT = Path(__file__).parent.parent.parent
_VENV = "~/.iresnet-study/venv"


def real() -> dict[str, Any]:
    """cluster.yaml as it stands in the project."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    return config


def permissions() -> list[dict[str, Any]]:
    """What AWS is told to let in: the rules of cluster.yaml and those that Ray adds to them."""
    own = real()["provider"]["security_group"]["IpPermissions"]
    made: list[dict[str, Any]] = _create_default_inbound_rules({"sg-the-cluster"}, own)
    return made


def derive(hosts: Hosts, cluster_name: str) -> dict[str, Any]:
    """The configuration with which `ray up` makes a cluster of the hosts.

    File mounts, excluded files and every command that is not named here are those of the real one.
    """
    config = real()
    # Tests beside this one may have a cluster too.
    config["cluster_name"] = cluster_name
    # The hosts are there; nothing is launched, and there is no group that would guard them.
    config["provider"] = {
        "type": "local",
        "head_ip": hosts.head.address,
        "worker_ips": [worker.address for worker in hosts.workers],
    }
    # AWS makes a key pair; the hosts have one.
    config["auth"] = {"ssh_user": "root", "ssh_private_key": str(hosts.key)}
    # The provider `local` refuses types of machines.
    del config["available_node_types"], config["head_node_type"]
    config["max_workers"] = len(hosts.workers)
    # Hosts have no cloud-init.
    config["initialization_commands"] = []
    storage = config["metadata"]["storage"]
    _replace(config["setup_commands"], {
        # No packages can be fetched, and what Debian has is the machine's.
        "apt-get": None,
        # No index can be reached: in place of the locked versions, those that the tests run with.
        "-m venv": None,
        "uv venv": f"ln -sfn {sys.prefix} {_VENV}",
        "uv pip install": None,
    })  # fmt: skip
    _replace(config["head_setup_commands"], {
        # The shared folder stands for the bucket.
        storage: f"echo {BUCKET} > ~/.iresnet-study/storage",
        # As above.
        "apt-get": None,
    })  # fmt: skip
    _replace(config["head_start_ray_commands"], {
        # A host cannot be shut down, and sudo is not there.
        "stop-when-idle": None,
    })  # fmt: skip
    _replace(config["worker_start_ray_commands"], {
        # As above.
        "shutdown": None,
        # Hosts share the CPUs of the machine: a trial at a time on each.
        "ray start": "{} --num-cpus=1 --num-gpus=0",
    })  # fmt: skip
    return config


def _replace(commands: list[str], by: dict[str, str | None]) -> None:
    """Replace the one command that contains a text, or leave it out; {} is the command itself."""
    for text, replacement in by.items():
        (index,) = (i for i, command in enumerate(commands) if text in command)
        if replacement is None:
            del commands[index]
        else:
            commands[index] = replacement.format(commands[index])
