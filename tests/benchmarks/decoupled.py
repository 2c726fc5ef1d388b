"""Potential blocks inverted by scalar equations, and by the iteration that other blocks need.

    python -m tests.benchmarks.decoupled [--images 500] [--rounds 5] [--cases 10000]

First: 32 dense blocks of 784 channels at coeff 0.5, one thread, both ways in alternate rounds:
times over the forward pass (median and quartiles), the largest l2 error, and the time of error
bounds. Then: random blocks of all activations in both precisions, whose rows are orthogonal, nearly
so, or scaled to s = 0.999; how far the image of the solution, in exact arithmetic, is from the one
given, in units of rounding. Exits 1 if that is more than 100 units anywhere.
"""

import argparse
import random
import sys
from collections import Counter
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from models import IResNet, Solution, certify
from models.blocks import potential
from models.layers.activations import ACTIVATIONS
from tests.benchmarks.alternating import in_turns, machine, ratios, spread
from tests.models.test_decoupled import block_of, distance_in_units, points

_MOST_UNITS = 100


def _network(activation: str, dtype: torch.dtype) -> IResNet:
    model = IResNet(
        (1, 28, 28), 10, (), dense_blocks=32, block="potential", dense_bottleneck=7, coeff=0.5,
        channel_multiplier=1, head="lipschitz", activation=activation, n_power_iterations=20,
    )  # fmt: skip
    for name, parameter in model.body.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, 0, 0.3)
    model.update_spectral_norm()
    return model.eval().to(dtype)


@torch.no_grad()
def _compare(activation: str, dtype: torch.dtype, n_images: int, n_rounds: int) -> None:
    model = _network(activation, dtype)
    images = torch.rand(n_images, 1, 28, 28, dtype=dtype) - 0.5
    z, rtol = model.features(images), {torch.float32: 1e-6, torch.float64: 1e-13}[dtype]
    certificate = certify(model)

    def scalar(z: Tensor = z, **settings: Any) -> Solution:
        return model.inverse(z, rtol=rtol, **settings)

    def iterated(z: Tensor = z, **settings: Any) -> Solution:
        with mock.patch.object(potential, "decoupled", return_value=None):
            return scalar(z, **settings)

    ways = {"scalar": scalar, "iterated": iterated}
    seconds = in_turns({"forward": lambda: model.features(images), **ways}, n_rounds)
    for name, way in ways.items():
        error = (way().last_iterate - images).flatten(1).norm(dim=1).max().item()
        proven = partial(way, z[:100], certificate=certificate)
        (of_proofs,) = in_turns({name: proven}, 1)[name]
        print(
            f"{activation:8} {dtype!s:14} {name:8} "
            f"{spread(ratios(seconds[name], seconds['forward']))} forward passes, largest error "
            f"{error:.1e}, with error bounds of 100 images {of_proofs:.1f} s",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", type=int, default=10_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(machine())
    for activation in ACTIVATIONS:
        for dtype in (torch.float32, torch.float64):
            _compare(activation, dtype, arguments.images, arguments.rounds)
    drawn, largest, n_beyond = random.Random(0), Counter[tuple[str, torch.dtype]](), 0
    for _ in range(arguments.cases):
        activation = drawn.choice(list(ACTIVATIONS))
        dtype = drawn.choice([torch.float32, torch.float64])
        scale, off = drawn.uniform(0, 0.999), drawn.choice([0.0, 1e-6, 1e-4])
        if drawn.random() < 0.1:
            scale, off = 0.999, drawn.choice([0.0, 1e-7])
        block, z = block_of(scale, off, activation, dtype), points(1, dtype)
        solution = block.inverse(z, rtol=10 * torch.finfo(dtype).eps)
        units = distance_in_units(block, activation, solution.last_iterate, z)
        n_beyond += not units <= _MOST_UNITS
        largest[activation, dtype] = max(largest[activation, dtype], units)
    for (activation, dtype), units in sorted(largest.items(), key=str):
        print(f"{activation:8} {dtype!s:14} at most {units:.1f} units of rounding off")
    print(f"{arguments.cases} cases, {n_beyond} beyond {_MOST_UNITS} units")
    return int(n_beyond > 0)


if __name__ == "__main__":
    sys.exit(main())
