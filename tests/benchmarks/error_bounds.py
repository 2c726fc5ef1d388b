"""The proven error bound of an inverse against its true error.

    python -m tests.benchmarks.error_bounds FOLDER [--images 100]

FOLDER is what tests.benchmarks.network wrote. Scales every layer so that its bound is exactly c,
for c from 0.5 to 0.97, and inverts the features of validation images at several rtol. The
true error, before each block, is the distance from the exact preimage of the same features,
found in float64. The distance from the images that the features were computed of is printed too,
which has the rounding of the forward pass in it. Exits 1 if a bound is below its error.
"""

import argparse
import copy
import sys
from pathlib import Path

import torch
from torch import Tensor

from models import IResNet, certify
from models.blocks.bottleneck import ResidualBlock
from models.layers.spectral_norm import SpectralNormConv2d
from study.trial.data import tensors as data
from tests.benchmarks import network
from tests.benchmarks.alternating import machine

_COEFFS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.97)
_RTOLS = (1e-3, 1e-6, 1e-7)


@torch.no_grad()
def scaled(model: IResNet, coeff: float) -> IResNet:
    """A copy in which the upper bound of every layer is coeff, larger or smaller than it was."""
    model = copy.deepcopy(model)
    modules = dict(model.named_modules())
    for layer in certify(model).layers:
        module = modules[layer.name]
        assert isinstance(module, SpectralNormConv2d)
        module.weight.copy_(module.effective_weight() * (coeff / layer.upper_bound))
        module.coeff = 2 * coeff  # out of the way of the weight
    return model


@torch.no_grad()
def preimage(block: ResidualBlock, z: Tensor) -> Tensor:
    """The preimage of z under one block, in float64: Picard steps until they are lost in it."""
    x = z = z.double()
    g = block.deployed().double()
    for _ in range(2000):
        following = z - g(x)
        if ((following - x).flatten(1).norm(dim=1) <= 1e-15 * z.flatten(1).norm(dim=1)).all():
            return following
        x = following
    return x


def exact_preimages(model: IResNet, z: Tensor) -> list[Tensor]:
    """The preimage of z under the blocks from t on, for each block t, in float64."""
    preimages: list[Tensor] = []
    for module in reversed(model.body):
        if isinstance(module, ResidualBlock):
            z = preimage(module, z)
            preimages.append(z)
        else:
            z = module.inverse(z)
    return preimages[::-1]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=100)
    arguments = parser.parse_args()
    model, dataset = network.load(arguments.folder)
    images = data.normalized(dataset.val.images[: arguments.images])
    print(machine())
    n_below = 0
    for coeff in _COEFFS:
        exact = scaled(model, coeff)
        with torch.no_grad():
            z = exact.features(images)
        certificate = certify(exact)
        bounds = certificate.block_bounds
        truth = exact_preimages(exact, z)
        for rtol in _RTOLS:
            solution = exact.inverse(z, rtol=rtol, certificate=certificate)
            assert solution.error_bound is not None
            # What it finds before each block, once more, block by block.
            value, index, looseness = z, len(bounds), []
            for module in reversed(exact.body):
                if not isinstance(module, ResidualBlock):
                    value = module.inverse(value)
                    continue
                index -= 1
                value = module.inverse(value, rtol=rtol).last_iterate
                error = (value.double() - truth[index]).flatten(1).norm(dim=1)
                n_below += int((solution.error_bound[index] < error).sum())
                looseness.append((solution.error_bound[index] / error).median().item())
            from_images = (solution.last_iterate - images).flatten(1).norm(dim=1)
            relative = (from_images / images.flatten(1).norm(dim=1)).max()
            print(
                f"c {coeff}, rtol {rtol:.0e}: relative error, largest {relative:.1e}; median of "
                f"bound over error after 1 block {looseness[0]:.2f}, 5 {looseness[4]:.1f}, 19 "
                f"{looseness[18]:.1e}, all {looseness[-1]:.1e}; bounds below the error: {n_below}",
                flush=True,
            )
    return int(n_below > 0)


if __name__ == "__main__":
    sys.exit(main())
