"""The real thing: a study of this project and stock Ray Tune, for the same time, on MNIST.

    python -m tests.benchmarks.real_run DATA_ROOT FOLDER [--minutes 12]

DATA_ROOT holds MNIST in torchvision's layout. Both train the network of
tests.benchmarks.trial_table, on the same split, one trial on each core:

    ours    `python -m study.launch` with mo_asha, the ladder with fine-tuning, and MLflow
    stock   Ray Tune with OptunaSearch on the three objectives and no trial stopped, actors reused,
            no MLflow; its trainable trains and measures by the same code, without a ladder

What either had not finished when its time was over does not count; the clock of each starts with
its process. FOLDER gets the records of both and front.png, both fronts in one picture. Prints
points, hypervolume from one reference point, epochs and seconds. Run with nothing else running.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
import yaml
from mlflow.tracking import MlflowClient
from ray import tune

from study.config.parser import parse
from study.metrics import VAL_ACCURACY, TrialStatus
from study.pareto import dominance, points
from study.pareto.dominance import Losses
from study.results.read import find_study
from study.tracking.client import Client
from study.tracking.records import Records
from study.trial import sources
from study.trial.randomness import choose_algorithms
from study.trial.training import Training
from tests.benchmarks.alternating import machine
from tests.benchmarks.replay import MO_ASHA, stock_search, stock_space
from tests.benchmarks.trial_table import FINE_TUNE_STEPS, LADDER, STUDY

_ROOT = Path(__file__).parents[2]
_MANY = 10_000


def _raw(data_root: Path, hours: float) -> dict[str, Any]:
    search = {
        "sampler": "tpe",
        "n_trials": _MANY,
        "seed": 0,
        "ladder": list(LADDER),
        "fine_tune_steps": FINE_TUNE_STEPS,
        "max_hours": hours,
    }
    settings = {**STUDY["data"], "root": str(data_root.resolve())}
    return {**STUDY, "name": "ours", "data": settings, "search": search, "scheduler": MO_ASHA}


class StockTrainable(tune.Trainable):
    """What a user of stock Tune would write around the same training: an epoch a step."""

    def setup(self, config: dict[str, Any], raw: dict[str, Any], log: str) -> None:
        torch.set_num_threads(1)
        self._study, self._log = parse(raw, "STUDY"), Path(log)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        trial = self._study.resolve(new_config, seed=zlib.crc32(str(new_config).encode()))
        choose_algorithms(deterministic=True)
        self._training = Training(trial, dataset=sources.load(trial.data))
        return True

    def step(self) -> dict[str, Any]:
        report = self._training.run_to_report()
        assert report.epoch is not None
        metrics = report.epoch.metrics()
        done = report.status is not TrialStatus.RUNNING
        with self._log.open("a") as file:
            row = {"time": time.time(), "done": done, "metrics": metrics}
            print(json.dumps(row), file=file, flush=True)
        return {**metrics, "done": done}


def run_stock(data_root: Path, folder: Path, minutes: float) -> None:
    """Stock Ray Tune until its time is over."""
    raw = _raw(data_root, minutes / 60)
    log = folder / "stock.jsonl"
    tune.Tuner(
        tune.with_resources(
            tune.with_parameters(StockTrainable, raw=raw, log=str(log)), {"cpu": 1}
        ),
        param_space=stock_space(),
        tune_config=tune.TuneConfig(
            search_alg=stock_search(parse(raw, "STUDY"), seed=0),
            num_samples=_MANY,
            max_concurrent_trials=os.cpu_count(),
            reuse_actors=True,
            time_budget_s=60 * minutes,
        ),
        run_config=tune.RunConfig(
            name="stock", storage_path=str((folder / "stock").resolve()), verbose=0
        ),
    ).fit()


def run_ours(data_root: Path, folder: Path, minutes: float) -> None:
    """This project's command until its time is over and what ran then has ended."""
    path = folder / "ours.yaml"
    path.write_text(yaml.safe_dump(_raw(data_root, minutes / 60)))
    subprocess.run(
        [
            *(sys.executable, "-m", "study.launch", str(path.resolve())),
            *("--tracking-uri", f"sqlite:///{(folder / 'ours.db').resolve()}"),
            *("--storage-path", str((folder / "ours").resolve())),
        ],
        cwd=_ROOT,
        check=True,
    )


TimedPoints = list[tuple[float, dict[str, float]]]
"""(seconds after the start, metrics) of each point."""


def _stock_points(folder: Path, start: float) -> tuple[TimedPoints, list[float]]:
    """Points of stock, and when each epoch ended."""
    rows = [json.loads(line) for line in (folder / "stock.jsonl").read_text().splitlines()]
    timed = [(row["time"] - start, row["metrics"]) for row in rows if row["done"]]
    return timed, [row["time"] - start for row in rows]


