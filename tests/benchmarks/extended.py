"""A study that is extended twice, killed with -9 each time, against one that was as long at once.

    python -m tests.benchmarks.extended [--seed 0] [--family]

A study on the digits with Muon, mo_asha and a ladder, one trial at a time: 14 trials in one go; and
8, extended to 11, and those to 14, the driver and all of Ray killed at a random moment of each
extension and resumed. Both must have the same trials, samples, rungs, projections and metrics, and
so the same front and hypervolume, bit for bit; no run twice, no metric twice, none left running.
Exits 1 otherwise. Two studies of two minutes or three on a quiet machine.
"""

import argparse
import json
import os
import random
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from study import report
from tests.benchmarks.kills import check, figures, space, variants_of
from tests.support.launched import Launch, epochs_logged, run

_N_TRIALS = (8, 11, 14)
_MOST_SECONDS = 1200.0


def _extend(folder: Path, file: Path, n_trials: int, rng: random.Random) -> bool:
    """Extend a study and kill it within that, then let it end; whether it really was killed."""
    # Three more trials train nine epochs at least, each of which takes a part of a second.
    goal = epochs_logged(folder) + rng.randint(2, 5)
    asked = [str(file), "--resume", "--trials", f"{n_trials}", "--name", "tiny"]
    with Launch(folder, *asked) as launched:
        is_killed = launched.kill_at(
            lambda: epochs_logged(folder) >= goal, delay=rng.uniform(0.0, 1.0)
        )
    print(f"  killed at {epochs_logged(folder)} epochs of {n_trials} trials", flush=True)
    if is_killed:
        run(folder, str(file), "--resume")
    return is_killed


def _front(folder: Path) -> dict[str, Any]:
    """The front and its hypervolume, as they are reported."""
    uri = f"sqlite:///{folder}/mlflow.db"
    arguments = ["tiny", "--format", "json", "--tracking-uri", uri]
    content = json.loads(CliRunner().invoke(report.app, arguments).stdout)
    points = {
        p["network"]: (p["front_share"], p["metrics"]["val_accuracy"]) for p in content["points"]
    }
    return {"front": points, "hypervolume": content["hypervolume"]}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--family", action="store_true", help="in place of the ladder")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        whole, extended = Path(one), Path(other)
        make = partial(space, cpus=os.cpu_count() or 1, own=False, family=arguments.family)
        run(whole, str(make(whole, _N_TRIALS[-1])), seconds=_MOST_SECONDS)
        file = make(extended, _N_TRIALS[0])
        run(extended, str(file), seconds=_MOST_SECONDS)
        n_killed = sum(_extend(extended, file, n_trials, rng) for n_trials in _N_TRIALS[1:])
        for folder in (whole, extended):
            books = check(folder, _N_TRIALS[-1], variants=variants_of(file))
            print(books, _front(folder), flush=True)
        is_same = figures(whole) == figures(extended) and _front(whole) == _front(extended)
        print(f"{n_killed} kills; every number the same bit for bit: {is_same}")
    return int(not (is_same and n_killed == len(_N_TRIALS) - 1))


if __name__ == "__main__":
    sys.exit(main())
