"""The security group of cluster.yaml as packet filters of the hosts."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ray.autoscaler._private.aws.config import _create_default_inbound_rules

from tests.cluster.derived import real
from tests.cluster.hosts import Hosts

_GROUP = "sg-the-cluster"
_EVERY_PORT = "-1"


def permissions() -> list[dict[str, Any]]:
    """What AWS is told to let in: the rules of cluster.yaml and those that Ray adds to them."""
    own = real()["provider"]["security_group"]["IpPermissions"]
    made: list[dict[str, Any]] = _create_default_inbound_rules({_GROUP}, own)
    return made


def ruleset(allowed: Sequence[Mapping[str, Any]], members: Sequence[str]) -> str:
    """The permissions in nftables' language; what they do not allow is dropped, as AWS drops it.

    Args:
        allowed: permissions in AWS's form.
        members: addresses of the machines of the group.
    """
    lines = [
        # AWS remembers connections, and does not stand between a machine and itself.
        "ct state established,related accept",
        'iif "lo" accept',
    ]
    for permission in allowed:
        protocol = permission["IpProtocol"]
        ports = f"{permission['FromPort']}-{permission['ToPort']}"
        what = "" if protocol == _EVERY_PORT else f"{protocol} dport {ports} "
        sources = [f"ip saddr {r['CidrIp']}" for r in permission.get("IpRanges", [])]
        sources += [f"ip6 saddr {r['CidrIpv6']}" for r in permission.get("Ipv6Ranges", [])]
        for pair in permission.get("UserIdGroupPairs", []):
            assert pair["GroupId"] == _GROUP, "a group of which we know no members"
            sources.append(f"ip saddr {{ {', '.join(members)} }}")
        lines += [f"{source} {what}accept" for source in sources]
    chain = "\n".join(["type filter hook input priority 0; policy drop;", *lines])
    return f"table inet group {{\nchain input {{\n{chain}\n}}\n}}\n"


@contextmanager
def guarded(hosts: Hosts) -> Iterator[None]:
    """Every host behind the security group; afterwards none is."""
    rules = ruleset(permissions(), [host.address for host in hosts.all])
    try:
        for host in hosts.all:
            subprocess.run(host.command("nft", "-f", "-"), input=rules, text=True, check=True)
        yield
    finally:
        for host in hosts.all:
            subprocess.run(host.command("nft", "flush", "ruleset"), check=True)
