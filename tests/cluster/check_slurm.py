"""`.cluster/slurm.sh` on two nodes of a Slurm: a study that the time limit interrupts twice ends by
itself, as if nothing had happened.

    python -m pytest tests/cluster/check_slurm.py

By hand, since it takes three minutes.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.derived import ROOT
from tests.cluster.hosts import BUCKET, hosts
from tests.cluster.slurm import PROGRAMS, Slurm, slurm
from tests.support.launched import CLOCKED, Books, Launch, epochs_logged, write_space
from tests.support.studies import CERTIFIED
from tests.support.waiting import wait

MISSING = [program for program in PROGRAMS if shutil.which(program) is None]
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)} on the PATH"),
]

N_TRIALS, N_EPOCHS = 4, 6
# The job is interrupted when the study has so many epochs.
INTERRUPTED_AT = (2, 10)
# Time to reach an epoch or the end, the start of Ray included.
PATIENCE_SECONDS = 180
NOT_ENDED = ("PENDING", "RUNNING", "COMPLETING")
CLONE, SCRATCH = f"{BUCKET}/clone", f"{BUCKET}/scratch"
# Line of the script -> as its user would edit it, who leaves the other lines as they are.
EDITED = {
    "#SBATCH --partition=YOUR-PARTITION": "#SBATCH --partition=all",
    "#SBATCH --cpus-per-task=8": "#SBATCH --cpus-per-task=1",
    "environment=$PWD/.venv": f"environment={sys.prefix}",
    "scratch=/YOUR/SHARED/SCRATCH/iresnet-study": f"scratch={SCRATCH}",
}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with hosts(tmp_path_factory.mktemp("hosts")) as three, slurm(three) as made:
        yield made


def _edited() -> str:
    script = (ROOT / ".cluster" / "slurm.sh").read_text()
    for line, edited in EDITED.items():
        assert script.splitlines().count(line) == 1, line
        script = script.replace(line, edited)
    return script


def _lay_out(up: Slurm) -> Path:
    """Make a clone with an edited script and a study on the shared file system; returns its
    path on this machine."""
    clone = up.hosts.bucket / "clone"
    for package in ("models", "study"):
        shutil.copytree(ROOT / package, clone / package)
    (clone / "slurm.sh").write_text(_edited())
    return clone


def _study(folder: Path) -> Path:
    """Write a study whose samples depend on no result: two trials at a time, or one, give the
    same numbers."""
    raw = {
        **CERTIFIED,
        "training": {**CERTIFIED["training"], "max_epochs": N_EPOCHS},
        "resources": {"cpus": 1},
    }
    return write_space(folder, raw, sampler="sobol", n_trials=N_TRIALS, ladder=[0.2])


def _result(folder: Path) -> dict[str, Any]:
    """The front, and every number of a study's trials and projections except times."""
    books = Books(folder)
    tags = "SELECT name, status, value FROM runs JOIN tags USING (run_uuid) WHERE key = "
    metrics = (
        "SELECT name, metrics.key, step, metrics.value FROM runs JOIN metrics USING (run_uuid) "
        "JOIN tags USING (run_uuid) WHERE tags.key = 'study.kind' AND tags.value != 'study' "
        f"AND metrics.key NOT IN {CLOCKED}"
    )
    volume = "SELECT value FROM latest_metrics WHERE key = 'hypervolume'"
    return {
        "kinds": sorted(books.query(f"{tags} 'study.kind' AND value != 'study'")),
        "front": sorted(books.query(f"{tags} 'study.mark'")),
        "metrics": sorted(books.query(metrics)),
        "hypervolume": books.query(volume),
    }


def _has_come_to(n_epochs: int, scratch: Path) -> bool:
    return epochs_logged(scratch) >= n_epochs


def _is_requeued(n_times: int, job: Callable[[], dict[str, str]]) -> bool:
    return job()["Restarts"] == str(n_times)


def test_a_study_that_the_time_limit_interrupts_twice_ends_as_if_nothing_had_happened(
    up: Slurm, tmp_path: Path
) -> None:
    """The signal is sent by hand: Slurm itself looks at time limits twice a minute."""
    clone, scratch = _lay_out(up), up.hosts.bucket / "scratch"
    before = [host.processes() for host in up.hosts.all]
    number = up.submit(CLONE, "slurm.sh", _study(clone).name, "--name", "tiny")
    job, output = partial(up.job, number), clone / f"slurm-{number}.out"
    with Launch(tmp_path, str(_study(tmp_path))) as uninterrupted:
        for n_before, n_epochs in enumerate(INTERRUPTED_AT):
            wait(partial(_has_come_to, n_epochs, scratch), PATIENCE_SECONDS, output.read_text)
            up.run(f"scancel --batch --signal=USR1 {number}")
            wait(partial(_is_requeued, n_before + 1, job), PATIENCE_SECONDS, output.read_text)
            assert n_epochs <= epochs_logged(scratch) < N_TRIALS * N_EPOCHS
            assert output.read_text().count("tiny is unfinished") == n_before + 1
        uninterrupted.finish(0)
    wait(lambda: job()["JobState"] not in NOT_ENDED, PATIENCE_SECONDS, output.read_text)
    ended, printed = job(), output.read_text()
    assert ended["JobState"] == "COMPLETED", printed
    assert (ended["ExitCode"], ended["Restarts"]) == ("0:0", "2")
    assert printed.count("on 2 nodes") == 3
    assert "Traceback" not in printed
    assert _result(scratch) == _result(tmp_path)
    nodes = Books(scratch).query("SELECT DISTINCT value FROM tags WHERE key = 'study.node'")
    assert {node for (node,) in nodes} == {worker.address for worker in up.hosts.workers}
    wait(lambda: [h.processes() for h in up.hosts.all] == before, 20, "a process is left")
    for host in up.hosts.workers:
        assert f"study-{number}" not in host.run("ls /tmp").stdout
