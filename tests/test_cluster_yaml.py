"""cluster.yaml holds what it promises, as far as that can be told without a cloud."""

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ray.autoscaler._private.util import _get_default_config, prepare_config, validate_config

from tests.cluster.derived import ROOT, permissions, real
from tests.cluster.iam import Need

COMMANDS = (
    "initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands",
    "head_start_ray_commands", "worker_start_ray_commands",
)  # fmt: skip


def _commands(config: dict[str, Any]) -> list[str]:
    return [command for key in COMMANDS for command in config[key]]


def test_the_installed_ray_accepts_it() -> None:
    prepared = prepare_config(real())
    validate_config(prepared)
    # Ray's own commands for AWS are replaced: one of them installs a nightly Ray.
    defaults = _get_default_config({"type": "aws"})
    assert not set(_commands(defaults)) - {"ray stop"} & set(_commands(prepared))


def test_the_head_takes_no_trials_and_workers_scale_from_none() -> None:
    types = real()["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0, "GPU": 0}
    (start,) = (c for c in real()["head_start_ray_commands"] if "ray start" in c)
    assert "--num-cpus=0 --num-gpus=0" in start
    assert types["worker"]["min_workers"] == 0
    assert types["worker"]["max_workers"] == real()["max_workers"] > 0
    assert types["worker"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_workers_on_demand_are_one_line_to_uncomment() -> None:
    text = (ROOT / "cluster.yaml").read_text()
    config = yaml.safe_load(text.replace("  # on_demand: {", "  on_demand: {"))
    validate_config(prepare_config(config))
    types = config["available_node_types"]
    spot, on_demand = types["worker"], types["on_demand"]
    # No market is the default: on demand.
    assert on_demand["node_config"] == spot["node_config"] | {"InstanceMarketOptions": {}}
    assert on_demand["priority"] < spot.get("priority", 0)


def test_the_world_reaches_ssh_alone() -> None:
    allowed = permissions()
    open_to_addresses = [p for p in allowed if p.get("IpRanges") or p.get("Ipv6Ranges")]
    assert [(p["IpProtocol"], p["FromPort"], p["ToPort"]) for p in open_to_addresses] == [
        ("tcp", 22, 22)
    ]
    # AWS refuses a call in which a rule stands twice.
    assert all(allowed.count(permission) == 1 for permission in allowed)


def test_commands_can_be_put_in_parentheses() -> None:
    # As Ray does; two in a row are arithmetic to the shell.
    assert not [command for command in _commands(real()) if command.startswith("(")]


def test_it_holds_no_secret() -> None:
    text = (ROOT / "cluster.yaml").read_text()
    assert not re.search(r"(?i)(password|secret|token|key)\s*[=:]\s*['\"]?[\w/+-]{6,}", text)
    assert not re.search(r"AKIA[0-9A-Z]{16}", text)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o604])
