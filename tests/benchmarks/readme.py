"""The figures of the README, made again: every command that made one, with what it prints.

    python -m tests.benchmarks.readme DATA_ROOT [--only NAME ...]

DATA_ROOT has MNIST in torchvision's layout. Nothing else should run. In a temporary folder, one
after another, each with the seconds that it took:

    study      the default study, its front, and the proof of its knee
    bounds     bounds of layers against dense norms
    real       points on reported fronts that are not real, ours and stock
    training   the front of one MNIST training
    inverse    the proven error of the inverse of 55 blocks
    stock      paper_mnist.yaml beside stock Ray Tune for the same time
    kills      five kills with -9, twice

Without --only all but `inverse` and `stock`, which take half an hour and forty minutes; the others
take twenty minutes on two cores. Exits 1 if one of them fails.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.alternating import machine
from tests.support.launched import ROOT

FIGURES = {
    "study": (
        "study.launch",
        "study.report digits",
        "study.verify digits@knee",
    ),
    "bounds": ("tests.benchmarks.bounds",),
    "real": ("tests.benchmarks.replay --only stock mo_asha",),
    "training": (
        "tests.benchmarks.one_training DATA_ROOT --data mnist --ways plain --seeds 1 --epochs 6 "
        "--threads 2",
    ),
    "inverse": ("tests.benchmarks.deep_inverse DATA_ROOT deep",),
    "stock": ("tests.benchmarks.real_run DATA_ROOT real_run",),
    "kills": ("tests.benchmarks.kills",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the figures of the README again.")
    parser.add_argument("data_root", type=Path)
    usual = [name for name in FIGURES if name not in ("inverse", "stock")]
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=usual)
    arguments = parser.parse_args()
    data_root = str(arguments.data_root.resolve())
    print(machine(), flush=True)
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.only:
            for command in FIGURES[name]:
                print(f"\n$ python -m {command}", flush=True)
                start = time.monotonic()
                words = [data_root if word == "DATA_ROOT" else word for word in command.split()]
                environment = {**os.environ, "PYTHONPATH": str(ROOT)}
                # As a user's Python does, each of the processes keeps its bytecode.
                environment.pop("PYTHONDONTWRITEBYTECODE", None)
                done = subprocess.run(
                    [sys.executable, "-m", *words], cwd=folder, env=environment, check=False
                )
                print(
                    f"# {time.monotonic() - start:.0f} s, exit code {done.returncode}", flush=True
                )
                if done.returncode:
                    failed.append(command)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
