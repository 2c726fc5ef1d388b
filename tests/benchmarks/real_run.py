"""The real thing: a shipped study of this project beside stock Ray Tune, for the same time.

    python -m tests.benchmarks.real_run DATA_ROOT FOLDER [--study digits] [--separate FILE]
        [--seeds 5]

DATA_ROOT holds the data of the study in torchvision's layout. FILE, by default
separate_digits.yaml, is a study of the same data and objectives whose trials train one network
each. Each arm runs a trial on each core:

    ours      `python -m study.launch STUDY`, the shipped file as it is, to its end, with MLflow
    ladder    `python -m study.launch FILE`, for as long as ours took
    stock     Ray Tune with OptunaSearch on the same objectives, no trial stopped, actors reused,
              and Ray's MLflowLoggerCallback, for as long as ours took. Its trainable trains the
              network of FILE on the same split for as many epochs, and measures it by the same
              code. It has the paper's optimizer, SGD, with one cycle, and no ladder. Its ranges are
              wide, those of somebody who does not know where to look: coeff from FILE's least to
              0.99, 1 to 20 power iterations, dropout up to 0.5, and FILE's own for the rest.
    informed  the same with FILE's own optimizer, settings and ranges. It still has no ladder.

From stock to informed, only optimizer and ranges change; from informed to ladder, only the search
and the ladder. A further line, "no ladder", is what that arm trained without what its ladder made
of it. It is less than a study without a ladder would have: that took part of the time, and the
sampler proposed what would be good with it.

What an arm had not finished when its time was over does not count as a network, but its epochs do.
FOLDER gets the records of all and front.png, the networks and fronts of the first seed. Prints, as
medians over the seeds with the least and the most, the networks, the hypervolume from the study's
reference point, and the best of the accuracies at three bounds. Run with nothing else running. Four
times the time of the study for each seed: a quarter of an hour for digits with five seeds, two
hours for paper_mnist with one, on two cores of an Intel Xeon.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    BLOCK_LIPSCHITZ_UPPER_BOUND,
    CERTIFIED_ACCURACY,
    INVERSE_LIPSCHITZ_UPPER_BOUND,
    TEST_ACCURACY,
    VAL_ACCURACY,
)
from study.metrics.goals import reference_text
from study.metrics.reports import CONTROL, TrialStatus
from study.pareto import dominance, points
from study.pareto.dominance import Losses
from study.results.report import find_study
from study.tracking.records import Records
from study.tracking.server.client import Client
from study.trial.data import sources
from study.trial.randomness import choose_algorithms
from study.trial.training import Training
from tests.benchmarks.alternating import machine
from tests.benchmarks.family import SEPARATE
from tests.benchmarks.replay import stock_search, stock_space

_ROOT = Path(__file__).parents[2]
_STOCK = ("stock", "informed")
_MANY = 10_000
_BOUNDS = {
    BLOCK_LIPSCHITZ_UPPER_BOUND: (0.75, 0.13, 0.03),
    INVERSE_LIPSCHITZ_UPPER_BOUND: (1e6, 100.0, 5.0),
}
"""Of the objective of that name."""
_BEST = (VAL_ACCURACY, CERTIFIED_ACCURACY)
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
            row = {
                "time": time.time(),
                "done": done,
                "metrics": metrics,
                "n_epochs": self._study.training.report_every,
            }
            print(json.dumps(row), file=file, flush=True)
        return {**metrics, "done": done}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """The trained network; Tune asks for it at the end of a trial."""
        torch.save(self._training.model.state_dict(), Path(checkpoint_dir) / "model.pt")


def _study(name: str, data_root: str, seed: int) -> StudyConfig:
    study = load(locate(name))
    data, search = replace(study.data, root=data_root), replace(study.search, seed=seed)
    return replace(study, data=data, search=search)


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
        stock = replace(stock, training=recipe)
        coeff = dict(study.space)["coeff"]
        assert isinstance(coeff, FloatParameter)
        space |= {**stock_space(), "coeff": tune.loguniform(coeff.low, 0.99)}
    parameters: dict[str, Any] = {"study": stock, "log": str(folder / f"{arm}.jsonl")}
    tune.Tuner(
        tune.with_resources(
            tune.with_parameters(StockTrainable, **parameters),
            {"cpu": study.resources.cpus, "gpu": study.resources.gpus},
        ),
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=stock_search(stock, seed=study.search.seed),
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


def run_ours(
    arm: str, study: str, data_root: str, seed: int, folder: Path, seconds: float | None = None
) -> None:
    """This project's command to its end, or for a time."""
    limit = () if seconds is None else ("--max-hours", str(seconds / 3600))
    subprocess.run(
        [
            *(sys.executable, "-m", "study.launch", study, "--name", arm),
            *("--data-root", data_root),
            *("--seed", str(seed)),
            *("--tracking-uri", f"sqlite:///{folder / arm}.db"),
            *("--storage-path", str(folder / arm)),
            *limit,
        ],
        cwd=_ROOT,
        check=True,
    )