def test_a_token_that_others_could_read_is_refused_before_ray_starts(
    tmp_path: Path, mode: int
) -> None:
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.touch()
    token.chmod(mode)
    # `ray up` copies it with its mode.
    done = subprocess.run(
        ["bash", "-c", real()["setup_commands"][0]],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == (mode == 0o600)
    assert ("others can read yours" in done.stderr) == (mode != 0o600)


def test_only_named_parts_of_the_project_leave_the_machine() -> None:
    sources = set(real()["file_mounts"].values()) - {"~/.ray/auth_token"}
    assert sources == {"models", "study", "search_spaces", ".cluster"}
    assert all((ROOT / source).is_dir() for source in sources)


def _policy(name: str) -> dict[str, Any]:
    policy: dict[str, Any] = json.loads((ROOT / ".cluster" / f"{name}-policy.json").read_text())
    return policy


@pytest.mark.parametrize(("who", "launches"), [("user", "head"), ("head", "worker")])
def test_policies_let_launch_what_cluster_yaml_has_and_where(who: str, launches: str) -> None:
    config = real()
    kind = config["available_node_types"][launches]["node_config"]["InstanceType"]
    region = config["provider"]["region"]
    context = {
        "aws:RequestTag/ray-cluster-name": config["cluster_name"],
        "aws:RequestedRegion": region,
        "ec2:InstanceType": kind,
    }

    def granted(**other: str) -> bool:
        arn = f"arn:aws:ec2:{region}:123456789012:instance/new"
        changed = {key: other.get(key.rpartition(":")[2], value) for key, value in context.items()}
        return Need("ec2:RunInstances", arn, changed).granted_by([_policy(who)])

    assert granted()
    assert not granted(InstanceType="p5.48xlarge")
    assert not granted(RequestedRegion="eu-west-1")
    assert not granted(**{"RequestTag/ray-cluster-name": "another"})


CHECKPOINT = "studies/mnist/0003_1a2b3c4d/checkpoint_000004"


@pytest.mark.parametrize(
    ("key", "reads", "writes", "deletes"),
    [
        (f"{CHECKPOINT}/state.safetensors", True, True, False),
        (f"{CHECKPOINT}/outcome/projections/0/changes.safetensors", True, True, False),
        # Arrow writes an empty object for a folder.
        (f"{CHECKPOINT}/", True, True, False),
        ("studies/mnist/0003_1a2b3c4d/", False, True, False),
        ("studies/", False, True, False),
        ("", False, True, False),
        (CHECKPOINT, True, False, False),
        ("studies/mnist/.validate_storage_marker", True, False, False),
        ("studies/0123456789abcdef.probe", True, True, True),
        # What a driver unpickles, of studies of any name.
        *(
            (f"studies/{study}/{name}", False, False, False)
            for study in ("mnist", "checkpoint_000004", "mnist.probe")
            for name in (
                "tuner.pkl", "trainable.pkl", "searcher-state-2026.pkl", "snapshots/0.zip",
                "search_gen_state-2026.json", "experiment_state-2026.json",
                "callback-states-2026.pkl", "0003_1a2b3c4d/error.pkl", "0003_1a2b3c4d/params.pkl",
            )
        ),
        ("artifacts/1/abc/artifacts/model/weights.safetensors", False, False, False),
    ],
)  # fmt: skip
def test_workers_write_checkpoints_and_nothing_that_a_driver_unpickles(
    key: str, reads: bool, writes: bool, deletes: bool
) -> None:
    storage = re.search(r"s3://(\S+)", real()["metadata"]["storage"])
    assert storage is not None
    rights = {"s3:GetObject": reads, "s3:PutObject": writes, "s3:DeleteObject": deletes}
    for action, is_granted in rights.items():
        need = Need(action, f"arn:aws:s3:::{storage[1]}/{key}")
        assert need.granted_by([_policy("worker")]) == is_granted, action
        assert need.granted_by([_policy("head")])
        beside = Need(action, f"arn:aws:s3:::{storage[1]}-of-another/{key}")
        assert not beside.granted_by([_policy("worker")])
        assert not beside.granted_by([_policy("head")])


def _locked(name: str = "requirements") -> dict[str, tuple[Requirement, list[str]]]:
    """Each requirement of a lock, and the hashes of its files."""
    text = (ROOT / ".cluster" / f"{name}.lock").read_text().replace("\\\n", "")
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            requirement, *hashes = line.split(" --hash=")
            found[canonicalize_name(Requirement(requirement).name)] = (
                Requirement(requirement), [one.strip() for one in hashes],
            )  # fmt: skip
    return found


@pytest.mark.parametrize("name", ["requirements", "installer"])
def test_every_version_is_locked_and_every_file_by_its_hash(name: str) -> None:
    assert _locked(name)
    for requirement, hashes in _locked(name).values():
        assert [s.operator for s in requirement.specifier] == ["=="], requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), requirement


def test_nothing_is_installed_whose_hash_is_not_locked() -> None:
    dockerfile = (ROOT / ".cluster" / "Dockerfile").read_text().replace("\\\n", "")
    installs = [
        line for line in (*_commands(real()), *dockerfile.splitlines()) if "pip install" in line
    ]
    assert len(installs) == 3
    for line in installs:
        arguments = line.partition("pip install")[2].split()
        assert "--require-hashes" in arguments
        # No package is named beside the locks.
        named = [word for word in arguments if not word.startswith("-")]
        assert {Path(word).suffix for word in named if Path(word).name != "python"} == {".lock"}
    (image,) = re.findall(r"^FROM (\S+)$", dockerfile, re.MULTILINE)
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", image)


@pytest.mark.parametrize("extra", ["", "cluster"])
def test_every_dependency_is_locked_at_a_version_that_it_may_have(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["optional-dependencies"][extra] if extra else project["dependencies"]
    for requirement in map(Requirement, wanted):
        (pin,) = _locked()[canonicalize_name(requirement.name)][0].specifier
        assert requirement.specifier.contains(pin.version), f"{requirement}, but {pin}"
