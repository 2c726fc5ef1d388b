"""The hosts as instances of EC2: each that runs is one of them, with the instance's addresses, key
and role."""

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.cluster.hosts import Host, Hosts

# moto's default VPC.
_VPC_BITS = 16
_HOLE = "hole"


@dataclass(frozen=True)
class _Running:
    host: Host
    public: str
    private: str


class Machines:
    """The hosts as instances: the first host is the instance that is launched first, and so on.

    The addresses that moto makes up may belong to someone, so what is sent to one must not leave
    this machine. On the bridge each leads to the host alone, and is known to the laptop alone.
    """

    def __init__(self, hosts: Hosts, laptop: Host) -> None:
        self._hosts = hosts
        self._laptop = laptop
        self._hosts_of: dict[str, Host] = {}
        self._running: dict[str, _Running] = {}
        # All public addresses so far.
        self.addresses: set[str] = set()
        for host in hosts.all:
            _dig_hole(host)

    def follow(self, instances: Iterable[Any], url: str) -> None:
        """Start and stop hosts, as moto's instances have been. `url` is where AWS is."""
        for instance in instances:
            if instance.lifecycle == "spot":
                # By this ID Ray knows what it cannot stop; moto sets none for RunInstances.
                instance.spot_instance_request_id = instance.id.replace("i-", "sir-")
            runs = instance.is_running()
            if runs and instance.id not in self._running:
                self._start(instance, url)
            elif not runs and instance.id in self._running:
                self._stop(instance.id)
            if instance.state == "terminated":
                self._hosts_of.pop(instance.id, None)

    def _start(self, instance: Any, url: str) -> None:
        taken = self._hosts_of.values()
        free = (host for host in self._hosts.all if host not in taken)
        host = self._hosts_of.setdefault(instance.id, next(free))
        it = _Running(host, instance.public_ip, instance.private_ip)
        host.ip("address", "add", f"{it.private}/{_VPC_BITS}", "dev", "eth0")
        host.ip("address", "add", f"{it.public}/32", "dev", "eth0")
        # Ray takes a host's address from its default route.
        host.ip("route", "replace", "default", "dev", _HOLE, "src", it.private)
        # It stays when the instance is stopped: connections may still be open.
        self._laptop.ip("route", "replace", f"{it.public}/32", "dev", "eth0")
        self.addresses.add(it.public)
        self._prepare(host, instance, url)
        self._running[instance.id] = it

    def _prepare(self, host: Host, instance: Any, url: str) -> None:
        """Do what an instance does when it comes up: let its key in, and know its role's keys."""
        (key,) = instance.ec2_backend.describe_key_pairs([instance.key_name])
        keys = self._hosts.folder / "ssh" / "key.pub"
        if key.public_key not in keys.read_text():
            keys.write_text(keys.read_text() + key.public_key + "\n")
        known = instance.ec2_backend.iam_instance_profile_associations[instance.id]
        (role,) = known.iam_instance_profile.roles
        folder = self._hosts.folder / host.name / ".aws"
        folder.mkdir(exist_ok=True)
        profile = self._hosts.folder / host.name / ".bashrc"
        # An instance asks its metadata service for its keys; here they are in a file.
        line = f"export AWS_ENDPOINT_URL={url} AWS_EC2_METADATA_DISABLED=true\n"
        if line not in profile.read_text():
            profile.write_text(line + profile.read_text())
        (folder / "credentials").write_text(
            f"[default]\naws_access_key_id = {role.name}\naws_secret_access_key = testing\n"
        )

    def _stop(self, instance_id: str) -> None:
        it = self._running.pop(instance_id)
        it.host.kill()
        it.host.ip("route", "delete", "default")
        for address in (f"{it.private}/{_VPC_BITS}", f"{it.public}/32"):
            it.host.ip("address", "delete", address, "dev", "eth0")


def sent_nowhere(host: Host) -> int:
    """Packets that the host has sent to addresses that are nobody's here."""
    (link,) = json.loads(host.ip("-json", "-statistics", "link", "show", _HOLE))
    packets: int = link["stats64"]["tx"]["packets"]
    return packets


def unroutable(host: Host) -> int:
    """How often something in the host's network asked for an address without a route."""
    command = host.command("grep", "^Ip:", "/proc/net/snmp")
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    names, counts = (line.split() for line in said.splitlines())
    return int(dict(zip(names, counts, strict=True))["OutNoRoutes"])


def _dig_hole(host: Host) -> None:
    """Send what leads nowhere into a bridge without cables, which counts it, and not to this
    machine, which may forward it."""
    host.ip("link", "add", _HOLE, "type", "bridge", "mcast_snooping", "0")
    # Else the kernel itself sends.
    host.ip("link", "set", _HOLE, "arp", "off", "multicast", "off", "addrgenmode", "none")
    host.ip("link", "set", _HOLE, "up")
    # Ray and MLflow ask for servers of their makers by name, and no name is known here. Ray learns
    # its own address from a socket to 8.8.8.8, by which it sends nothing.
    host.ip("rule", "add", "pref", "1", "to", "8.8.8.8", "lookup", "main")
    host.ip("rule", "add", "pref", "2", "ipproto", "udp", "dport", "53", "unreachable")
    host.ip("route", "delete", "default")
