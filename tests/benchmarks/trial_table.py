"""Train the table of real trials that tests.benchmarks.replay draws from.

    python -m tests.benchmarks.trial_table DATA_ROOT OUT.json.gz [--wide 32] [--narrow 28]

DATA_ROOT holds MNIST in torchvision's layout. The study is STUDY below: MNIST at 16 x 16 pixels,
8,000 images, three wide invertible blocks, 9 epochs with Muon. Samples are Halton sequences over
the three hyperparameters: one in the ranges of STUDY, one in the NARROW ones of
search_spaces/paper_mnist.yaml. One training runs on each core. The table has every epoch's metrics
of every training and those of its projections down the LADDER, without fine-tuning; and the seconds
of CPU of each epoch and of the ladder; the full certificate of a completed training counts with its
last epoch. A run that was cut off goes on where it was, and a table that is there is given what it
lacks.

40 minutes on two cores of an AMD EPYC.
"""

import argparse
import gzip
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from study.config.file import load, locate
from study.config.parser import parse
from study.config.space import FloatParameter, IntParameter, Parameter
from study.config.study import StudyConfig
from study.metrics.definitions import TEST_ACCURACY
from study.metrics.reports import TrialStatus
from study.trial.data import sources
from study.trial.ladder import projections
from study.trial.randomness import choose_algorithms
from study.trial.training import Training

STUDY: dict[str, Any] = {
    "name": "trial-table",
    "data": {"name": "mnist", "size": 16, "max_train": 8000, "shift": 1, "val_fraction": 0.05},
    "model": {"blocks": [1, 1, 1], "bottleneck": 4, "channel_multiplier": 16},
    "training": {
        "max_epochs": 9,
        "batch_size": 64,
        "optimizer": "muon",
        "lr": 0.1,
        "lr_schedule": "one_cycle",
    },
    "space": {
        "coeff": {"type": "float", "low": 0.3, "high": 0.99},
        "n_power_iterations": {"type": "int", "low": 1, "high": 20, "log": True},
        "dropout": {"type": "float", "low": 0.0, "high": 0.5},
    },
    "objectives": {
        "val_accuracy": "maximize",
        "block_lipschitz_upper_bound": "minimize",
        "inverse_steps": "minimize",
    },
    "constraints": {"block_lipschitz_upper_bound": "< 1"},
    "reference_point": {
        "val_accuracy": 0.0,
        "block_lipschitz_upper_bound": 1.0,
        "inverse_steps": 20,
    },
    "evaluation": {"n_inverse_samples": 128},
    "search": {"sampler": "random", "n_trials": 1},
}
NARROW = load(locate("paper_mnist")).space
"""The part of the space of STUDY where samples of a study with a ladder belong."""
# So that a table can be given more samples of either kind.
_FIRST_NARROW_SEED = 1000
LADDER = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)


def halton(index: int, base: int) -> float:
    """The van der Corput number of an index >= 1, in (0, 1)."""
    value, denominator = 0.0, 1.0
    while index:
        index, digit = divmod(index, base)
        denominator *= base
        value += digit / denominator
    return value


def at_share(parameter: Parameter, share: float) -> int | float:
    """The value at a part, in (0, 1), of the way through a range, as the space means it: integers
    reach from half a unit below low to half a unit above high."""
    assert isinstance(parameter, FloatParameter | IntParameter)
    half = 0.5 if isinstance(parameter, IntParameter) else 0.0
    low, high = parameter.low - half, parameter.high + half
    value = low * (high / low) ** share if parameter.log else low + (high - low) * share
    if isinstance(parameter, IntParameter):
        return min(parameter.high, max(parameter.low, round(value)))
    return value


def sample(space: Iterable[tuple[str, Parameter]], number: int) -> dict[str, int | float]:
    """A point of a space of three parameters, uniform as the space means it."""
    return {
        key: at_share(parameter, halton(number + 1, base))
        for (key, parameter), base in zip(space, (2, 3, 5), strict=True)
    }


def train(study: StudyConfig, values: dict[str, int | float], seed: int) -> dict[str, Any]:
    """One training and its projections, as a row of the table."""
    torch.set_num_threads(1)
    choose_algorithms(deterministic=True)
    trial = replace(study.resolve(values, seed), ladder=tuple(coeff**3 for coeff in LADDER))
    dataset = sources.load(trial.data)
    # The replay has no use for test accuracy, and most of the time would go into it.
    few = dataset.test[:1]
    training = Training(trial, dataset=replace(dataset, test=few))
    row: dict[str, Any] = {
        "sample": values,
        "seed": seed,
        "epochs": [],
        "epoch_cpu_seconds": [],
        "projections": [],
        "ladder_cpu_seconds": 0.0,
    }
    while training.status is TrialStatus.RUNNING:
        start = time.process_time()
        report = training.run_to_report()
        row["epoch_cpu_seconds"].append(time.process_time() - start)
        if report.epoch is not None:
            row["epochs"].append(_without_test(report.epoch.metrics()))
    row["status"] = training.status.value
    if training.status is TrialStatus.COMPLETED:
        start = time.process_time()
        network = training.certified()
        certified = time.process_time()
        row["epoch_cpu_seconds"][-1] += certified - start
        reports = [projection.report for projection in projections(training, network)]
        for report in reports:
            values = _without_test(asdict(report))
            coeff = round(values.pop("projected_to") ** (1 / 3), 6)
            row["projections"].append({"coeff": coeff, **values})
        row["ladder_cpu_seconds"] = time.process_time() - certified
    return row


def _without_test(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if name != TEST_ACCURACY}


def _train(task: tuple[StudyConfig, dict[str, int | float], int]) -> dict[str, Any]:
    return train(*task)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data_root", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--wide", type=int, default=32)
    parser.add_argument("--narrow", type=int, default=28)
    arguments = parser.parse_args()
    raw = {**STUDY, "data": {**STUDY["data"], "root": str(arguments.data_root.resolve())}}
    study = parse(raw, "STUDY")
    partial = arguments.out.with_suffix(".partial")
    lines = partial.read_text().splitlines() if partial.exists() else []
    rows = [json.loads(line) for line in lines]
    if arguments.out.exists():
        rows += json.loads(gzip.decompress(arguments.out.read_bytes()))["rows"]
    done = {row["seed"] for row in rows}
    wide = [(sample(study.space, n), n) for n in range(arguments.wide)]
    narrow = [(sample(NARROW, n), _FIRST_NARROW_SEED + n) for n in range(arguments.narrow)]
    tasks = [(study, values, seed) for values, seed in wide + narrow if seed not in done]
    processes = multiprocessing.get_context("spawn").Pool(os.cpu_count())
    with processes as pool, partial.open("a") as file:
        for row in pool.imap_unordered(_train, tasks):
            rows.append(row)
            print(json.dumps(row), file=file, flush=True)
            print(f"{len(rows)} of {arguments.wide + arguments.narrow}", flush=True)
    rows.sort(key=lambda row: row["seed"])
    table = {
        "study": STUDY,
        "narrow": {key: asdict(parameter) for key, parameter in NARROW},
        "ladder": LADDER,
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
