"""Train the table of real trials that tests.benchmarks.replay draws from.

    python -m tests.benchmarks.trial_table DATA_ROOT OUT.json.gz [--samples 64] [--repeated 32]

DATA_ROOT holds MNIST in torchvision's layout. The study is STUDY below: MNIST at 16 x 16 pixels,
8,000 images, three wide invertible blocks, 9 epochs. Samples are a Halton sequence over the
three hyperparameters; the first ones are trained a second time, with another seed. One training
runs on each core. The table has every epoch's metrics of every training, and those of its
projections down the ladder, without fine-tuning and with FINE_TUNE_STEPS. A run that was cut off
goes on where it was.

About an hour on two cores.
"""

import argparse
import gzip
import json
import multiprocessing
import os
import platform
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from study.config.parser import parse
from study.config.study import StudyConfig
from study.metrics import TEST_ACCURACY, TrialStatus
from study.trial import data, sources
from study.trial.ladder import projections
from study.trial.randomness import choose_algorithms
from study.trial.training import Training

STUDY: dict[str, Any] = {
    "name": "trial-table",
    "data": {"name": "mnist", "size": 16, "max_train": 8000, "shift": 1, "val_fraction": 0.05},
    "model": {"blocks": [1, 1, 1], "bottleneck": 4, "channel_multiplier": 16},
    "training": {"max_epochs": 9, "batch_size": 64, "lr": 0.1, "lr_schedule": "step"},
    "space": {
        "coeff": {"type": "float", "low": 0.3, "high": 0.99},
        "n_power_iterations": {"type": "int", "low": 1, "high": 20, "log": True},
        "dropout": {"type": "float", "low": 0.0, "high": 0.5},
    },
    "objectives": {
        "val_accuracy": "maximize",
        "lipschitz_upper_bound": "minimize",
        "inverse_steps": "minimize",
    },
    "constraints": {"lipschitz_upper_bound": "< 1"},
    "reference_point": {"val_accuracy": 0.0, "lipschitz_upper_bound": 1.0, "inverse_steps": 20},
    "evaluation": {"n_inverse_samples": 128},
    "search": {"sampler": "random", "n_trials": 1},
}
LADDER = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
FINE_TUNE_STEPS = 40


def halton(index: int, base: int) -> float:
    """The van der Corput number of an index >= 1, in (0, 1)."""
    value, denominator = 0.0, 1.0
    while index:
        index, digit = divmod(index, base)
        denominator *= base
        value += digit / denominator
    return value


def sample(number: int) -> dict[str, Any]:
    """A point of the space of STUDY: its coordinates are uniform as the space means them."""
    coeff, iterations, dropout = (halton(number + 1, base) for base in (2, 3, 5))
    return {
        "coeff": round(0.3 + 0.69 * coeff, 4),
        "n_power_iterations": min(20, int(20**iterations + 0.5)),
        "dropout": round(0.5 * dropout, 4),
    }


def train(study: StudyConfig, number: int, repeat: int) -> dict[str, Any]:
    """One training and its projections, as a row of the table."""
    torch.set_num_threads(1)
    choose_algorithms(deterministic=True)
    trial = study.resolve(sample(number), seed=1000 * repeat + number)
    dataset = sources.load(trial.data)
    # The replay has no use for test accuracy, and most of the time would go into it.
    few = data.Split(dataset.test.images[:1], dataset.test.labels[:1])
    training = Training(trial, dataset=replace(dataset, test=few))
    epochs: list[dict[str, float]] = []
    while training.status is TrialStatus.RUNNING:
        report = training.run_to_report()
        if report.epoch is not None:
            epochs.append(_without_test(report.epoch.metrics()))
    row: dict[str, Any] = {
        "sample": sample(number),
        "number": number,
        "repeat": repeat,
        "status": training.status.value,
        "epochs": epochs,
        "projections": [],
    }
    if training.status is TrialStatus.COMPLETED:
        ladder = tuple(coeff for coeff in LADDER if coeff < trial.model.coeff)
        for n_steps in (0, FINE_TUNE_STEPS):
            training.config = replace(trial, ladder=ladder, fine_tune_steps=n_steps)
            reports = [asdict(projection.report) for projection in projections(training)]
            row["projections"] += [_without_test(report) for report in reports]
    return row


def _without_test(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if name != TEST_ACCURACY}


def _train(task: tuple[StudyConfig, int, int]) -> dict[str, Any]:
    return train(*task)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data_root", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--repeated", type=int, default=32)
    arguments = parser.parse_args()
    raw = {**STUDY, "data": {**STUDY["data"], "root": str(arguments.data_root.resolve())}}
    study = parse(raw, "STUDY")
    partial = arguments.out.with_suffix(".partial")
    lines = partial.read_text().splitlines() if partial.exists() else []
    rows = [json.loads(line) for line in lines]
    done = {(row["number"], row["repeat"]) for row in rows}
    tasks = [
        (study, number, repeat)
        for repeat, n_samples in enumerate((arguments.samples, arguments.repeated))
        for number in range(n_samples)
        if (number, repeat) not in done
    ]
    processes = multiprocessing.get_context("spawn").Pool(os.cpu_count())
    with processes as pool, partial.open("a") as file:
        for row in pool.imap_unordered(_train, tasks):
            rows.append(row)
            print(json.dumps(row), file=file, flush=True)
            print(f"{len(rows)} of {arguments.samples + arguments.repeated}", flush=True)
    rows.sort(key=lambda row: (row["number"], row["repeat"]))
    table = {
        "study": STUDY,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "rows": [_rounded(row) for row in rows],
    }
    text = json.dumps(table, separators=(",", ":"))
    # No time stamp in it, so that the same table is the same file.
    arguments.out.write_bytes(gzip.compress(text.encode(), mtime=0))
    partial.unlink()


def _rounded(value: Any) -> Any:
    """Six significant digits, which is more than seeds leave alike."""
    if isinstance(value, dict):
        return {key: _rounded(v) for key, v in value.items() if key != "timestamp"}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
