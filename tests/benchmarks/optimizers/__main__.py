"""Muon beside SGD after as many steps, in studies of some seeds, as a user runs them.

    python -m tests.benchmarks.optimizers DATA_ROOT [--files mnist mnist55] [--seeds 5] [--folder F]

DATA_ROOT has MNIST in torchvision's layout. Launches the study files beside this one, each for
every seed, into F; what has run there already is taken from it, and what was interrupted goes on.
Prints, for each sample, the median over the seeds of the validation accuracy after the last epoch,
and the least and the most.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

_VARIED = ("coeff", "optimizer")


def launch(file: Path, seed: int, data_root: str, folder: Path, uri: str, is_resumed: bool) -> None:
    command = [sys.executable, "-m", "study.launch", str(file), "--name", f"{file.stem}-{seed}"]
    command += ["--tracking-uri", uri, "--storage-path", str(folder.resolve())]
    command += ["--resume"] if is_resumed else ["--seed", str(seed), "--data-root", data_root]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def accuracies(name: str, uri: str) -> dict[str, float]:
    """Sample -> validation accuracy; nan for a trial that diverged."""
    command = [sys.executable, "-m", "study.report", name, "--all", "--format", "json"]
    done = subprocess.run(
        [*command, "--tracking-uri", uri], check=True, capture_output=True, text=True
    )
    return {
        " ".join(point["params"][key] for key in _VARIED): point["metrics"].get(
            "val_accuracy", float("nan")
        )
        for point in json.loads(done.stdout)["points"]
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data_root")
    parser.add_argument("--files", nargs="+", default=["mnist", "mnist55"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("optimizers"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(exist_ok=True)
    uri = f"sqlite:///{arguments.folder.resolve()}/mlflow.db"
    for name in arguments.files:
        file = Path(__file__).with_name(f"{name}.yaml")
        by_sample: dict[str, list[float]] = defaultdict(list)
        for seed in range(arguments.seeds):
            started = arguments.folder / f"{name}-{seed}.started"
            done = started.with_suffix(".done")
            if not done.exists():
                is_resumed = started.exists()
                started.touch()
                launch(file, seed, arguments.data_root, arguments.folder, uri, is_resumed)
                done.touch()
            for sample, accuracy in accuracies(f"{name}-{seed}", uri).items():
                by_sample[sample].append(accuracy)
        for sample, values in by_sample.items():
            print(
                f"{name:8} {sample:20} {statistics.median(values):.4f} "
                f"[{min(values):.4f}, {max(values):.4f}] of {len(values)} seeds",
                flush=True,
            )


if __name__ == "__main__":
    main()
