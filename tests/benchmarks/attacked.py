"""Whether an image that is proven to keep its answer keeps it under attack, on real data.

    python -m tests.benchmarks.attacked DATA_ROOT PHOTOGRAPHS

DATA_ROOT has MNIST in torchvision's layout, PHOTOGRAPHS CIFAR-10 in that or as train/CLASS/*.jpg
and test/CLASS/*.jpg.
Ten networks of the digits, of MNIST and of CIFAR-10, trained briefly, with all norms and
activations. For each, 200 test images are attacked within four radii, quantiles of those that are
proven of them. Prints what is certified and what the attack leaves; exits 1 if an image is both
certified and attacked.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from models import attacked, certified_radius
from study.config.data import DataConfig
from study.config.trial import ModelConfig, TrainingConfig, TrialConfig
from study.metrics.reports import TrialStatus
from study.trial.data.tensors import normalized
from study.trial.measured.attack import N_ATTACKED
from study.trial.randomness import choose_algorithms
from study.trial.training import Training

_QUANTILES = (0.25, 0.5, 0.75, 0.9)
_TRAINING = TrainingConfig(max_epochs=3, optimizer="muon", lr=0.05, lr_schedule="one_cycle")
_MODEL = ModelConfig(blocks=(2, 2, 2), channel_multiplier=8)
_DATA = {
    "digits": (DataConfig("digits"), ModelConfig(blocks=(2, 2), channel_multiplier=8)),
    "mnist": (DataConfig("mnist", max_train=6_000), _MODEL),
    "cifar10": (DataConfig("cifar10", max_train=6_000), replace(_MODEL, channel_multiplier=4)),
}
_CHANGES: tuple[tuple[str, dict[str, object]], ...] = (
    ("digits", {"coeff": 0.9}),
    ("digits", {"coeff": 0.4, "activation": "elu"}),
    ("digits", {"norm": "batch"}),
    ("digits", {"norm": "none", "activation": "softplus"}),
    ("mnist", {"coeff": 0.9}),
    ("mnist", {"coeff": 0.4, "activation": "softplus"}),
    ("mnist", {"norm": "none"}),
    ("cifar10", {"coeff": 0.9, "activation": "elu"}),
    ("cifar10", {"coeff": 0.4}),
    ("cifar10", {"norm": "batch"}),
)


def check(name: str, changes: dict[str, object], roots: dict[str, Path]) -> int:
    """The number of images that are certified and attacked all the same."""
    data, model = _DATA[name]
    root = roots.get(name, Path())
    kind = "image_folder" if (root / "train").is_dir() else name
    trial = TrialConfig(
        data=replace(data, name=kind, root=str(root)),
        model=replace(model, **changes),
        training=_TRAINING,
    )
    training = Training(trial)
    while training.status is TrialStatus.RUNNING:
        report = training.run_to_report()
        assert report.epoch is not None, report.reason
    network = training.certified()
    test = training.dataset.test
    images, labels = normalized(test.images[:N_ATTACKED]), test.labels[:N_ATTACKED]
    radii = certified_radius(network.model, images, labels, network.certificate)
    right = radii[radii > 0]
    print(f"{name} {changes}: {len(right)} of {len(radii)} have a proven radius", flush=True)
    n_broken = 0
    for quantile in _QUANTILES if len(right) else ():
        radius = right.quantile(quantile).item()
        left = {
            in_box: ~attacked(network.model, images, labels, radius, box=box).found
            for in_box, box in ((True, (-0.5, 0.5)), (False, None))
        }
        certified = radii > radius
        n_broken += int((certified & ~(left[True] & left[False])).sum())
        figures = (certified, left[False], left[True])
        shares = " <= ".join(f"{int(of.sum()) / len(of):.3f}" for of in figures)
        print(f"  radius {radius:.3g}: certified, attacked, in the box: {shares}", flush=True)
    return n_broken


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("data_root", type=Path)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    choose_algorithms(deterministic=True)
    roots = {"mnist": arguments.data_root, "cifar10": arguments.photographs}
    n_broken = sum(check(name, changes, roots) for name, changes in _CHANGES)
    print(f"{n_broken} certified and attacked")
    return int(n_broken > 0)


if __name__ == "__main__":
    sys.exit(main())
