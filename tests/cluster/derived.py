"""cluster.yaml adapted to hosts without a cloud, with the reason of each difference."""

import sys
from pathlib import Path
from typing import Any

import yaml
from ray.autoscaler._private.aws.config import _create_default_inbound_rules

from tests.cluster.hosts import BUCKET, Hosts

ROOT = Path(__file__).parent.parent.parent
_VENV = "~/.iresnet-study/venv"


def real() -> dict[str, Any]:
    """The project's cluster.yaml."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    return config


def permissions() -> list[dict[str, Any]]:
    """Inbound rules for AWS, from cluster.yaml and from Ray."""
    own = real()["provider"]["security_group"]["IpPermissions"]
    made: list[dict[str, Any]] = _create_default_inbound_rules({"sg-the-cluster"}, own)
    return made


def derive(hosts: Hosts, cluster_name: str) -> dict[str, Any]:
    """Configuration of `ray up` for the hosts. File mounts, excluded files and all commands that
    are not named here are unchanged."""
    config = real()
    # Tests running in parallel may have a cluster too.
    config["cluster_name"] = cluster_name
    # The hosts exist, so nothing is launched, and no security group guards them.
    config["provider"] = {
        "type": "local",
        "head_ip": hosts.head.address,
        "worker_ips": [worker.address for worker in hosts.workers],
    }
    # AWS would make a key pair.
    config["auth"] = {"ssh_user": "root", "ssh_private_key": str(hosts.key)}
    # The provider `local` refuses node types.
    del config["available_node_types"], config["head_node_type"]
    config["max_workers"] = len(hosts.workers)
    _adapt_commands(config)
    _replace(config["head_setup_commands"], {
        # The shared folder replaces the bucket.
        config["metadata"]["storage"]: f"echo {BUCKET} > ~/.iresnet-study/storage",
    })  # fmt: skip
    return config


def derive_for_aws(file: Path, cluster_name: str) -> dict[str, Any]:
    """Configuration of `ray up` for hosts that are instances of EC2, from an edited cluster.yaml.
    What is not named here is unchanged, provider, node types and storage among it."""
    config: dict[str, Any] = yaml.safe_load(file.read_text())
    # The launcher keeps its SSH connections in a folder of this name.
    config["cluster_name"] = cluster_name
    # The only user of the hosts; AWS makes the key pair.
    config["auth"] = {"ssh_user": "root"}
    _adapt_commands(config)
    return config


def _adapt_commands(config: dict[str, Any]) -> None:
    # Hosts have no cloud-init.
    config["initialization_commands"] = []
    _replace(config["setup_commands"], {
        # No packages can be fetched; the hosts see the packages of this machine.
        "apt-get": None,
        # No index can be reached: use the environment of the tests, not the locked versions.
        "-m venv": None,
        "uv venv": f"ln -sfn {sys.prefix} {_VENV}",
        "uv pip install": None,
    })  # fmt: skip
    _replace(config["head_setup_commands"], {
        # As above.
        "apt-get": None,
    })  # fmt: skip
    _replace(config["head_start_ray_commands"], {
        # A host cannot be shut down, and has no sudo.
        "stop-when-idle": None,
    })  # fmt: skip
    _replace(config["worker_start_ray_commands"], {
        # As above.
        "shutdown": None,
        # The hosts share the CPUs of this machine: one trial at a time on each.
        "ray start": "{} --num-cpus=1 --num-gpus=0",
    })  # fmt: skip


def _replace(commands: list[str], by: dict[str, str | None]) -> None:
    """Replace or, if None, delete the one command that contains a text; {} is that command."""
    for text, replacement in by.items():
        (index,) = (i for i, command in enumerate(commands) if text in command)
        if replacement is None:
            del commands[index]
        else:
            commands[index] = replacement.format(commands[index])
