"""Potential blocks inverted by scalar equations, against exact arithmetic and against iteration."""

from typing import Any

import mpmath
import pytest
import torch
from torch import Tensor, nn

from models.blocks.invertible_block import solve
from models.blocks.potential import PotentialBlock
from models.inverse import decoupled as by_scalars
from models.inverse.fixed_point import Solution
from models.layers.activations import ACTIVATIONS
from models.spec import NetworkSpec

N_INNER, N_CHANNELS = 4, 9
ENTRYWISE = {
    "relu": lambda u: max(u, mpmath.mpf(0)),
    "elu": lambda u: u if u > 0 else mpmath.expm1(u),
    "softplus": lambda u: mpmath.log1p(mpmath.exp(u)),
}


def block_of(
    scale: float, off: float, activation: str = "relu", dtype: torch.dtype = torch.float64
) -> PotentialBlock:
    """A dense block with W W^T = scale I, but for a matrix of the norm `off` or so."""
    settings: dict[str, Any] = {"block": "potential", "norm": "none", "activation": activation}
    spec = NetworkSpec(in_shape=(N_CHANNELS, 1, 1), n_classes=2, blocks=(1,), **settings)
    block = PotentialBlock(spec, N_CHANNELS, (1, 1), dense=True).to(dtype)
    rows = torch.linalg.qr(torch.randn(N_CHANNELS, N_INNER, dtype=torch.float64)).Q.T
    weight = scale**0.5 * rows + off * torch.randn(N_INNER, N_CHANNELS, dtype=torch.float64)
    block.conv = nn.Conv2d(N_CHANNELS, N_INNER, 1, dtype=dtype)
    block.conv.weight.data = weight.to(dtype).view(N_INNER, N_CHANNELS, 1, 1)
    nn.init.normal_(block.conv.bias)
    return block.eval()


def points(n: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, N_CHANNELS, 1, 1, dtype=dtype)


def iterated(block: PotentialBlock, z: Tensor, **settings: Any) -> Solution:
    return solve(block.layers(), z, **settings)


def distance_in_units(block: PotentialBlock, activation: str, x: Tensor, z: Tensor) -> float:
    """The largest l2 distance, over samples, of the image of x in exact arithmetic from z, in units
    of rounding of numbers like x."""
    unit, largest = torch.finfo(x.dtype).eps, 0.0
    with mpmath.workdps(40):
        weight = mpmath.matrix(block.conv.weight.flatten(1).tolist())
        assert block.conv.bias is not None
        bias = mpmath.matrix(block.conv.bias.tolist())
        for solution, target in zip(x.flatten(1).tolist(), z.flatten(1).tolist(), strict=True):
            inner = (weight * mpmath.matrix(solution) + bias).apply(ENTRYWISE[activation])
            missing = mpmath.matrix(solution) - weight.T * inner - mpmath.matrix(target)
            size = 1 + mpmath.norm(mpmath.matrix(solution))
            largest = max(largest, float(mpmath.norm(missing) / (unit * size)))
    return largest


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("scale", "off"), [(0.5, 0.0), (0.5, 1e-3), (0.999, 1e-6), (0.0, 0.0)])
def test_in_exact_arithmetic_the_image_is_that_given_but_for_rounding(
    scale: float, off: float, activation: str, dtype: torch.dtype
) -> None:
    block, z = block_of(scale, off, activation, dtype), points(20, dtype)
    solution = block.inverse(z, rtol=10 * torch.finfo(dtype).eps)
    assert solution.converged.all()
    assert distance_in_units(block, activation, solution.value, z) <= 50


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("off", [0.0, 1e-6, 3e-3])
def test_it_is_what_the_iteration_comes_to(activation: str, off: float) -> None:
    block, z = block_of(0.6, off, activation), points(300)
    expected = iterated(block, z, rtol=1e-15, max_steps=300)
    solution = block.inverse(z, rtol=1e-13)
    assert solution.converged.all()
    torch.testing.assert_close(solution.value, expected.last_iterate, rtol=1e-11, atol=1e-11)
    # Each iteration gains the factor |R| / (1 - s).
    assert solution.n_steps.max() <= {0.0: 1, 1e-6: 3, 3e-3: 12}[off]


def test_rows_of_other_angles_or_lengths_are_iterated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_scalars, "fixed_point", None)  # which scalar equations would call
    z = points(10)
    for block in (block_of(0.5, 0.2), block_of(1.2, 0.0)):
        solution, expected = block.inverse(z, max_steps=20), iterated(block, z, max_steps=20)
        assert torch.equal(solution.last_iterate, expected.last_iterate)
    block = block_of(0.5, 0.0)
    block.activation = nn.Tanh()
    assert block.inverse(z).converged.all()


def test_a_newton_step_is_that_of_the_iteration() -> None:
    block = block_of(0.6, 1e-4)
    x, missing = points(50), 1e-3 * points(50)
    g = block.exact_g()
    assert g is not None
    step = block.newton_step(g, x, missing, 1e-6)
    expected = super(PotentialBlock, block).newton_step(g, x, missing, 1e-14)
    torch.testing.assert_close(step, expected, rtol=1e-10, atol=1e-14)