def _our_points(folder: Path, start: float) -> tuple[TimedPoints, list[float]]:
    """Points of ours, projections included, when their runs in MLflow had ended, with all that
    belongs to them; and when each epoch ended."""
    uri = f"sqlite:///{(folder / 'ours.db').resolve()}"
    records, client = Records(Client(uri)), MlflowClient(uri)
    study = find_study(records, "ours")
    timed: TimedPoints = []
    epochs: list[float] = []
    for record in records.trials_and_projections(study):
        history = client.get_metric_history(record.run_id, VAL_ACCURACY)
        ends = [point.timestamp / 1000 - start for point in history]
        if record.projected_to is None:
            epochs += ends
        if record.state is TrialStatus.COMPLETED:
            ended = client.get_run(record.run_id).info.end_time / 1000 - start
            timed.append((ended, dict(record.metrics)))
    return timed, epochs


def _within(timed: TimedPoints, seconds: float, study: Any) -> Losses:
    """Admitted points that were there by then, as losses."""
    metrics = [
        m
        for at, m in timed
        if at <= seconds and points.admitted(m, study.objectives, study.constraints)
    ]
    return points.losses(metrics, study.objectives)


def report(data_root: Path, folder: Path, minutes: float) -> None:
    """Print both, and draw both fronts."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import NullFormatter

    study = parse(_raw(data_root, minutes / 60), "STUDY")
    starts = json.loads((folder / "starts.json").read_text())
    reference = points.reference_losses(study.objectives)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5))
    print(machine())
    print("reference point", {o.metric: o.reference for o in study.objectives})
    reading = {"ours": _our_points, "stock": _stock_points}
    steps_an_epoch = study.data.max_train / study.training.batch_size
    curves: dict[str, list[tuple[float, float]]] = {}
    for name, color, marker in (("stock", "tab:orange", "x"), ("ours", "tab:blue", "o")):
        timed, epochs = reading[name](folder, starts[name])
        losses = _within(timed, 60 * minutes, study)
        front = losses[dominance.nondominated(losses)]
        volume = dominance.hypervolume(losses, reference)
        n_epochs = float(sum(at <= 60 * minutes for at in epochs))
        n_projected = sum(at <= 60 * minutes and "train_loss" not in m for at, m in timed)
        if name == "ours":
            n_epochs += n_projected * study.search.fine_tune_steps / steps_an_epoch
        print(
            f"{name}: {len(losses)} points ({n_projected} projected), {len(front)} on the front, "
            f"hypervolume {volume:.4f}, best val_accuracy {-losses[:, 0].min():.4f}, "
            f"{n_epochs:.0f} epochs, {60 * minutes:.0f} s"
        )
        left.scatter(front[:, 1], -front[:, 0], c=color, marker=marker, s=18, label=name)
        times = np.linspace(0, 60 * minutes, 200)
        curves[name] = [
            (t / 60, dominance.hypervolume(_within(timed, t, study), reference)) for t in times
        ]
        right.plot(*zip(*curves[name], strict=True), color=color, label=name)
    for name, other in (("ours", "stock"), ("stock", "ours")):
        end = curves[other][-1][1]
        at = next((t for t, volume in curves[name] if volume >= end), None)
        reached = "never" if at is None else f"after {at:.1f} minutes"
        print(f"{name} had {other}'s last hypervolume {reached}")
    left.set(xscale="log", xlabel="lipschitz_upper_bound", ylabel="val_accuracy", title="fronts")
    left.xaxis.set_minor_formatter(NullFormatter())
    right.set(xlabel="minutes", ylabel="hypervolume", title="real points so far")
    left.legend()
    right.legend()
    figure.tight_layout()
    figure.savefig(folder / "front.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data_root", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--only", choices=("stock", "ours", "report"))
    arguments = parser.parse_args()
    folder, minutes = arguments.folder.resolve(), arguments.minutes
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.only is None and any(folder.iterdir()):
        parser.error(f"FOLDER must be empty, but {folder} is not")
    if arguments.only == "stock":
        run_stock(arguments.data_root, folder, minutes)
    elif arguments.only == "ours":
        run_ours(arguments.data_root, folder, minutes)
    elif arguments.only is None:
        starts = {}
        for name in ("stock", "ours"):
            starts[name] = time.time()
            command = [sys.executable, "-m", "tests.benchmarks.real_run", "--only", name]
            paths = [str(arguments.data_root), str(folder), "--minutes", str(minutes)]
            subprocess.run([*command, *paths], cwd=_ROOT, check=True)
        (folder / "starts.json").write_text(json.dumps(starts))
    if arguments.only in (None, "report"):
        report(arguments.data_root, folder, minutes)


if __name__ == "__main__":
    main()
