"""Hosts without a cloud: network namespaces on a bridge, each with its own SSH server, home, /tmp
and processes, and a folder shared by all in place of a bucket. Needs root."""

import errno
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tests.support.waiting import wait

HOSTS = ("head", "w1", "w2")
BUCKET = "/mnt/bucket"
"""Mount point of the shared folder on every host."""
_HOME = pwd.getpwuid(0).pw_dir
_BALLAST = "ballast"
# Time for a host's SSH server to answer.
_PATIENCE_SECONDS = 20

# A host sees all of this machine but what a real host would have for itself. Everything is first
# gathered below /mnt, because later mounts hide its origin.
_BOOT = r"""
name=$1 folder=$2 prefix=$3 base=$4 home=$5
hostname "$name"
mount -t tmpfs none /mnt
mkdir -p /mnt/home /mnt/bucket /mnt/base /mnt/ssh /mnt/layer/upper /mnt/layer/work /mnt/environment
mount --bind "$folder/$name" /mnt/home
mount --bind "$folder/bucket" /mnt/bucket
mount --bind "$folder/ssh" /mnt/ssh
mount --rbind "$base" /mnt/base
mount -t overlay none -o "lowerdir=$prefix,upperdir=/mnt/layer/upper,workdir=/mnt/layer/work" \
    /mnt/environment
mount --bind "$folder/hosts" /etc/hosts
mount -t tmpfs -o mode=1777 none /tmp
mount -t tmpfs -o mode=1777 none /dev/shm
mount -t tmpfs none /run
mount --bind /mnt/home "$home"
# Either may lie in what has just been hidden.
test -d "$base" || { mkdir -p "$base"; mount --rbind /mnt/base "$base"; }
mkdir -p "$prefix"
mount --bind /mnt/environment "$prefix"
mkdir /run/sshd
exec "$(command -v sshd)" -D -e -f /mnt/ssh/sshd_config
"""

