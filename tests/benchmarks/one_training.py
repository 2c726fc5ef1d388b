"""The front of one training, made in several ways, beside that of all trainings of the table.

    python -m tests.benchmarks.one_training DATA_ROOT [--data table] [--ways plain drawn]
        [--seeds 5] [--epochs 9] [--budget even] [--threads 1]

DATA_ROOT has MNIST in torchvision's layout. The data, the network and the number of epochs are
those of tests.benchmarks.trial_table, of search_spaces/paper_digits.yaml or of paper_mnist.yaml;
the recipe is Muon with one cycle, a coefficient of 0.95 and dropout 0.05. All ways take as many
steps:

    plain     trains at its coefficient and is projected down the ladder, as a study does
    tuned     the same in two thirds of the steps; the others are fine-tuning, alike on all rungs
    descent   trains at its coefficient for half of the steps, then lowers it to that of the last
              rung, by equal factors; at each rung a copy is projected
    drawn     each step has a coefficient of its own, drawn log-uniformly between the last rung's
              and 0.95; then as plain

Prints for each way the median over the seeds, the least and the most: validation accuracy and
inverse steps at each rung, and the hypervolume of the front from accuracy 0.8 and from 0.9, with
bound 1 and 20 inverse steps. Trains as many seeds at a time as cores / threads.
"""

import argparse
import copy
import math
import multiprocessing
import os
import random
import sys
import time
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch import Tensor

from models import IResNet, deployed, project, recompute_batch_norm
from models.blocks.bottleneck import ResidualBlock, layer_targets
from models.layers.spectral_norm import SpectralNormConv2d
from study.config.file import load, locate
from study.config.parser import parse
from study.config.trial import TrialConfig
from study.metrics.definitions import (
    BLOCK_LIPSCHITZ_UPPER_BOUND,
    INVERSE_STEPS,
    VAL_ACCURACY,
    Direction,
)
from study.metrics.reports import Evaluation, TrialStatus
from study.pareto.dominance import hypervolume
from study.pareto.points import as_losses
from study.trial.ladder import projections
from study.trial.measured.evaluation import measure, statistics_images
from study.trial.measured.network_files import Certified
from study.trial.randomness import choose_algorithms
from study.trial.training import Training
from tests.benchmarks.alternating import machine
from tests.benchmarks.replay import TABLE, Table
from tests.benchmarks.trial_table import STUDY

_COEFF = 0.95
# Coefficients; each rung's bound is the third power.
_LADDER = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
# Of the steps of a descent, the part at its own coefficient.
_HOLD = 0.5
# Of those of a tuned ladder, the part of the training.
_TRAINED = 2 / 3
# Coefficient -> what is measured of the network.
_Points = dict[float, Evaluation]


class _Drawn(Training):
    def __init__(self, config: TrialConfig) -> None:
        super().__init__(config)
        self._random = random.Random(config.seed)

    def _step(self, model: IResNet, *arguments: Any) -> tuple[Tensor, Tensor]:
        _set_coeff(model, _between(self._random.random()), self.config)
        return super()._step(model, *arguments)


class _Descent(Training):
    def __init__(self, config: TrialConfig) -> None:
        super().__init__(config)
        n_batches = math.ceil(len(self.dataset.train) / config.training.batch_size)
        self._n_steps = config.training.max_epochs * n_batches
        self._step_number = 0
        self.points: _Points = {}

    def _coeff(self, step: int) -> float:
        """Of steps 0, 1, ..."""
        n_hold = int(_HOLD * self._n_steps)
        return _between(max(0, step + 1 - n_hold) / (self._n_steps - n_hold))

    def _step(self, model: IResNet, *arguments: Any) -> tuple[Tensor, Tensor]:
        now, following = (self._coeff(self._step_number + more) for more in (0, 1))
        _set_coeff(model, now, self.config)
        result = super()._step(model, *arguments)
        self._step_number += 1
        if following < now == _COEFF:
            self.points[_COEFF] = self._projected(_COEFF)
        for rung in _LADDER:
            if following < rung * (1 - 1e-9) <= now or (
                rung == _LADDER[-1] and self._step_number == self._n_steps
            ):
                self.points[rung] = self._projected(rung)
        return result

    def _projected(self, coeff: float) -> Evaluation:
        model = copy.deepcopy(self.model).eval()
        images = statistics_images(self.dataset.train)
        recompute_batch_norm(model, images)
        plain = deployed(model)
        certificate = project(plain, images=images, lipschitz=coeff**3)
        config = self.config
        return measure(plain, self.dataset.val, config, certificate)[0]


def _set_coeff(model: IResNet, coeff: float, trial: TrialConfig) -> None:
    """Change the targets of all normalized layers to those of another coefficient."""
    targets = layer_targets(coeff, trial.model.budget, trial.model.dropout)
    for block in (module for module in model.body if isinstance(module, ResidualBlock)):
        layers = [m for m in block.residual if isinstance(m, SpectralNormConv2d)]
        for layer, target in zip(layers, targets, strict=True):
            layer.coeff = target


def _between(share: float) -> float:
    """The coefficient at which a share of the way down the ladder is done."""
    return _COEFF * (_LADDER[-1] / _COEFF) ** share


