"""The real thing: a shipped study of this project beside stock Ray Tune, for the same time.

    python -m tests.benchmarks.real_run DATA_ROOT FOLDER [--study paper_mnist]

DATA_ROOT holds the data of the study in torchvision's layout. Each arm trains a trial on each core:

    ours      `python -m study.launch STUDY`, the shipped file as it is, to its end, with MLflow
    stock     Ray Tune with OptunaSearch on the same objectives, no trial stopped, actors reused,
              and Ray's MLflowLoggerCallback, for as long as ours took. Its trainable trains the
              same network on the same split for as many epochs, and measures it by the same code.
              It has the paper's optimizer, SGD, with one cycle, and no ladder. Its ranges are wide:
              it has to find small bounds by training, coeff 0.3 to 0.99, 1 to 20 power iterations,
              dropout up to 0.5.
    informed  the same with the study's own optimizer, settings and ranges. It still has no ladder.

From stock to informed, only optimizer and ranges change; from informed to ours, only the search
and the ladder. A fourth line, "no ladder", is what ours trained without what its ladder made of it:
from informed to that, only the search changes.

What stock and informed had not finished when their time was over does not count as a network, but
its epochs do. FOLDER gets the records of all and front.png, their networks and fronts in one
picture. Prints the points, the hypervolume from the study's reference point, and the largest
accuracy at three bounds, validation and test. Run with nothing else running. Three times the time
of the study: an hour for paper_mnist on two cores.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback

from study.config.file import load, locate
from study.config.space import FloatParameter, IntParameter, Parameter
from study.config.study import StudyConfig
from study.metrics.definitions import (
    INVERSE_STEPS,
    LIPSCHITZ_UPPER_BOUND,
    TEST_ACCURACY,
    VAL_ACCURACY,
)
from study.metrics.reports import TrialStatus
from study.pareto import dominance, points
from study.pareto.dominance import Losses
from study.results.report import find_study
from study.tracking.client import Client
from study.tracking.records import Records
from study.trial import sources
from study.trial.randomness import choose_algorithms
from study.trial.training import Training
from tests.benchmarks.alternating import machine
from tests.benchmarks.replay import stock_search, stock_space

_ROOT = Path(__file__).parents[2]
_STOCK = ("stock", "informed")
_MANY = 10_000
_BOUNDS = (0.75, 0.13, 0.03)
_TimedPoints = list[tuple[float, dict[str, float]]]
"""(seconds after the start, metrics) of each network."""


class StockTrainable(tune.Trainable):
    """What a user of stock Tune would write around the same training: an epoch a step."""

    def setup(self, config: dict[str, Any], study: StudyConfig, log: str) -> None:
        torch.set_num_threads(1)
        self._study, self._log = study, Path(log)
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

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """The trained network; Tune asks for it at the end of a trial."""
        torch.save(self._training.model.state_dict(), Path(checkpoint_dir) / "model.pt")


def _study(name: str, data_root: str) -> StudyConfig:
    study = load(locate(name))
    return replace(study, data=replace(study.data, root=data_root))


def _domain(parameter: Parameter) -> Any:
    """A parameter of ours, as Ray says it."""
    if isinstance(parameter, FloatParameter):
        return (tune.loguniform if parameter.log else tune.uniform)(parameter.low, parameter.high)
    if isinstance(parameter, IntParameter):
        return (tune.lograndint if parameter.log else tune.randint)(
            parameter.low, parameter.high + 1
        )
    return tune.choice(list(parameter.choices))


def run_stock(study: StudyConfig, arm: str, folder: Path, seconds: float) -> None:
    """Stock Ray Tune until its time is over."""
    stock = replace(study, search=replace(study.search, ladder=()))
    space = {name: _domain(parameter) for name, parameter in study.space}
    if arm == "stock":
        recipe = replace(study.training, optimizer="sgd", lr=0.1, lr_schedule="one_cycle")
        stock, space = replace(stock, training=recipe), stock_space()
    parameters: dict[str, Any] = {"study": stock, "log": str(folder / f"{arm}.jsonl")}
    tune.Tuner(
        tune.with_resources(
            tune.with_parameters(StockTrainable, **parameters),
            {"cpu": study.resources.cpus, "gpu": study.resources.gpus},
        ),
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=stock_search(stock, seed=0),
            num_samples=_MANY,
            max_concurrent_trials=os.cpu_count(),
            reuse_actors=True,
            time_budget_s=seconds,
        ),
        run_config=tune.RunConfig(
            name=arm,
            storage_path=str((folder / arm).resolve()),
            callbacks=[
                MLflowLoggerCallback(
                    tracking_uri=f"sqlite:///{folder / arm}.db", experiment_name=arm
                )
            ],
            verbose=0,
        ),
    ).fit()


def run_ours(study: str, data_root: str, folder: Path) -> None:
    """This project's command to its end."""
    subprocess.run(
        [
            *(sys.executable, "-m", "study.launch", study, "--name", "ours"),
            *("--data-root", data_root),
            *("--tracking-uri", f"sqlite:///{folder / 'ours.db'}"),
            *("--storage-path", str(folder / "ours")),
        ],
        cwd=_ROOT,
        check=True,
    )


def _stock_points(folder: Path, arm: str, start: float) -> tuple[_TimedPoints, int]:
    """The networks of stock Tune, and how many epochs it trained."""
    rows = [json.loads(line) for line in (folder / f"{arm}.jsonl").read_text().splitlines()]
    return [(row["time"] - start, row["metrics"]) for row in rows if row["done"]], len(rows)


