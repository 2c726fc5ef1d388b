"""The inverse of blocks that are proven to be invertible and do not contract.

    python -m tests.benchmarks.expanding [--blocks 400]

A study of the digits, of networks without a norm and of coefficients from 1 to 1.3, with the
constraint `invertible`: prints for each network the bounds of Lip(g), the bound of the inverse,
and for 100 validation images the steps and the largest proven error of an image, l2.

Then random blocks with bounds up to 5, many of them monotone: how many of 64 points each come back
by Picard iteration with Anderson acceleration where it is slow, and how many where it is also used
if steps grow. Exits 1 if a proven network or block is not inverted, or an error is 1e-4 or more.
Five minutes on two cores.
"""

import argparse
import math
import os
import sys
import tempfile

import torch
from torch import Tensor, nn

from models import IResNet, certify
from models.blocks.bottleneck import ResidualBlock
from study.api import study
from study.trial.data import sources
from study.trial.data import tensors as data
from tests.benchmarks.attained import kernel, network
from tests.support.oracles import dense_convolution

_N_IMAGES = 100
_SAMPLES = [{"norm": "none", "coeff": 1.0, "lr": lr} for lr in (0.1, 0.02, 0.01, 0.005, 0.002)]
_SAMPLES += [{"norm": "spectral", "coeff": c, "lr": 0.1} for c in (1, 1.05, 1.1, 1.15, 1.2, 1.3)]
_STUDY = {
    "name": "expanding",
    "data": {"name": "digits", "val_fraction": 0.2, "shift": 0},
    "model": {
        "blocks": [2, 2, 2],
        "bottleneck": 4,
        "channel_multiplier": 8,
        "dropout": 0.1,
        "n_power_iterations": 5,
    },
    "training": {"max_epochs": 10, "batch_size": 64, "optimizer": "muon"},
    "space": {
        "norm": {"type": "categorical", "choices": ["none", "spectral"]},
        "coeff": {"type": "float", "low": 1.0, "high": 1.3},
        "lr": {"type": "float", "low": 0.001, "high": 0.1},
    },
    "objectives": {"val_accuracy": "maximize", "inverse_lipschitz_upper_bound": "minimize"},
    "constraints": {"invertible": True},
    "reference_point": {"inverse_lipschitz_upper_bound": 1000.0},
    "search": {"sampler": "random", "n_trials": len(_SAMPLES), "first": _SAMPLES},
}
_SHAPES = ((2, 2, (1, 1)), (2, 4, (3, 3)), (4, 8, (4, 4)), (3, 6, (2, 4)), (8, 16, (1, 1)))
_SIZES = (1.2, 1.5, 2.0, 3.0, 5.0, 8.0, 20.0)


def study_of_networks() -> bool:
    """Whether every network that is proven invertible is inverted."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        done = study.run(_STUDY)
        images = data.normalized(sources.load(done.config.data).val.images[:_N_IMAGES])
        networks = {point.handle: done.load(point.handle).float() for point in done.results.points}
        samples = {point.handle: point.first.sample for point in done.results.points}
    print()
    holds, n_proven, n_expanding = True, 0, 0
    for handle, model in networks.items():
        certificate = certify(model)
        with torch.no_grad():
            z = model.features(images)
        solution = model.inverse(z, rtol=1e-7, certificate=certificate)
        assert solution.error_bound is not None
        n_converged, error = int(solution.value.isfinite().all(dim=(1, 2, 3)).sum()), math.inf
        if certificate.invertible:
            n_proven += 1
            n_expanding += not certificate.contraction
            error = solution.error_bound[0].max().item()
            holds &= n_converged == len(images) and error < 1e-4
        print(
            f"{samples[handle]}: L {min(certificate.block_bounds):.3f} to "
            f"{max(certificate.block_bounds):.3f}, inverse "
            f"{certificate.inverse_lipschitz_upper_bound:.4g}; {n_converged} of {len(images)} "
            f"converge, {solution.n_steps.double().mean():.1f} steps, error at most {error:.1e}"
        )
    print(f"{n_proven} of {len(networks)} proven, {n_expanding} of them do not contract")
    return holds


def random_block(index: int, generator: torch.Generator) -> tuple[IResNet, Tensor]:
    """A network of one block, in float32, with random biases; and 64 inputs."""
    m, channels, size = _SHAPES[index % len(_SHAPES)]
    k = 1 if size == (1, 1) else 3
    first = kernel("normal" if index % 3 else "smooth", (m, channels, k, k), generator)
    second = torch.eye(m) + 0.3 * torch.randn(m, m, generator=generator, dtype=torch.float64)
    third = kernel("normal", (channels, m, k, k), generator)
    if index % 3 == 1:  # nearly the gradient of a convex function
        third = first.flip(2, 3).transpose(0, 1)
    weights = [first, second.view(m, m, 1, 1), third]
    norms = [torch.linalg.matrix_norm(dense_convolution(w, size), ord=2).item() for w in weights]
    weights[2] = weights[2] * (_SIZES[index % len(_SIZES)] / math.prod(norms))
    model = network(weights, size).float().eval()
    with torch.no_grad():
        for layer in model.body.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                layer.bias.normal_(generator=generator)
    return model, 3 * torch.randn(64, channels, *size, generator=generator)


@torch.no_grad()
def random_blocks(n_blocks: int) -> bool:
    """Whether all points of all blocks that are proven invertible come back."""
    generator = torch.Generator().manual_seed(0)
    n_points, left, largest, index, found = 0, [0, 0], 0.0, 0, 0
    steps = 0.0
    while found < n_blocks:
        model, x = random_block(index, generator)
        index += 1
        (bound,) = certify(model).blocks
        if bound.upper_bound < 1 or math.isinf(bound.inverse_lipschitz_upper_bound):
            continue
        found += 1
        largest = max(largest, bound.upper_bound)
        block = model.body[0]
        assert isinstance(block, ResidualBlock)
        z = block(x)
        n_points += len(x)
        for which, expanding in enumerate((False, True)):
            solution = block.inverse(z, max_steps=300, expanding=expanding)
            left[which] += int((~solution.converged).sum())
        steps += solution.n_steps.double().mean().item()
    print(
        f"{n_blocks} blocks, L 1 to {largest:.2f}: of {n_points} points {left[0]} do not come back "
        f"without a proof, {left[1]} with it, in {steps / n_blocks:.1f} steps"
    )
    return left[1] == 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--blocks", type=int, default=400)
    arguments = parser.parse_args()
    holds = [random_blocks(arguments.blocks), study_of_networks()]
    return int(not all(holds))


if __name__ == "__main__":
    sys.exit(main())
