"""Against exact rational arithmetic."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from models.network.double_double import DoubleDouble, add, bound_after, residual_of, takes
from tests.support.networks import blocks_of, network

Exact = dict[tuple[int, int, int], Fraction]


def exact(parts: DoubleDouble) -> Exact:
    """The sum of both parts of one sample (1, C, H, W), entry by entry."""
    first, second = (part[0].tolist() for part in parts)
    return {
        (c, y, x): Fraction(value) + Fraction(second[c][y][x])
        for c, rows in enumerate(first)
        for y, row in enumerate(rows)
        for x, value in enumerate(row)
    }


def convolved(layer: nn.Conv2d, image: Exact) -> Exact:
    """By its definition."""
    weight, reach = layer.weight.tolist(), layer.weight.shape[2] // 2
    assert layer.bias is not None
    bias = layer.bias.tolist()
    pixels = sorted({(y, x) for _, y, x in image})
    out: Exact = {}
    for o, kernels in enumerate(weight):
        for y, x in pixels:
            out[o, y, x] = Fraction(bias[o]) + sum(
                Fraction(tap) * image.get((c, y + a - reach, x + b - reach), Fraction(0))
                for c, kernel in enumerate(kernels)
                for a, row in enumerate(kernel)
                for b, tap in enumerate(row)
            )
    return out


def residual(g: nn.Sequential, x: DoubleDouble, z: DoubleDouble) -> Exact:
    """x + g(x) - z."""
    image = start = exact(x)
    for module in g:
        if isinstance(module, nn.Conv2d):
            image = convolved(module, image)
        else:
            assert isinstance(module, nn.ReLU)
            image = {at: max(value, Fraction(0)) for at, value in image.items()}
    return {at: start[at] + image[at] - value for at, value in exact(z).items()}


def tensor(of: Exact, size: tuple[int, ...]) -> Tensor:
    return torch.tensor([float(value) for value in of.values()], dtype=torch.float64).view(size)


def norm(of: Exact) -> float:
    return float(sum(value * value for value in of.values())) ** 0.5


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_residual_is_good_to_27_digits(scale: float, dtype: torch.dtype) -> None:
    """Of what nearly cancels: z is x + g(x), rounded to two float64. Entries differ by 10^6."""
    model = network(in_shape=(2, 3, 3), blocks=(2,), norm="none", dropout=0.0).to(dtype).eval()
    g = blocks_of(model)[1].deployed().double()
    generator = torch.Generator().manual_seed(0)
    size = (1, model.body[-1].in_shape[0], 3, 3)

    def random(factor: float) -> Tensor:
        return factor * torch.randn(size, dtype=torch.float64, generator=generator)

    spread = 10.0 ** torch.randint(-6, 1, size, generator=generator).double()
    x = random(scale) * spread, random(scale * 1e-18) * spread
    zero = torch.zeros(size, dtype=torch.float64)
    image = residual(g, x, (zero, zero))
    first = tensor(image, size)
    rest = {at: value - Fraction(float(first[0][at])) for at, value in image.items()}
    z = first, tensor(rest, size)
    found, error = residual_of(g, x, z)
    bound = found.norm() * (1 + 1e-15) + error
    truth = residual(g, x, z)
    off = {at: Fraction(float(found[0][at])) - truth[at] for at in truth}
    assert norm(truth) <= bound.item()
    # The biases are near 0.1.
    assert norm(off) <= 1e-27 * max(scale, 1) * first.norm().item()
    assert bound.item() <= 1e-24 * max(scale, 1) * first.norm().item()


@pytest.mark.parametrize("size", [1e-9, 1e-13])
def test_a_step_to_the_solution_leaves_no_more_than_is_proven(size: float) -> None:
    """Of blocks whose x is off the solution by `size`, against exact arithmetic."""
    model = network(in_shape=(2, 3, 3), blocks=(2,), norm="none", dropout=0.0).double().eval()
    g = blocks_of(model)[1].deployed()
    generator = torch.Generator().manual_seed(0)
    shape = (1, model.body[-1].in_shape[0], 3, 3)
    solution, step = torch.randn(2, *shape, dtype=torch.float64, generator=generator)
    zero = torch.zeros(shape, dtype=torch.float64)
    z = tensor(residual(g, (solution, zero), (zero, zero)), shape), zero
    x = add((solution, zero), (-size * step, zero))
    missing, error = residual_of(g, x, z)
    bound = bound_after(g, x, size * step, missing, error)
    truth = norm(residual(g, add(x, (size * step, zero)), z))
    assert truth <= bound.item() <= 1.1 * truth + 1e-14 * size


def test_where_a_step_may_change_a_sign_nothing_is_proven() -> None:
    model = network(in_shape=(2, 3, 3), blocks=(1,), norm="none", dropout=0.0).double().eval()
    (block,) = blocks_of(model)
    g = block.deployed()
    x = torch.rand(2, *block.in_shape, dtype=torch.float64)
    zero = torch.zeros_like(x)
    missing, error = residual_of(g, (x, zero), (x, zero))
    steps = torch.stack([torch.full_like(x[0], 1e-12), torch.full_like(x[1], 10.0)])
    assert bound_after(g, (x, zero), steps, missing, error).isinf().tolist() == [False, True]


@pytest.mark.parametrize(
    ("changes", "is_taken"),
    [
        ({}, True),
        ({"dropout": 0.0}, True),
        ({"activation": "elu"}, False),
        ({"norm": "batch"}, False),
    ],
)
def test_it_takes_blocks_of_relu_and_convolutions(changes: dict[str, str], is_taken: bool) -> None:
    block = blocks_of(network(**changes))[1]
    assert takes(block.deployed()) == is_taken