def _stock_points(folder: Path, arm: str, start: float) -> tuple[_TimedPoints, int]:
    """The networks of stock Tune, and how many epochs it trained."""
    rows = [json.loads(line) for line in (folder / f"{arm}.jsonl").read_text().splitlines()]
    networks = [(row["time"] - start, row["metrics"]) for row in rows if row["done"]]
    return networks, sum(row["n_epochs"] for row in rows)


def _our_points(
    folder: Path, arm: str, start: float, *, with_ladder: bool = True
) -> tuple[_TimedPoints, int]:
    """Ours, when their runs in MLflow had ended, with all that belongs to them; and how many epochs
    were trained."""
    records = Records(Client(f"sqlite:///{folder / arm}.db"))
    timed: _TimedPoints = []
    n_epochs = 0
    for record in records.trials_and_projections(find_study(records, arm)):
        n_epochs += record.n_epochs
        counts = record.variant is None or (with_ladder and record.projected_to != CONTROL)
        if counts and record.state is TrialStatus.COMPLETED and record.ended is not None:
            timed.append((record.ended - start, dict(record.metrics)))
    return timed, n_epochs


@dataclass(frozen=True)
class _Arm:
    """The networks of an arm with one seed that the front admits, and when each was there.

    Attributes:
        ends: seconds after the start.
        seconds: how long the arm had.
    """

    metrics: list[dict[str, float]]
    ends: list[float]
    n_epochs: int
    seconds: float
    study: StudyConfig

    @classmethod
    def of(cls, timed: _TimedPoints, n_epochs: int, seconds: float, study: StudyConfig) -> "_Arm":
        kept = [
            (metrics, at)
            for at, metrics in timed
            if at <= seconds and points.admitted(metrics, study.objectives, study.constraints)
        ]
        return cls([m for m, _ in kept], [at for _, at in kept], n_epochs, seconds, study)

    @property
    def losses(self) -> Losses:
        return points.scaled_losses(self.metrics, self.study.objectives)

    def hypervolume(self, seconds: float) -> float:
        """Of the networks that were there by then."""
        reference = points.reference_losses(self.study.objectives)
        return dominance.hypervolume(self.losses[np.array(self.ends) <= seconds], reference)

    def figures(self) -> dict[str, float]:
        """What is printed of it, by name; NaN where there is none."""
        found = {
            "epochs": self.n_epochs,
            "networks": len(self.metrics),
            "on the front": int(dominance.nondominated(self.losses).sum()),
            "hypervolume": self.hypervolume(self.seconds),
        }
        for objective in self.study.objectives:
            for bound in _BOUNDS.get(objective.metric, ()):
                within = [m for m in self.metrics if m[objective.metric] <= bound]
                rule = f"with {objective.metric} <= {bound:g}"
                for name in _BEST:
                    best = max((m[name] for m in within if name in m), default=math.nan)
                    found[f"best {name} {rule}"] = best
                chosen = max(within, key=lambda m: m[VAL_ACCURACY], default={})
                found[f"{TEST_ACCURACY} of the most accurate {rule}"] = chosen.get(
                    TEST_ACCURACY, math.nan
                )
        return found


def _arms(study: StudyConfig, folder: Path) -> dict[str, _Arm]:
    times = json.loads((folder / "times.json").read_text())
    read = {
        **{arm: _stock_points(folder, arm, times[arm]) for arm in _STOCK},
        "no ladder": _our_points(folder, "ladder", times["ladder"], with_ladder=False),
        "ladder": _our_points(folder, "ladder", times["ladder"]),
        "ours": _our_points(folder, "ours", times["ours"]),
    }
    return {name: _Arm.of(*of, times["seconds"], study) for name, of in read.items()}