def _our_points(folder: Path, start: float, *, with_ladder: bool) -> tuple[_TimedPoints, int]:
    """Ours, when their runs in MLflow had ended, with all that belongs to them; and how many epochs
    were trained."""
    records = Records(Client(f"sqlite:///{folder / 'ours.db'}"))
    timed: _TimedPoints = []
    n_epochs = 0
    for record in records.trials_and_projections(find_study(records, "ours")):
        n_epochs += record.n_epochs
        counts = with_ladder or record.projected_to is None
        if counts and record.state is TrialStatus.COMPLETED and record.ended is not None:
            timed.append((record.ended - start, dict(record.metrics)))
    return timed, n_epochs


def _admitted(timed: _TimedPoints, seconds: float, study: StudyConfig) -> list[dict[str, float]]:
    """The networks that the front admits and that were there by then."""
    return [
        m
        for at, m in timed
        if at <= seconds and points.admitted(m, study.objectives, study.constraints)
    ]


def _losses(metrics: Sequence[dict[str, float]], study: StudyConfig) -> Losses:
    return points.losses(metrics, study.objectives)


def report(study: StudyConfig, folder: Path) -> None:
    """Print all, and draw their fronts."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import NullFormatter

    times = json.loads((folder / "times.json").read_text())
    seconds = times["seconds"]
    reference = points.reference_losses(study.objectives)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5))
    print(machine())
    print(f"{seconds / 60:.1f} minutes; reference point", end=" ")
    print({o.metric: o.reference for o in study.objectives})
    drawn = (
        ("stock", _stock_points(folder, "stock", times["stock"]), "tab:orange", "x"),
        ("informed", _stock_points(folder, "informed", times["informed"]), "tab:green", "+"),
        ("no ladder", _our_points(folder, times["ours"], with_ladder=False), "tab:gray", "."),
        ("ours", _our_points(folder, times["ours"], with_ladder=True), "tab:blue", "o"),
    )
    curves: dict[str, list[tuple[float, float]]] = {}
    for name, (timed, n_epochs), color, marker in drawn:
        metrics = _admitted(timed, seconds, study)
        losses = _losses(metrics, study)
        kept = dominance.nondominated(losses)
        front = [m for m, stays in zip(metrics, kept, strict=True) if stays]
        print(
            f"{name}: {len(metrics)} networks of {n_epochs} epochs, {len(front)} on the front, "
            f"hypervolume {dominance.hypervolume(losses, reference):.4f}"
        )
        for bound in _BOUNDS:
            tight = [m for m in metrics if m[LIPSCHITZ_UPPER_BOUND] < bound]
            if not tight:
                print(f"  bound < {bound}: none")
                continue
            best = max(tight, key=lambda m: m[VAL_ACCURACY])
            print(
                f"  bound < {bound}: validation {best[VAL_ACCURACY]:.4f}, test "
                f"{best[TEST_ACCURACY]:.4f}, bound {best[LIPSCHITZ_UPPER_BOUND]:.4f}, "
                f"{best[INVERSE_STEPS]:.1f} inverse steps"
            )
        for networks, alpha, label in ((metrics, 0.25, None), (front, 1.0, f"{name}, its front")):
            left.scatter(
                [m[LIPSCHITZ_UPPER_BOUND] for m in networks],
                [m[VAL_ACCURACY] for m in networks],
                c=color,
                marker=marker,
                s=18,
                alpha=alpha,
                label=label,
            )
        curves[name] = [
            (t / 60, dominance.hypervolume(_losses(_admitted(timed, t, study), study), reference))
            for t in np.linspace(0, seconds, 200)
        ]
        right.plot(*zip(*curves[name], strict=True), color=color, label=name)
    for name, other in permutations(curves, 2):
        end = curves[other][-1][1]
        at = next((t for t, volume in curves[name] if volume >= end), None)
        reached = "never" if at is None else f"after {at:.1f} minutes"
        print(f"{name} had {other}'s last hypervolume {reached}")
    left.set(
        xscale="log", xlabel="lipschitz_upper_bound", ylabel="val_accuracy", title="real networks"
    )
    left.xaxis.set_minor_formatter(NullFormatter())
    right.set(
        xlabel="minutes", ylabel="hypervolume", title="hypervolume of the real networks so far"
    )
    left.legend()
    right.legend()
    figure.tight_layout()
    figure.savefig(folder / "front.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data_root", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--study", default="paper_mnist")
    parser.add_argument("--only", choices=(*_STOCK, "report"), help="what a run is made of")
    parser.add_argument("--seconds", type=float, help="of stock or informed")
    arguments = parser.parse_args()
    folder, data_root = arguments.folder.resolve(), str(arguments.data_root.resolve())
    study = _study(arguments.study, data_root)
    if arguments.only in _STOCK:
        run_stock(study, arguments.only, folder, arguments.seconds)
        return
    if arguments.only is None:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            parser.error(f"FOLDER must be empty, but {folder} is not")
        starts = {"ours": time.time()}
        run_ours(arguments.study, data_root, folder)
        seconds = time.time() - starts["ours"]
        for arm in _STOCK:
            starts[arm] = time.time()
            # A process of its own, as ours has one: Ray is started anew.
            command = [sys.executable, "-m", "tests.benchmarks.real_run", data_root, str(folder)]
            options = ["--study", arguments.study, "--only", arm, "--seconds", str(seconds)]
            subprocess.run([*command, *options], cwd=_ROOT, check=True)
        (folder / "times.json").write_text(json.dumps({**starts, "seconds": seconds}))
    report(study, folder)


if __name__ == "__main__":
    main()
