"""Slurm on the tests' hosts: its controller on the head, and both workers as nodes."""

import secrets
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from tests.cluster.hosts import BUCKET, Host, Hosts
from tests.support.waiting import wait

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
N_CPUS = 2
"""CPUs of a node in Slurm's books. The hosts really share the CPUs of this machine."""
_CONF = f"{BUCKET}/slurm/slurm.conf"
_START_SECONDS = 30

# The settings of a usual cluster, without systemd, cgroups and accounts.
_SLURM_CONF = """
ClusterName=hosts
SlurmctldHost=head
SlurmUser=root
AuthType=auth/munge
# A job that is requeued waits for this time, by default for two minutes.
AuthInfo=cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
StateSaveLocation=/run/slurmctld
SlurmdSpoolDir=/run/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/run/slurmctld.log
SlurmdLogFile=/run/slurmd.log
# Jobs that have ended can be asked for.
MinJobAge=3600
GresTypes=gpu
# Not the sizes that slurmd finds on this machine.
SlurmdParameters=config_overrides
"""


@dataclass(frozen=True)
class Slurm:
    """A running Slurm. Jobs are submitted on the head, as root."""

    hosts: Hosts

    def run(self, command: str, *, check: bool = True) -> str:
        """Run a command of Slurm's on the head; returns its output. Raises CalledProcessError if it
        fails, unless `check` is False."""
        return self.hosts.head.run(f"export SLURM_CONF={_CONF}; {command}", check=check).stdout

    def submit(self, folder: str, *words: str) -> int:
        """Submit a script from a folder, with options of sbatch before it; returns the job's id."""
        return int(self.run(f"cd {shlex.quote(folder)} && sbatch --parsable {shlex.join(words)}"))

    def job(self, number: int) -> dict[str, str]:
        """What `scontrol show job` says of a job: JobState, ExitCode, Restarts and others."""
        said = self.run(f"scontrol show job {number}").split()
        return dict(word.split("=", 1) for word in said if "=" in word)

    def has_nodes(self) -> bool:
        listed = self.run("sinfo --noheader --Node --format %t", check=False)
        return listed.split() == ["idle"] * len(self.hosts.workers)

    def logs(self) -> str:
        """The ends of the daemons' logs, for messages."""
        return "\n".join(
            host.run("tail -n 40 /run/slurm*.log", check=False).stdout for host in self.hosts.all
        )


@contextmanager
def slurm(hosts: Hosts) -> Iterator[Slurm]:
    """Start Slurm on idle hosts; on exit, end its daemons and with them all of its jobs."""
    folder = hosts.bucket / "slurm"
    folder.mkdir()
    nodes = [
        f"NodeName={host.name} NodeAddr={host.address} CPUs={N_CPUS} RealMemory=4000 Gres=gpu:1"
        for host in hosts.workers
    ]
    partition = "PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP"
    (folder / "slurm.conf").write_text("\n".join([_SLURM_CONF, *nodes, partition, ""]))
    (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
    # A file that every machine has stands for a GPU's.
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")
    key = secrets.token_bytes(128)
    with ExitStack() as stack:
        for host in hosts.all:
            path = hosts.folder / host.name / "munge.key"
            path.touch(mode=0o600)
            path.write_bytes(key)
            host.run("mkdir -m 755 -p /run/munge")
            _start(host, "munged", "--force --key-file=$HOME/munge.key", stack)
        _start(hosts.head, "slurmctld", f"-f {_CONF}", stack)
        for host in hosts.workers:
            _start(host, "slurmd", f"-f {_CONF}", stack)
        made = Slurm(hosts)
        wait(made.has_nodes, _START_SECONDS, made.logs)
        yield made


def _start(host: Host, daemon: str, options: str, stack: ExitStack) -> None:
    host.run(f"{daemon} {options}")
    stack.callback(wait, partial(_is_gone, host, daemon), _START_SECONDS, f"{daemon} does not end")


def _is_gone(host: Host, daemon: str) -> bool:
    """Kill the daemon if it runs; whether it did not."""
    return not host.kill(daemon)