def _spread(values: Sequence[float]) -> str:
    there = [value for value in values if not math.isnan(value)]
    if not there:
        return "none"
    text = f"{statistics.median(there):.4g} [{min(there):.4g}, {max(there):.4g}]"
    return text if len(there) == len(values) else f"{text}, {len(there)} of {len(values)} seeds"


def report(study: StudyConfig, folders: Sequence[Path]) -> None:
    """Print all, and draw those of the first folder."""
    seeds = [_arms(study, folder) for folder in folders]
    print(machine())
    print(f"{len(seeds)} seeds of {_spread([arms['ours'].seconds for arms in seeds])} s; reference "
          f"point {reference_text(study.objectives)}")  # fmt: skip
    for name in seeds[0]:
        print(name)
        rows = [arms[name].figures() for arms in seeds]
        for figure in rows[0]:
            print(f"  {figure}: {_spread([row[figure] for row in rows])}")
    for name, other in permutations(seeds[0], 2):
        reached = []
        for arms in seeds:
            ours, goal = arms[name], arms[other].hypervolume(arms[other].seconds)
            ends = sorted(end for end in ours.ends if ours.hypervolume(end) >= goal)
            reached.append(ends[0] if ends else math.inf)
        print(f"{name} had {other}'s last hypervolume after {_spread(reached)} s")
    _draw(seeds[0], folders[0].parent / "front.png")


def _draw(arms: dict[str, _Arm], path: Path) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    study = arms["ours"].study
    across = next(o.metric for o in study.objectives if o.metric in _BOUNDS)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5))
    looks = {
        "stock": ("tab:orange", "x"),
        "informed": ("tab:green", "+"),
        "ladder": ("tab:purple", "^"),
        "ours": ("tab:blue", "o"),
    }
    for name, (color, marker) in looks.items():
        arm = arms[name]
        kept = dominance.nondominated(arm.losses)
        for is_front, alpha, label in ((False, 0.25, None), (True, 1.0, f"{name}, its front")):
            of = [m for m, stays in zip(arm.metrics, kept, strict=True) if stays or not is_front]
            x, y = ([m[axis] for m in of] for axis in (across, VAL_ACCURACY))
            left.scatter(x, y, c=color, marker=marker, s=18, alpha=alpha, label=label)
        seconds = np.linspace(0, arm.seconds, 200)
        right.plot(seconds / 60, [arm.hypervolume(t) for t in seconds], color=color, label=name)
    left.set(xscale="log", xlabel=across, ylabel=VAL_ACCURACY, title="real networks")
    right.set(xlabel="minutes", ylabel="hypervolume", title="hypervolume of them so far")
    left.legend()
    right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def _run(study: str, separate: str, data_root: str, seed: int, folder: Path) -> None:
    folder.mkdir()
    starts = {"ours": time.time()}
    run_ours("ours", study, data_root, seed, folder)
    seconds = time.time() - starts["ours"]
    starts["ladder"] = time.time()
    run_ours("ladder", separate, data_root, seed, folder, seconds)
    for arm in _STOCK:
        starts[arm] = time.time()
        # A process of its own, as ours has one: Ray is started anew.
        command = [sys.executable, "-m", "tests.benchmarks.real_run", data_root, str(folder)]
        options = [
            "--separate",
            separate,
            "--seed",
            str(seed),
            "--only",
            arm,
            "--seconds",
            str(seconds),
        ]
        subprocess.run([*command, *options], cwd=_ROOT, check=True)
    (folder / "times.json").write_text(json.dumps({**starts, "seconds": seconds}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data_root", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--study", default="digits")
    parser.add_argument("--separate", default=str(SEPARATE))
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--only", choices=(*_STOCK, "report"), help="what a run is made of")
    parser.add_argument("--seed", type=int, help="of stock or informed")
    parser.add_argument("--seconds", type=float, help="of stock or informed")
    arguments = parser.parse_args()
    folder, data_root = arguments.folder.resolve(), str(arguments.data_root.resolve())
    if arguments.only in _STOCK:
        study = _study(arguments.separate, data_root, arguments.seed)
        run_stock(study, arguments.only, folder, arguments.seconds)
        return
    folders = [folder / str(seed) for seed in range(arguments.seeds)]
    if arguments.only is None:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            parser.error(f"FOLDER must be empty, but {folder} is not")
        for seed, of_seed in enumerate(folders):
            _run(arguments.study, arguments.separate, data_root, seed, of_seed)
    report(_study(arguments.study, data_root, 0), folders)


if __name__ == "__main__":
    main()
