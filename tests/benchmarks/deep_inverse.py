"""What is proven of the inverse of the paper's 55 blocks: the network of table1_mnist at c = 0.9.

    python -m tests.benchmarks.deep_inverse DATA_ROOT FOLDER [--images 100]

DATA_ROOT has MNIST in torchvision's layout. FOLDER gets the network, and a network that is there
already is not trained again: half an hour on one core. Prints the product of 1 / (1 - L) over the
blocks and the proven bound of the inverse; and of validation images, l2, the largest distance of
the inverse in float32 from the image, the proven bound of its error, and what the bound would be
by float64 alone. Exits 1 unless less than 1e-3 is proven.
"""

import argparse
import math
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from unittest import mock

import torch

from models import certify, read_network, write_network
from models.network import error_bound
from models.storage.network_files import NETWORK
from study.config.file import load, locate
from study.metrics.reports import TrialStatus
from study.trial.data import sources
from study.trial.data import tensors as data
from study.trial.randomness import choose_algorithms
from study.trial.training import Training
from tests.benchmarks.alternating import machine

_RTOL = 1e-7


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("data_root")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    choose_algorithms(deterministic=True)
    study = load(locate("table1_mnist"))
    trial = study.resolve({"norm": "spectral", "coeff": 0.9, "lr": 0.1}, seed=0)
    trial = replace(trial, data=replace(trial.data, root=arguments.data_root))
    dataset = sources.load(trial.data)
    if not (arguments.folder / NETWORK).exists():
        training = Training(trial)
        while training.status is TrialStatus.RUNNING:
            print(training.run_to_report().epoch, flush=True)
        model = training.certified().model
        shape = {"in_shape": dataset.in_shape, "n_classes": dataset.n_classes}
        architecture = {**shape, **asdict(trial.model), "norm": "none"}
        arguments.folder.mkdir(parents=True, exist_ok=True)
        write_network(arguments.folder, model, {"architecture": architecture})
    model = read_network(arguments.folder)
    print(machine())
    certificate = certify(model)
    bounds = certificate.block_bounds
    print(
        f"{len(bounds)} blocks, L {min(bounds):.3f} to {max(bounds):.3f}: product of 1 / (1 - L) "
        f"{math.prod(1 / (1 - bound) for bound in bounds):.3g}, inverse at most "
        f"{certificate.inverse_lipschitz_upper_bound:.3g}"
    )
    images = data.normalized(dataset.val.images[: arguments.images])
    with torch.no_grad():
        z = model.features(images)
    start = time.perf_counter()
    plain = model.inverse(z, rtol=_RTOL)
    between = time.perf_counter()
    solution = model.inverse(z, rtol=_RTOL, certificate=certificate)
    end = time.perf_counter()
    with mock.patch.object(error_bound, "takes", return_value=False):
        in_float64 = model.inverse(z, rtol=_RTOL, certificate=certificate)
    assert solution.error_bound is not None
    assert in_float64.error_bound is not None
    distance = (plain.last_iterate.double() - images.double()).flatten(1).norm(dim=1).max().item()
    proven = solution.error_bound[0].max().item()
    print(
        f"{len(images)} images, converged: {bool(solution.converged.all())}; distance from the "
        f"image at most {distance:.2g}, proven of the error: {proven:.2g}, by float64 alone "
        f"{in_float64.error_bound[0].max().item():.2g}; {between - start:.1f} s, with its proof "
        f"{end - between:.1f} s"
    )
    return int(not proven < 1e-3)


if __name__ == "__main__":
    sys.exit(main())
