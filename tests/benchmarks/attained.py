"""Whether any bound is below what is attained, over random kernels and blocks of every kind.

    python -m tests.benchmarks.attained [--kernels 2000] [--blocks 5000] [--seed 0]

Kernels: the bound of `certify` for one convolution, by grids and by dense operators, against
|W v| / |v| in extended precision, for the leading singular vector v of the dense matrix. Square and
oblong kernels up to 7, kernels wider than the map, maps of all sides, rank one, repeated singular
values, smooth ones, ones that cancel, entries of very different scale; times 10^-300 to 10^290.

Blocks: x + W3 k(W2 k(W1 x)) with both efforts, by grids and by dense operators, against the largest
norm over all patterns that ReLU can set; some with a layer that is zero, of rank one, or of another
scale. Prints how close they come; exits 1 if one is below.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any, get_args
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from models import Effort, IResNet, certify
from models.norms import block_bounds, convolution_norm
from tests.support.oracles import dense_convolution, largest_over_masks

_KINDS = ("normal", "rank one", "repeated", "smooth", "cancels", "scales", "sparse")


def kernel(kind: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """float64 (c_out, c_in, k_h, k_w)."""
    normal = torch.randn(shape, dtype=torch.float64, generator=generator)
    c_out, c_in, k_h, k_w = shape
    if kind == "rank one":
        out, rest = normal[:, 0, 0, 0], normal[0]
        return out.view(-1, 1, 1, 1) * rest
    if kind == "repeated":  # a permutation of the channels at one tap
        weight = torch.zeros(shape, dtype=torch.float64)
        for index in range(min(c_out, c_in)):
            weight[index, index, k_h // 2, k_w // 2] = 1
        return weight
    if kind == "smooth":
        rows, columns = (torch.hann_window(k + 2, dtype=torch.float64)[1:-1] for k in (k_h, k_w))
        return normal[:, :, :1, :1] * rows.view(-1, 1) * columns
    if kind == "cancels":  # taps that nearly annul each other at low frequencies
        return normal - normal.mean(dim=(2, 3), keepdim=True) * (1 - 1e-9)
    if kind == "scales":
        exponents = torch.randint(-12, 13, shape, generator=generator).double()
        return normal * 10.0**exponents
    if kind == "sparse":
        return normal * (torch.rand(shape, generator=generator) < 0.2)
    return normal


def network(weights: Sequence[Tensor], size: tuple[int, int]) -> IResNet:
    """One block, of an activation and a convolution with each of these kernels."""
    channels = weights[0].shape[1]
    model = IResNet(
        (channels, *size), 1, (1,), channel_multiplier=1, bottleneck=1, norm="none", dropout=0.0
    ).double()
    model.body[0].residual = nn.Sequential(*(part for w in weights for part in _layer(w)))
    return model


def _layer(weight: Tensor) -> tuple[nn.Module, nn.Module]:
    c_out, c_in, k_h, k_w = weight.shape
    layer = nn.Conv2d(c_in, c_out, (k_h, k_w), padding=(k_h // 2, k_w // 2), device="meta")
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(weight.new_zeros(c_out))
    return nn.ReLU(), layer


def attained_by_kernel(weight: Tensor, size: tuple[int, int]) -> np.longdouble:
    """|W v| / |v| in extended precision, at a v that nearly attains the norm."""
    scale = weight.abs().max()
    if scale == 0:
        return np.longdouble(0)
    matrix = dense_convolution(weight / scale, size)
    v = torch.linalg.svd(matrix)[2][0].numpy().astype(np.longdouble)
    image = dense_convolution(weight, size).numpy().astype(np.longdouble) @ v
    return np.longdouble(np.sqrt((image**2).sum()) / np.sqrt((v**2).sum()))


def kernels(n: int, generator: torch.Generator) -> Iterator[tuple[Any, Tensor, tuple[int, int]]]:
    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    for index in range(n):
        kind = _KINDS[index % len(_KINDS)]
        channels = draw(1, 4)
        k_h, k_w = 2 * draw(0, 3) + 1, 2 * draw(0, 3) + 1
        size = (draw(1, 9), draw(1, 9))
        exponent = (-300, -155, -20, 0, 0, 0, 20, 150, 290)[draw(0, 8)]
        weight = kernel(kind, (channels, channels, k_h, k_w), generator) * 10.0**exponent
        yield (kind, exponent, tuple(weight.shape), size), weight, size


def blocks(
    n: int, generator: torch.Generator
) -> Iterator[tuple[Any, tuple[Tensor, ...], tuple[int, int]]]:
    for index in range(n):
        kind = _KINDS[index % len(_KINDS)]
        m, size = ((1, (2, 2)), (1, (1, 4)), (1, (1, 3)), (2, (1, 2)), (4, (1, 1)))[index % 5]
        channels = m + int(torch.randint(0, 3, (), generator=generator))
        k = 1 if index % 7 == 0 else 3
        weights = (
            kernel(kind, (m, channels, k, k), generator),
            kernel("normal", (m, m, 1, 1), generator),
            kernel(kind if index % 2 else "normal", (channels, m, k, k), generator),
        )
        if index % 50 == 0:
            weights[index // 50 % 3].zero_()
        yield (index, kind, m, channels, k, size), weights, size


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kernels", type=int, default=2000)
    parser.add_argument("--blocks", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(arguments.seed)
    n_below, ratios = 0, []
    for about, weight, size in kernels(arguments.kernels, generator):
        attained = attained_by_kernel(weight, size)
        for rows in (0, 256):
            with mock.patch.object(convolution_norm, "_DENSE_ROWS", rows):
                (layer,) = certify(network([weight], size)).layers
            upper = np.longdouble(layer.upper_bound)
            if upper < attained:
                n_below += 1
                print(f"below: {about}, {upper} < {attained}")
            if attained > 0 and math.isfinite(layer.upper_bound):
                ratios.append(float(upper / attained))
    print(f"{arguments.kernels} kernels, twice each: {_spread(ratios)}, {n_below} below")
    of_blocks: dict[tuple[Effort, int], list[float]] = {}
    for about, weights, size in blocks(arguments.blocks, generator):
        attained_here = largest_over_masks(*(dense_convolution(w, size) for w in weights))
        exponents = torch.randint(-90, 91, (3,), generator=generator).tolist()
        scaled = [w * 2.0**exponent for w, exponent in zip(weights, exponents, strict=True)]
        model = network(scaled, size)
        for effort in get_args(Effort):
            for rows in (0, 256):
                with mock.patch.object(block_bounds, "_DENSE_ROWS", rows):
                    upper_bound = certify(model, effort).lipschitz_upper_bound
                # Of powers of two: exactly.
                upper_here = math.ldexp(upper_bound, -sum(exponents))
                if upper_here < attained_here * (1 - 1e-14):
                    n_below += 1
                    print(f"below: {effort}, {about}, {upper_here} < {attained_here}")
                if attained_here > 0:
                    ratio = upper_here / attained_here
                    of_blocks.setdefault((effort, rows), []).append(ratio)
    for (effort, rows), of_effort in of_blocks.items():
        way = "dense operators" if rows else "grids"
        print(f"{arguments.blocks} blocks, {effort}, {way}: {_spread(of_effort)}")
    print(f"{n_below} below")
    return int(n_below > 0)


def _spread(ratios: list[float]) -> str:
    ordered = sorted(ratios)
    return (
        f"bound over attained at least {ordered[0]:.15f}, median {ordered[len(ordered) // 2]:.4f}, "
        f"largest {ordered[-1]:.4g}"
    )


if __name__ == "__main__":
    sys.exit(main())
