"""One training with its ladder against a training for each rung.

    python -m tests.benchmarks.ladder [STUDY] [--data-root DIR] [--epochs N] [--seeds 5]
        [--threads 2]

STUDY (separate_digits.yaml) is of potential blocks. A network is trained at the largest coefficient
of its space, and scaled down the study's ladder, where its classifier is fitted anew. Beside it a
network is trained for each rung, at the rung's coefficient, for as many epochs, with the same seed;
all of them without dropout, with one power iteration and the margin of the data set's radius. For
each bound, and for the hypervolume from the study's reference point of validation accuracy,
certified accuracy and the decimal logarithm of the bound of the inverse: the median over the seeds,
the least and the most; and seconds. Nothing else should run.
"""

import argparse
import math
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import torch

from study.config.file import load, locate
from study.config.trial import TrialConfig
from study.metrics.definitions import (
    CERTIFIED_ACCURACY,
    INVERSE_LIPSCHITZ_UPPER_BOUND,
    VAL_ACCURACY,
)
from study.metrics.reports import TrialStatus
from study.pareto import points
from study.pareto.dominance import hypervolume
from study.trial.ladder import projections
from study.trial.randomness import choose_algorithms
from study.trial.training import Training
from tests.benchmarks.alternating import machine
from tests.benchmarks.family import SEPARATE

_NAMES = (VAL_ACCURACY, CERTIFIED_ACCURACY, INVERSE_LIPSCHITZ_UPPER_BOUND)
_Metrics = Mapping[str, float]


def trained(config: TrialConfig) -> dict[float, _Metrics]:
    """Bound of Lip(g), as it was asked for -> the metrics of the network with it."""
    training = Training(config)
    report = training.run_to_report()
    assert training.status is TrialStatus.COMPLETED, report.reason
    assert report.epoch is not None
    networks: dict[float, _Metrics] = {config.model.coeff: report.epoch.metrics()}
    for projection in projections(training, training.certified()):
        networks[projection.report.projected_to] = projection.report.metrics()
    return networks


def _shown(metrics: _Metrics) -> tuple[float, float, float]:
    accuracy, certified, inverse = (metrics[name] for name in _NAMES)
    return accuracy, certified, math.log10(inverse)


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.4g} [{min(values):.4g} to {max(values):.4g}]"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("study", nargs="?", default=str(SEPARATE))
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    choose_algorithms(deterministic=True)
    study = load(locate(arguments.study))
    *_, largest = dict(study.space)["coeff"].extremes()
    assert isinstance(largest, float)
    assert [objective.metric for objective in study.objectives] == list(_NAMES)
    print(machine())
    networks: dict[str, dict[float, list[_Metrics]]] = {}
    volumes, seconds = defaultdict(list), defaultdict(list)
    for seed in range(arguments.seeds):
        sample = {"n_power_iterations": 1, "dropout": 0.0, "coeff": largest, "margin": 1.0}
        config = study.resolve(sample, seed)
        epochs = arguments.epochs or config.training.max_epochs
        recipe = replace(
            config.training, margin=config.radius, max_epochs=epochs, report_every=epochs
        )
        data = replace(config.data, root=arguments.data_root)
        config = replace(config, data=data, training=recipe, control=False)
        ways = {
            "one training with its ladder": [config],
            "a training for each": [
                replace(config, ladder=(), model=replace(config.model, coeff=coeff))
                for coeff in (largest, *config.ladder)
            ],
        }
        for way, configs in ways.items():
            start = time.monotonic()
            of_way: dict[float, _Metrics] = {}
            for one in configs:
                of_way |= trained(one)
            seconds[way].append(time.monotonic() - start)
            losses = points.scaled_losses(list(of_way.values()), study.objectives)
            volumes[way].append(hypervolume(losses, points.reference_losses(study.objectives)))
            for bound, metrics in of_way.items():
                networks.setdefault(way, {}).setdefault(bound, []).append(metrics)
    for way, of_bounds in networks.items():
        print(f"{way}: hypervolume {_spread(volumes[way])}, {_spread(seconds[way])} s")
        for bound, of_seeds in of_bounds.items():
            columns = zip(*map(_shown, of_seeds), strict=True)
            shown = (_spread(list(column)) for column in columns)
            print(f"  bound {bound:g}: accuracy, certified, log10 of inverse: {', '.join(shown)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
