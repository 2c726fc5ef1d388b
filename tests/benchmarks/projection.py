"""Accuracy down the ladder of coefficients, from one training.

    python -m tests.benchmarks.projection FOLDER

FOLDER is what tests.benchmarks.network wrote. Projects the network to smaller and smaller
coefficients, with the statistics of the classifier recomputed from 10,000 training images
and without, and prints what is proven and the accuracy on the validation split. Exits 1 if a
layer's bound is above its coefficient.
"""

import argparse
import copy
import sys
import time
from pathlib import Path

import torch

from models import certify, project
from study.trial.data import tensors as data
from study.trial.measured.evaluation import evaluate
from tests.benchmarks import network
from tests.benchmarks.alternating import machine

_LADDER = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
_N_IMAGES = 10_000


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    model, dataset = network.load(arguments.folder)
    print(machine())
    split = dataset.train
    rows = data.batches(split, 500, torch.Generator().manual_seed(0))[: _N_IMAGES // 500]
    batches = [data.normalized(split.images[r]) for r in rows]
    before = certify(model)
    print(
        f"trained: val_accuracy {evaluate(model, dataset.val, 'float32', before).accuracy:.4f}, "
        f"lipschitz_upper_bound {before.lipschitz_upper_bound:.4f}, largest layer bound "
        f"{max(layer.upper_bound for layer in before.layers):.4f}"
    )
    holds = True
    for coeff in _LADDER:
        start = time.perf_counter()
        projected = copy.deepcopy(model)
        project(projected, coeff, batches)
        seconds = time.perf_counter() - start
        without = copy.deepcopy(model)
        of_without = project(without, coeff)
        certificate = certify(projected)
        largest = max(layer.upper_bound for layer in certificate.layers)
        holds &= largest <= coeff
        print(
            f"coeff {coeff:4}: val_accuracy "
            f"{evaluate(projected, dataset.val, 'float32', certificate).accuracy:.4f} (statistics "
            "not recomputed: "
            f"{evaluate(without, dataset.val, 'float32', of_without).accuracy:.4f}), "
            f"lipschitz_upper_bound {certificate.lipschitz_upper_bound:.4f}, "
            f"largest layer bound {largest:.7f}; "
            f"{seconds:.1f} s",
            flush=True,
        )
    return int(not holds)


if __name__ == "__main__":
    sys.exit(main())