def train(trial: TrialConfig, way: str, n_threads: int) -> tuple[_Points, float]:
    """What a training gives: coefficient -> measurements; and its seconds, with all projections."""
    torch.set_num_threads(n_threads)
    choose_algorithms(deterministic=True)
    start = time.monotonic()
    training = {"drawn": _Drawn, "descent": _Descent}.get(way, Training)(trial)
    if way == "tuned":
        n_epochs = round(_TRAINED * trial.training.max_epochs)
        n_batches = math.ceil(len(training.dataset.train) / trial.training.batch_size)
        n_left = (trial.training.max_epochs - n_epochs) * n_batches
        recipe = replace(trial.training, max_epochs=n_epochs, report_every=n_epochs)
        training.config = replace(trial, training=recipe, fine_tune_steps=n_left // len(_LADDER))
    report = training.run_to_report()
    assert training.status is TrialStatus.COMPLETED, report.reason
    if isinstance(training, _Descent):
        return training.points, time.monotonic() - start
    _set_coeff(training.model, _COEFF, trial)
    network = Certified.of(training.model)
    val = training.dataset.val
    measured, _ = measure(network.model, val, trial, network.certificate)
    points = {_COEFF: measured}
    for projection in projections(training, network):
        values = vars(projection.report)
        points[round(projection.report.projected_to ** (1 / 3), 6)] = Evaluation(
            **{name: values[name] for name in Evaluation.__dataclass_fields__}
        )
    return points, time.monotonic() - start


def _trial(data: str, data_root: str, seed: int, epochs: int | None, budget: str) -> TrialConfig:
    if data == "table":
        raw = {**STUDY, "data": {**STUDY["data"], "root": data_root}}
        study = parse(raw, "STUDY")
    else:
        study = load(locate(f"paper_{data}"))
        study = replace(study, data=replace(study.data, root=data_root))
    model = replace(study.model, coeff=_COEFF, dropout=0.05, n_power_iterations=1, budget=budget)
    n_epochs = epochs or study.training.max_epochs
    recipe = {"optimizer": "muon", "lr": 0.1, "lr_schedule": "one_cycle"}
    training = replace(study.training, max_epochs=n_epochs, report_every=n_epochs, **recipe)
    return TrialConfig(
        seed,
        study.data,
        model,
        training,
        study.evaluation,
        ladder=tuple(coeff**3 for coeff in _LADDER),
    )


def _hypervolume(points: list[list[float]], accuracy: float) -> float:
    """Of points (accuracy, bound, inverse steps)."""
    directions = [Direction.MAXIMIZE, Direction.MINIMIZE, Direction.MINIMIZE]
    return hypervolume(as_losses(points, directions), [-accuracy, 1.0, 20.0])


def _values(points: _Points) -> list[list[float]]:
    return [
        [p.val_accuracy, p.block_lipschitz_upper_bound, p.inverse_steps] for p in points.values()
    ]


def _spread(values: list[float], digits: int) -> str:
    least, most = min(values), max(values)
    return f"{median(values):.{digits}f} [{least:.{digits}f}, {most:.{digits}f}]"


def _train(task: tuple[TrialConfig, str, int]) -> tuple[_Points, float]:
    return train(*task)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data_root")
    parser.add_argument("--data", choices=("table", "digits", "mnist"), default="table")
    ways = ("plain", "tuned", "descent", "drawn")
    parser.add_argument("--ways", nargs="+", choices=ways, default=list(ways))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--budget", choices=("even", "last"), default="even")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    print(machine())
    if arguments.data == "table":
        rows = [row for row in Table(TABLE).rows if row["status"] == TrialStatus.COMPLETED]
        metrics = [m for row in rows for m in (row["epochs"][-1], *row["projections"])]
        points = [
            [m[VAL_ACCURACY], m[BLOCK_LIPSCHITZ_UPPER_BOUND], m[INVERSE_STEPS]]
            for m in metrics
            if m[BLOCK_LIPSCHITZ_UPPER_BOUND] < 1
        ]
        volumes = " / ".join(f"{_hypervolume(points, a):.3f}" for a in (0.8, 0.9))
        print(f"all {len(rows)} trainings and ladders: hypervolume from 0.8 / 0.9: {volumes}")
    n_processes = max(1, (os.cpu_count() or 1) // arguments.threads)
    with multiprocessing.get_context("spawn").Pool(n_processes) as pool:
        for way in arguments.ways:
            trials = [
                _trial(
                    arguments.data, arguments.data_root, seed, arguments.epochs, arguments.budget
                )
                for seed in range(arguments.seeds)
            ]
            results = pool.map(_train, [(t, way, arguments.threads) for t in trials], chunksize=1)
            fronts = [of_seed for of_seed, _ in results]
            volumes = [[_hypervolume(_values(f), a) for f in fronts] for a in (0.8, 0.9)]
            print(
                f"{way}, budget {arguments.budget}: hypervolume from 0.8 {_spread(volumes[0], 3)}, "
                f"from 0.9 {_spread(volumes[1], 3)}; {_spread([s for _, s in results], 0)} s"
            )
            for coeff in (_COEFF, *_LADDER):
                there = [f[coeff] for f in fronts if coeff in f]
                if there:
                    print(
                        f"  {coeff:<5} accuracy {_spread([p.val_accuracy for p in there], 4)}  "
                        f"bound {max(p.block_lipschitz_upper_bound for p in there):.4f}  "
                        f"steps {_spread([p.inverse_steps for p in there], 1)}",
                        flush=True,
                    )


if __name__ == "__main__":
    sys.exit(main())
