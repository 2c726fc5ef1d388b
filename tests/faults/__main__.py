"""Studies under random faults, and their records afterwards; run by hand, since it takes an hour.

    python -m tests.faults --rounds N --seed S [--only KIND ...]

Runs on a cluster of three hosts (network namespaces; needs root and the programs of tests/cluster).
Each round launches a study of 4 trials of 8 epochs on the digits on two workers, with one or two
faults at random moments, all kinds in turn. A study that a fault ends is resumed until it is done;
faults without a target are not counted. Then the records of Tune, Optuna and MLflow are compared
(tests/faults/books.py). Exit code 1 if anything was lost, doubled or left running.
"""

import argparse
import json
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.cluster import Cluster, cluster
from tests.cluster.hosts import hosts
from tests.faults.books import problems
from tests.faults.faults import FAULTS, make_good
from tests.support.launched import reports
from tests.support.studies import ABSENT, CERTIFIED, changed

N_TRIALS, N_EPOCHS = 4, 8
# How often a user would resume a study before giving up.
_MOST_RESUMES = 5
_STUDY_SECONDS = 600


# What a trial gives besides its own network, in turn.
_FURTHER: tuple[dict[str, Any], ...] = (
    {"search": {"ladder": []}},
    {"search": {"ladder": [0.2]}},
    {
        "family": {"margin": {"low": 0.1, "high": 0.9}},
        "training": changed(CERTIFIED["training"], {"margin": ABSENT, "max_epochs": N_EPOCHS}),
        "search": {"members": 2},
    },
)


def _space(further: dict[str, Any]) -> dict[str, Any]:
    """A study with epochs long enough for faults to occur within them."""
    return {
        **CERTIFIED,
        "name": "current",
        "training": {**CERTIFIED["training"], "max_epochs": N_EPOCHS},
        **further,
        "search": {**CERTIFIED["search"], "n_trials": N_TRIALS, **further["search"]},
    }


class Study:
    """A study on the cluster, run by the command on the head."""

    def __init__(self, cluster: Cluster, name: str, further: dict[str, Any]) -> None:
        self.cluster, self.name = cluster, name
        self.folder = cluster.hosts.bucket / "studies" / name
        self.said = ""
        space = cluster.hosts.folder / "head" / "current.yaml"
        space.write_text(yaml.safe_dump(_space(further)))
        self._log = cluster.hosts.folder / "head" / "launch.log"

    def launch(self, *options: str) -> None:
        """Start or restart the driver."""
        command = shlex.join(
            ["python", "-m", "study.launch", "../current.yaml", "--name", self.name, *options]
        )
        script = (
            f". ~/.bashrc && . ~/.iresnet-study/environment && cd ~/iresnet-study && exec {command}"
        )
        head = self.cluster.hosts.head
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*self.cluster.hosts.ssh(head), f"bash -c {shlex.quote(script)}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def is_over(self) -> bool:
        return self._process.poll() is not None

    def n_epochs(self) -> int:
        return sum(map(len, reports(self.folder).values())) if self.folder.exists() else 0

    def finish(self) -> int:
        """Wait for the driver to end; returns its exit code."""
        try:
            code = self._process.wait(_STUDY_SECONDS)
        except subprocess.TimeoutExpired:
            self.cluster.hosts.head.kill("study.launch")
            code = self._process.wait()
        self.said += self._log.read_text()
        return code


def _round(cluster: Cluster, number: int, kinds: list[str], rng: random.Random) -> dict[str, Any]:
    """Run a study under these faults; returns what happened and the problems in its records."""
    name = f"current-{number}"
    study = Study(cluster, name, _FURTHER[number % len(_FURTHER)])
    start, n_resumes = time.monotonic(), 0
    struck: list[str] = []
    done: list[str] = []
    study.launch()
    for index, kind in enumerate(kinds):
        # The first fault in the first part of the study, the second in the second.
        low, high = (
            1 + index * N_TRIALS * N_EPOCHS * 0.45,
            (index + 1) * N_TRIALS * N_EPOCHS * 0.45,
        )
        at = rng.uniform(low, high)
        while study.n_epochs() < at and not study.is_over():
            time.sleep(0.1)  # between checks of its storage
        if study.is_over():
            break
        time.sleep(rng.uniform(0, 1))  # the random moment itself
        what = FAULTS[kind].strike(cluster, rng)
        if what is None:
            continue
        struck.append(kind)
        done.append(what)
        if FAULTS[kind].ends_driver:
            if study.finish() == 0:
                break  # it finished before the fault
            make_good(cluster)
            n_resumes += 1
            study.launch("--resume")
    while (code := study.finish()) != 0 and n_resumes < _MOST_RESUMES:
        make_good(cluster)
        n_resumes += 1
        study.launch("--resume")
    make_good(cluster)
    result: dict[str, Any] = {
        "round": number, "faults": struck, "what": done, "resumes": n_resumes, "resumed": code == 0,
        "seconds": round(time.monotonic() - start),
    }  # fmt: skip
    if code != 0:
        return {**result, "said": study.said[-3000:]}
    with cluster.database() as connection:
        result["problems"] = problems(connection, name, study.folder, N_TRIALS, N_EPOCHS)
    shutil.rmtree(study.folder)
    if result["problems"]:
        result["said"] = study.said[-3000:]
    return result


def _kinds(rounds: int, only: list[str], rng: random.Random) -> Iterator[list[str]]:
    """One or two kinds per round: the first from random permutations of all kinds, so that every
    kind occurs within as many rounds as there are kinds."""
    waiting: list[str] = []
    for _ in range(rounds):
        waiting = waiting or rng.sample(only, len(only))
        kinds = [waiting.pop()]
        if rng.random() < 0.4:
            kinds.append(rng.choice(only))
        yield kinds


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=sorted(FAULTS), default=sorted(FAULTS))
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    struck, n_problems, n_lost = Counter[str](), 0, 0
    with tempfile.TemporaryDirectory() as name:
        places = [Path(name) / part for part in ("hosts", "home")]
        for place in places:
            place.mkdir(mode=0o755)
        Path(name).chmod(0o755)
        with hosts(places[0]) as made, cluster(made, places[1]) as up:
            for number, kinds in enumerate(_kinds(arguments.rounds, arguments.only, rng)):
                result = _round(up, number, kinds, rng)
                print(json.dumps(result), flush=True)
                struck.update(result["faults"])
                n_lost += not result["resumed"]
                n_problems += len(result.get("problems", ()))
            up.down()
    print(f"{arguments.rounds} rounds, seed {arguments.seed}; faults: {dict(struck)}")
    print(f"studies that could not be resumed {n_lost}; lost, doubled or left {n_problems}")
    return int(n_lost > 0 or n_problems > 0)


if __name__ == "__main__":
    sys.exit(main())
