"""The bounds of layers against the true norms: never below, and how far above.

    python -m tests.benchmarks.bounds [FOLDER] [--kernels 2000]

Random kernels (k = 3, 5, 7 on 4 to 12 pixels a side, 1 to 4 channels, k > n included), and
kernels found by gradient ascent on norm over bound, against the largest singular value of the
dense operator; each with the dense norm of small maps in use and without. With FOLDER, which
tests.benchmarks.network wrote, every layer of a trained network against ARPACK. Exits 1 if a
bound is on the wrong side of a norm by more than 1e-10.
"""

import argparse
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import LinearOperator, svds
from torch import Tensor

from models import certify
from models.layers.spectral_norm import SpectralNormConv2d
from models.norms import convolution_norm
from models.norms.convolution_norm import convolution_norm_bounds
from tests.benchmarks import network
from tests.benchmarks.alternating import machine
from tests.support.oracles import dense_norm
from tests.support.torus import torus_norms

_TOLERANCE = 1e-10
_N_ASCENT_STEPS = 80


def arpack_norm(weight: Tensor, size: tuple[int, int]) -> float:
    """The spectral norm of a zero-padded convolution, by ARPACK's Lanczos method, float64."""
    weight = weight.double()
    padding = (weight.shape[2] // 2, weight.shape[3] // 2)
    n_in, n_out = (c * size[0] * size[1] for c in (weight.shape[1], weight.shape[0]))

    def forward(x: np.ndarray) -> np.ndarray:
        image = torch.from_numpy(x.reshape(1, -1, *size))
        return F.conv2d(image, weight, padding=padding).numpy().ravel()

    def adjoint(y: np.ndarray) -> np.ndarray:
        image = torch.from_numpy(y.reshape(1, -1, *size))
        return F.conv_transpose2d(image, weight, padding=padding).numpy().ravel()

    operator = LinearOperator((n_out, n_in), forward, adjoint, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(min(n_in, n_out))
    return float(svds(operator, k=1, v0=start, tol=1e-7, return_singular_vectors=False)[0])


def _kernel(generator: torch.Generator) -> tuple[Tensor, int]:
    def pick(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    k, n, c_out, c_in = 2 * pick(1, 3) + 1, pick(4, 12), pick(1, 4), pick(1, 4)
    weight = torch.randn(c_out, c_in, k, k, dtype=torch.float64, generator=generator)
    return weight, n


def _climb(weight: Tensor, n: int) -> Tensor:
    """The kernel after gradient ascent on its dense norm over its bound on the torus."""
    weight = weight.clone().requires_grad_()
    optimizer = torch.optim.Adam([weight], lr=0.05)
    unit = torch.eye(weight.shape[1] * n * n, dtype=torch.float64)
    unit = unit.view(-1, weight.shape[1], n, n)
    for _ in range(_N_ASCENT_STEPS):
        dense = F.conv2d(unit, weight, padding=weight.shape[-1] // 2).flatten(1)
        norm = torch.linalg.matrix_norm(dense, ord=2)
        bound = torus_norms(weight.unsqueeze(0), (n, n))[0].squeeze()
        optimizer.zero_grad()
        (bound / norm).log().backward()
        optimizer.step()
    return weight.detach()


def _check(name: str, kernels: list[tuple[Tensor, int]]) -> int:
    """Print how the bounds lie; the number on the wrong side."""
    excesses, n_wrong, n_wider = [], 0, 0
    for weight, n in kernels:
        norm = dense_norm(weight, (n, n))
        n_wider += weight.shape[-1] > n
        for rows in (0, 256):
            convolution_norm._DENSE_ROWS = rows
            lower, upper = (b.item() for b in convolution_norm_bounds(weight[None], (n, n)))
            n_wrong += upper < norm - _TOLERANCE or lower > norm + _TOLERANCE
            if rows == 0:
                excesses.append(upper / norm - 1)
    print(
        f"{name}: {len(kernels)} kernels, {n_wider} wider than the map; on the wrong side: "
        f"{n_wrong}; upper bound on the torus above the norm by {min(excesses):.2e} at least, "
        f"median {statistics.median(excesses):.2%}, at most {max(excesses):.2%}",
        flush=True,
    )
    return n_wrong


def _trained(folder: Path) -> int:
    model, _ = network.load(folder)
    modules = dict(model.named_modules())
    excesses: dict[tuple[int, int], list[float]] = defaultdict(list)
    brackets: dict[tuple[int, int], list[float]] = defaultdict(list)
    n_wrong = 0
    certificate = certify(model)
    for layer in certificate.layers:
        module = modules[layer.name]
        assert isinstance(module, SpectralNormConv2d)
        norm = arpack_norm(module.effective_weight().detach(), module.size)
        n_wrong += layer.upper_bound < norm - _TOLERANCE or layer.lower_bound > norm + _TOLERANCE
        if module.weight.shape[-1] > 1:
            excesses[module.size].append(layer.upper_bound / norm - 1)
            brackets[module.size].append(layer.upper_bound / layer.lower_bound - 1)
    for size, values in excesses.items():
        print(
            f"trained, {size[0]} x {size[1]} pixels: {len(values)} layers with k > 1, upper bound "
            f"above the norm by {min(values):.2e} at least, median {statistics.median(values):.2%}"
            f", at most {max(values):.2%}; bracket at most {max(brackets[size]):.2%} wide"
        )
    tightened = [block.upper_bound / block.layer_product for block in certificate.blocks]
    product = max(block.layer_product for block in certificate.blocks)
    print(
        f"trained, blocks: bound over the product of the layers: median "
        f"{statistics.median(tightened):.3f}, from {min(tightened):.3f} to {max(tightened):.3f}; "
        f"network {certificate.lipschitz_upper_bound:.4f} instead of {product:.4f}; "
        f"on the wrong side: {n_wrong}"
    )
    return n_wrong


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--kernels", type=int, default=2000)
    arguments = parser.parse_args()
    print(machine())
    generator = torch.Generator().manual_seed(0)
    kernels = [_kernel(generator) for _ in range(arguments.kernels)]
    n_wrong = _check("random", kernels)
    small = [(weight, n) for weight, n in kernels if n <= 8][: arguments.kernels // 10]
    n_wrong += _check("climbed", [(_climb(weight, n), n) for weight, n in small])
    if arguments.folder:
        n_wrong += _trained(arguments.folder)
    return int(n_wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
