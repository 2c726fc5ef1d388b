"""A cluster on the emulated AWS, as the page of the cluster tells its user to make it."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.cluster import aws_commands, user
from tests.cluster.cloud import ADMINISTRATOR, Cloud, cloud
from tests.cluster.derived import ROOT, derive_for_aws
from tests.cluster.hosts import Host, Hosts, hosts

USER = "laptop"
_PATIENCE_SECONDS = 300


@dataclass(frozen=True)
class OnAws:
    """Hosts, AWS, and a laptop that reaches both and nothing else."""

    name: str
    """The name of the cluster."""
    hosts: Hosts
    cloud: Cloud
    laptop: Host
    home: Path
    config: Path

    def run(self, *command: str) -> str:
        """Run a command of the user in the root of the project; returns stdout and stderr. Raises
        AssertionError if it fails, or TimeoutExpired."""
        environment = {
            **user.environment(self.home),
            # MLflow does not look for its maker.
            "DO_NOT_TRACK": "true",
            "AWS_ENDPOINT_URL": self.cloud.url, "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ACCESS_KEY_ID": USER, "AWS_SECRET_ACCESS_KEY": "testing",
        }  # fmt: skip
        return user.run(self.laptop.command(*command), environment, _PATIENCE_SECONDS)


@contextmanager
def on_aws(folder: Path) -> Iterator[OnAws]:
    """Hosts, and an account in which the commands of the page have been run; on exit, delete what
    Ray left on this machine. `folder` must be empty."""
    name = f"iresnet-{os.getpid()}"
    for part in ("hosts", "home", "clone"):
        (folder / part).mkdir()
    with (
        hosts(folder / "hosts") as three,
        three.laptop() as laptop,
        cloud(three, laptop) as aws,
        user.ssh_forgotten(name),
    ):
        config = folder / "derived.yaml"
        made = OnAws(name, three, aws, laptop, folder / "home", config)
        _set_up(folder / "clone", name, aws.url)
        derived = derive_for_aws(folder / "clone" / "cluster.yaml", name)
        config.write_text(yaml.safe_dump(derived, sort_keys=False))
        (made.home / ".ray").mkdir()
        token = made.home / ".ray" / "auth_token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        yield made


def _set_up(clone: Path, cluster_name: str, url: str) -> None:
    shutil.copy(ROOT / "cluster.yaml", clone)
    shutil.copytree(ROOT / ".cluster", clone / ".cluster")
    for policy in (clone / ".cluster").glob("*-policy.json"):
        # They know the cluster by its name, which is another here.
        text = policy.read_text()
        policy.write_text(text.replace('"iresnet-study"', f'"{cluster_name}"'))
    theirs = aws_commands.commands(clone)
    of_user = ["--user-name", USER]
    document = ["--policy-document", "file://.cluster/user-policy.json"]
    mine = [
        ["iam", "create-user", *of_user],
        ["iam", "put-user-policy", *of_user, "--policy-name", "iresnet-study", *document],
    ]
    for command in (*theirs, *mine):
        aws_commands.run(command, clone, url, ADMINISTRATOR)
