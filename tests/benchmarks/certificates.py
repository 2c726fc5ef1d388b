"""Every certificate of a study against power iteration on the true operator.

    python -m tests.benchmarks.certificates STUDY TRACKING_URI [ITERATIONS]

Loads the model of each completed trial from MLflow, certifies it anew, and runs the given
number of power iterations (1000) on each layer's zero-padded convolution in float64, with
autograd as the adjoint. Prints, for each trial, the smallest and the largest ratio of the
bound to that lower estimate of the norm, the latter on maps of 7 x 7 and more; exits 1 if a
bound is below the estimate, if one of those is more than 3 % above it, or if the stored
certificate is not the one computed here.
"""

import argparse
import json
import math
import sys

import torch
import torch.nn.functional as F
from torch import Tensor

from models import certify
from models.proofs.certification import read_body
from study.metrics.artifacts import CERTIFICATE
from study.metrics.reports import TrialStatus
from study.tracking.records import Records
from study.tracking.server.client import Client
from study.verification.proof import load

_LOOSEST = 1.03


def power_norm(weight: Tensor, size: tuple[int, int], n_iterations: int) -> float:
    """A lower estimate of a zero-padded convolution's spectral norm, by power iteration with
    autograd as the adjoint."""
    weight = weight.double()
    padding = (weight.shape[2] // 2, weight.shape[3] // 2)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, weight.shape[1], *size, dtype=torch.float64, generator=generator)
    norm = torch.zeros(())
    for _ in range(n_iterations):
        x = (x / x.norm()).requires_grad_()
        y = F.conv2d(x, weight, padding=padding)
        norm = y.detach().norm()
        (x,) = torch.autograd.grad(y, x, y.detach())
    return float(norm)


def main() -> None:
    parser = argparse.ArgumentParser(description="Certificates against power iteration.")
    parser.add_argument("study")
    parser.add_argument("tracking_uri")
    parser.add_argument("iterations", type=int, nargs="?", default=1000)
    arguments = parser.parse_args()
    records = Records(Client(arguments.tracking_uri))
    study = records.find_study(arguments.study)
    assert study is not None, f"no study {arguments.study} in {records.client.tracking_uri}"
    failed = False
    print(f"{'trial':6} {'layers':>6} {'smallest ratio':>16} {'largest, maps >= 7 x 7':>24}")
    for trial in records.trials(study):
        if trial.state is not TrialStatus.COMPLETED:
            continue
        model = load(records, trial.run_id)
        layers = {layer.name: layer for _, block in read_body(model)[0] for layer in block.layers}
        certificate = certify(model)
        stored = json.loads(records.artifact(trial.run_id, CERTIFICATE))
        # To the last bits, which matrix products on another number of threads may change.
        same = [layer["name"] for layer in stored["layers"]] == [
            layer.name for layer in certificate.layers
        ] and all(
            math.isclose(then["upper_bound"], now.upper_bound, rel_tol=1e-12)
            for then, now in zip(stored["layers"], certificate.layers, strict=True)
        )
        ratios, on_large_maps = [], []
        for layer in certificate.layers:
            weight, size = layers[layer.name].weight, layers[layer.name].size
            assert weight is not None, "a spectral trial"
            ratios.append(layer.upper_bound / power_norm(weight, size, arguments.iterations))
            if min(size) >= 7:
                on_large_maps.append(ratios[-1])
        largest = max(on_large_maps)
        failed |= min(ratios) < 1 or largest > _LOOSEST or not same
        print(
            f"{trial.trial_id:6} {len(ratios):6} {min(ratios):16.9f} {largest:24.6f}"
            + ("" if same else "  the stored certificate differs"),
            flush=True,
        )
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