_SSHD_CONFIG = """
HostKey /mnt/ssh/host_key
AuthorizedKeysFile /mnt/ssh/key.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PidFile none
StrictModes no
MaxStartups 50
"""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@dataclass(frozen=True)
class Host:
    """A host on the bridge with its own SSH server and processes."""

    name: str
    address: str
    netns: str
    link: str
    """The end of its virtual cable at the bridge."""
    init: int
    """PID of its first process on this machine."""

    def command(self, *command: str) -> list[str]:
        """A command for this machine that runs in the host's network."""
        return ["ip", "netns", "exec", self.netns, *command]

    def run(
        self, script: str, *, check: bool = True, timeout_seconds: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a script in a login shell of the host, without the network. Raises CalledProcessError
        if it fails, unless `check` is False, or TimeoutExpired."""
        enter = ["nsenter", "--target", str(self.init), "--mount", "--net", "--pid", "--uts"]
        shell = ["env", "-i", f"HOME={_HOME}", f"PATH={os.defpath}:/usr/sbin:/sbin", "TERM=dumb"]
        # Like `ray up`, with what .bashrc exports.
        script = f"cd; test ! -e .bashrc || . ./.bashrc; {script}"
        return subprocess.run(
            [*enter, *shell, "bash", "-c", script],
            check=check,
            timeout=timeout_seconds,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def processes(self) -> dict[int, str]:
        """PID on this machine -> command line of each running process but the SSH server."""
        home = os.readlink(f"/proc/{self.init}/ns/pid")
        commands = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                here = os.readlink(folder / "ns" / "pid") == home
                command = (folder / "cmdline").read_bytes() if here else b""
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # it has just ended, or is not ours
            # Zombies have no command line.
            if command and int(folder.name) != self.init:
                commands[int(folder.name)] = command.replace(b"\0", b" ").decode().strip()
        return commands

    def kill(self, *words: str) -> list[int]:
        """Kill -9 each process with all these words in its command line; returns their PIDs."""
        chosen = [pid for pid, line in self.processes().items() if all(w in line for w in words)]
        for pid in chosen:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return chosen

    def ip(self, *arguments: str) -> str:
        """Run `ip` in the host's network; returns its output."""
        command = ["ip", "-n", self.netns, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def cut_off(self) -> None:
        """Unplug the host: it reaches only itself."""
        _ip("link", "set", self.link, "down")

    def heal(self) -> None:
        _ip("link", "set", self.link, "up")


@dataclass(frozen=True)
class Hosts:
    """The hosts head, w1 and w2; this machine is on their network too."""

    folder: Path
    bridge: str
    network: str
    """The first three numbers of their addresses."""
    head: Host
    w1: Host
    w2: Host

    @property
    def all(self) -> tuple[Host, Host, Host]:
        return self.head, self.w1, self.w2

    @property
    def workers(self) -> tuple[Host, Host]:
        return self.w1, self.w2

    @property
    def gateway(self) -> str:
        """The address of this machine."""
        return f"{self.network}.1"

    @property
    def key(self) -> Path:
        """Private SSH key of root on every host."""
        return self.folder / "ssh" / "key"

    @property
    def bucket(self) -> Path:
        """The shared folder on this machine."""
        return self.folder / "bucket"

    def ssh(self, host: Host, *options: str) -> list[str]:
        """SSH command for a host; a script may be appended."""
        return [
            "ssh", "-F", "none", "-i", str(self.key), "-o", "StrictHostKeyChecking=no",
            "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
            "-o", "ExitOnForwardFailure=yes", *options, f"root@{host.address}",
        ]  # fmt: skip

    @contextmanager
    def laptop(self) -> Iterator[Host]:
        """A namespace on the network that has no route to anywhere else. Commands in it see the
        files and processes of this machine."""
        tag = self.bridge.removesuffix("br")
        laptop = Host("laptop", f"{self.network}.20", f"{tag}-laptop", f"{tag}-la", init=0)
        with ExitStack() as stack:
            _plug_in(laptop, self.bridge, None, stack)
            yield laptop

    def fill_bucket(self) -> None:
        """Fill the shared folder to the last byte; space that is freed later is not refilled."""
        with (self.bucket / _BALLAST).open("ab", buffering=0) as file:
            for size in (2**20, 2**12, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def free_bucket(self) -> None:
        (self.bucket / _BALLAST).unlink(missing_ok=True)


@contextmanager
def hosts(folder: Path, *, bucket_bytes: int = 2**30) -> Iterator[Hosts]:
    """Start the hosts; end them and all their processes on exit.

    Args:
        folder: for homes, the shared folder and SSH keys; must be empty.
        bucket_bytes: capacity of the shared folder.
    """
    with ExitStack() as stack:
        _lay_out(folder, stack, bucket_bytes)
        # Link names have at most 15 letters, and other tests may have hosts too.
        tag = f"i{os.getpid()}"
        network = _free_network()
        bridge = f"{tag}br"
        addresses = {name: f"{network}.{10 + i}" for i, name in enumerate(HOSTS)}
        lines = ["127.0.0.1 localhost", *(f"{at} {name}" for name, at in addresses.items())]
        (folder / "hosts").write_text("\n".join(lines) + "\n")
        _ip("link", "add", bridge, "type", "bridge")
        stack.callback(_ip, "link", "delete", bridge)
        _ip("address", "add", f"{network}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        booted = {}
        for name, address in addresses.items():
            host = Host(name, address, f"{tag}-{name}", f"{tag}-{name[:2]}", init=0)
            _plug_in(host, bridge, f"{network}.1", stack)
            booted[name] = _boot(host, folder, stack)
        for host in booted.values():
            wait(
                partial(_has_ssh, host), _PATIENCE_SECONDS, (folder / f"{host.name}.log").read_text
            )
        yield Hosts(folder, bridge, network, **booted)


def _lay_out(folder: Path, stack: ExitStack, bucket_bytes: int) -> None:
    for name in HOSTS:
        # The mode of homes: services that run as other users must pass through.
        (folder / name).mkdir(mode=0o711)
        (folder / name / ".bashrc").touch()
    (folder / "bucket").mkdir()
    options = f"size={bucket_bytes}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder / "bucket"], check=True)
    # Lazily: files that a test has left open must not block the removal.
    stack.callback(subprocess.run, ["umount", "--lazy", folder / "bucket"], check=True)
    (folder / "ssh").mkdir(mode=0o700)
    for key in ("key", "host_key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "ssh" / key], check=True
        )
    (folder / "ssh" / "sshd_config").write_text(_SSHD_CONFIG)


def _free_network() -> str:
    """The first three numbers of a network without a route on this machine."""
    routes = subprocess.run(["ip", "route"], check=True, capture_output=True, text=True).stdout
    candidates = (f"10.213.{(os.getpid() + i) % 256}" for i in range(256))
    return next(network for network in candidates if f"{network}." not in routes)


def _plug_in(host: Host, bridge: str, gateway: str | None, stack: ExitStack) -> None:
    _ip("netns", "add", host.netns)
    stack.callback(_ip, "netns", "delete", host.netns)
    _ip("link", "add", host.link, "type", "veth", "peer", "name", "eth0", "netns", host.netns)
    _ip("link", "set", host.link, "master", bridge, "up")
    _ip("-n", host.netns, "address", "add", f"{host.address}/24", "dev", "eth0")
    _ip("-n", host.netns, "link", "set", "lo", "up")
    _ip("-n", host.netns, "link", "set", "eth0", "up")
    if gateway is not None:
        # Ray takes a host's address from its default route.
        _ip("-n", host.netns, "route", "add", "default", "via", gateway)


def _boot(host: Host, folder: Path, stack: ExitStack) -> Host:
    unshare = [
        "unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc",
        "bash", "-euc", _BOOT, "boot", host.name, str(folder), sys.prefix, sys.base_prefix, _HOME,
    ]  # fmt: skip
    log = stack.enter_context((folder / f"{host.name}.log").open("w"))
    process = subprocess.Popen(
        host.command(*unshare), stdin=subprocess.DEVNULL, stdout=log, stderr=log
    )

    def end() -> None:
        # All processes of the host end with its first.
        process.kill()
        process.wait()

    stack.callback(end)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait(children.read_text, _PATIENCE_SECONDS, (folder / f"{host.name}.log").read_text)
    init = int(children.read_text().split()[0])
    return replace(host, init=init)


def _has_ssh(host: Host) -> bool:
    try:
        socket.create_connection((host.address, 22), timeout=1).close()
    except OSError:
        return False
    return True
