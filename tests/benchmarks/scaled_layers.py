"""Accuracy at one proven bound of every block: all layers scaled, or the last ones alone.

    python -m tests.benchmarks.scaled_layers SPACE [--seeds 5] [--coeff 0.9] [--dropout 0.1]
        [--epochs N] [--data-root DIR]

SPACE is a study file or the name of a shipped one. Trains its network with each seed, with five
power iterations, and projects copies of it: so that no block's
bound is above the given one, with the statistics of the classifier recomputed and nothing trained.
Every layer scaled to one coefficient, which is the largest that gives the bound; the last layer of
each block scaled; and the same with the classifier's last layer fitted to the logits of before, as
`project` does. Prints validation accuracies, their medians, and what is proven.
"""

import argparse
import copy
import sys
from collections.abc import Sequence
from statistics import median

from torch import Tensor

from models import IResNet, certify, project, recompute_batch_norm
from study.config.file import load, locate
from study.config.trial import TrialConfig
from study.metrics.reports import TrialStatus
from study.trial.measured.evaluation import evaluate, statistics_images
from study.trial.training import Training
from tests.benchmarks.alternating import machine

_BOUNDS = (0.5, 0.25, 0.125, 0.064, 0.027, 0.008)
_N_BISECTIONS = 10


def every_layer(model: IResNet, bound: float, images: Sequence[Tensor]) -> IResNet:
    """Scaled to the largest coefficient at which no block's bound is above the given one."""
    low, high = bound ** (1 / 3), 0.999  # at the lower one the product of three layers is the bound
    for _ in range(_N_BISECTIONS):
        middle = (low * high) ** 0.5
        projected = copy.deepcopy(model)
        project(projected, middle)
        is_met = certify(projected).lipschitz_upper_bound <= bound
        low, high = (middle, high) if is_met else (low, middle)
    projected = copy.deepcopy(model)
    project(projected, low)
    recompute_batch_norm(projected, images)
    return projected


def last_layers(model: IResNet, bound: float, images: Sequence[Tensor]) -> IResNet:
    projected = copy.deepcopy(model)
    project(projected, lipschitz=bound)
    recompute_batch_norm(projected, images)
    return projected


def fitted(model: IResNet, bound: float, images: Sequence[Tensor]) -> IResNet:
    projected = copy.deepcopy(model)
    project(projected, lipschitz=bound, images=images)
    return projected


WAYS = {"every layer": every_layer, "last layers": last_layers, "and fitted": fitted}


def trained(config: TrialConfig) -> Training:
    training = Training(config)
    while training.status is TrialStatus.RUNNING:
        training.run_to_report()
    training.model.eval()
    return training


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("space")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--coeff", type=float, default=0.9)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--data-root")
    arguments = parser.parse_args()
    changes = {"training.max_epochs": arguments.epochs, "data.root": arguments.data_root}
    overrides = {key: value for key, value in changes.items() if value is not None}
    study = load(locate(arguments.space), overrides)
    sample = {"coeff": arguments.coeff, "n_power_iterations": 5, "dropout": arguments.dropout}
    print(machine())
    accuracies: dict[tuple[str, float], list[float]] = {}
    for seed in range(arguments.seeds):
        training = trained(study.resolve(sample, seed))
        dataset = training.dataset
        images = statistics_images(dataset.train)
        certificate = certify(training.model)
        bound = certificate.lipschitz_upper_bound
        accuracy = evaluate(training.model, dataset.val, "float32", certificate).accuracy
        print(f"seed {seed}: trained, bound {bound:.4g}, val_accuracy {accuracy:.4f}", flush=True)
        for (name, way), target in ((w, b) for b in _BOUNDS for w in WAYS.items()):
            projected = way(training.model, target, images)
            certificate = certify(projected)
            proven = certificate.lipschitz_upper_bound
            assert proven <= target
            accuracy = evaluate(projected, dataset.val, "float32", certificate).accuracy
            accuracies.setdefault((name, target), []).append(accuracy)
            print(f"  {name}, bound {proven:.4g}: val_accuracy {accuracy:.4f}", flush=True)
    print(f"median of {arguments.seeds} seeds (least, most)")
    print(f"{'bound':>12} " + " ".join(f"{bound:>22g}" for bound in _BOUNDS))
    for name in WAYS:
        of_way = [sorted(accuracies[name, bound]) for bound in _BOUNDS]
        cells = (f"{median(a):.3f} ({a[0]:.3f}, {a[-1]:.3f})" for a in of_way)
        print(f"{name:>12} " + " ".join(f"{cell:>22}" for cell in cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
