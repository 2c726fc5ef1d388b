"""What blocks of other authors attain: against dense matrices, closed forms, and false bounds."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import Bounds, EmpiricalBounds, IResNet, empirical_bounds
from models.blocks.own import Block
from tests.support.own_code import Coupling, LosesARow, Whole

SHAPE = (2, 3, 3)


class Map(Block):
    """A whole map, given as a function."""

    def __init__(
        self, channels: int, size: tuple[int, int], *, coeff: float, dropout: float
    ) -> None:
        super().__init__(channels, size, coeff=coeff, dropout=dropout)
        self.matrix = nn.Parameter(torch.eye(channels * size[0] * size[1]))

    def forward(self, x: Tensor, weights: Any = None) -> Tensor:
        return (x.flatten(1) @ self.matrix.mT).view_as(x)

    def preimage(self, z: Tensor) -> Tensor:
        return z


def network(block: type[Block], shape: tuple[int, int, int] = SHAPE) -> IResNet:
    torch.manual_seed(0)
    return IResNet(
        shape, 3, [1], block=block, channel_multiplier=1, head="lipschitz", dropout=0.0
    ).eval()


def attained(model: IResNet, images: Tensor) -> EmpiricalBounds:
    (found,) = empirical_bounds(model, images)
    assert found is not None
    return found


def images(shape: tuple[int, int, int] = SHAPE, n: int = 4) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(1)) - 0.5


@pytest.mark.parametrize("shape", [(2, 2, 2), (2, 5, 5)])
def test_of_a_linear_map_the_singular_values_are_found(shape: tuple[int, int, int]) -> None:
    """By a dense SVD: nearly all of them in twelve dimensions or fewer, and none is exceeded."""
    model = network(Map, shape).double()
    matrix = model.get_parameter("body.0.matrix").data
    matrix += 0.3 * torch.randn(matrix.shape, dtype=torch.float64) / len(matrix) ** 0.5
    values = torch.linalg.svdvals(matrix)
    of_g = torch.linalg.svdvals(matrix - torch.eye(len(matrix)))
    found = attained(model, images(shape).double())
    tolerance = 1e-6 if len(matrix) <= 12 else 0.05
    for value, largest in ((found.beta, values[0].item()), (found.lipschitz, of_g[0].item())):
        assert largest * (1 - tolerance) <= value <= largest * (1 + 1e-9)
    smallest = values[-1].item()
    assert smallest * (1 - 1e-9) <= found.alpha <= smallest * (1 + 4 * tolerance)
    assert found.rounding == 0  # not shown by images of float64


@pytest.mark.parametrize("block", [Coupling, Whole])
def test_honest_blocks_keep_their_bounds(block: type[Block]) -> None:
    model = network(block)
    (own,) = (module for module in model.body if isinstance(module, Block))
    proven, found = own.bounds(), attained(model, images())
    assert 0 < found.lipschitz <= proven.lipschitz * (1 + 1e-6)
    assert proven.alpha * (1 - 1e-6) <= found.alpha < 1
    assert 1 < found.beta <= proven.beta * (1 + 1e-6)
    assert found.rounding <= proven.rounding


def test_a_kink_at_black_images_accuses_nobody() -> None:
    """The identity as relu(x) - relu(-x): torch's slope at 0 is 0, but no pair shows that."""

    class Kinked(Map):
        def forward(self, x: Tensor, weights: Any = None) -> Tensor:
            image = super().forward(x)
            return image.relu() - (-image).relu()

    found = attained(network(Kinked), torch.zeros(4, *SHAPE))
    assert found.alpha == pytest.approx(1, abs=1e-9)
    assert found.beta == pytest.approx(1, abs=1e-9)
    assert found.lipschitz < 1e-9


class ZeroesAPixel(Map):
    def forward(self, x: Tensor, weights: Any = None) -> Tensor:
        image = super().forward(x).clone()
        image[:, 1, 2, 1] = 0
        return image


class Detached(Map):
    """Its gradient is that of the identity."""

    def forward(self, x: Tensor, weights: Any = None) -> Tensor:
        image = super().forward(x)
        return image - image.detach().clone().index_fill_(1, torch.tensor([0]), 0)


class Quantizes(Map):
    """To 256 levels, with the gradient of the identity."""

    def forward(self, x: Tensor, weights: Any = None) -> Tensor:
        image = super().forward(x)
        return image + ((image * 255).round() / 255 - image).detach()


class Saturates(Map):
    """Far from any image."""

    def forward(self, x: Tensor, weights: Any = None) -> Tensor:
        return super().forward(x).clamp(-3, 3)


@pytest.mark.parametrize("block", [LosesARow, ZeroesAPixel, Detached, Quantizes, Saturates])
def test_maps_that_lose_something_attain_a_slope_near_zero(block: type[Block]) -> None:
    """Images whose last row and pixels are black show nothing by themselves."""
    x = images()
    x[:, :, -1] = 0
    assert attained(network(block), x).alpha < 0.5


def test_a_forward_pass_that_is_another_than_g_is_what_counts() -> None:
    class Other(Coupling):
        def forward(self, x: Tensor, weights: Any = None) -> Tensor:
            return 3 * x + self.g(x)

    found = attained(network(Other), images())
    assert found.lipschitz >= 2
    assert found.beta >= 3


def test_rounding_is_in_units_of_the_precision() -> None:
    """A pass through bfloat16 is off by 2^-9 of an entry and less than 2^-8 of the norm."""

    class Coarse(Map):
        def forward(self, x: Tensor, weights: Any = None) -> Tensor:
            image = super().forward(x)
            return image.bfloat16().float() if x.dtype == torch.float32 else image

    fine, coarse = (attained(network(block), images()).rounding for block in (Map, Coarse))
    assert fine == 0
    assert 2.0**12 < coarse < 2.0**16


def test_a_map_without_a_finite_value_attains_no_number() -> None:
    class Rooted(Map):
        def forward(self, x: Tensor, weights: Any = None) -> Tensor:
            return super().forward(x) + x.clamp(max=0).sqrt() * 0 + (x + 0.6).log() * 0

    found = attained(network(Rooted), images())
    assert found.beta != found.beta
    with pytest.raises(RuntimeError, match="eval mode"):
        empirical_bounds(network(Map).train(), images())


def test_blocks_of_this_package_are_not_tried() -> None:
    model = IResNet((1, 4, 4), 2, [2], channel_multiplier=4).eval()
    assert empirical_bounds(model, torch.zeros(1, 1, 4, 4)) == (None, None)


def test_bounds_that_are_true_are_never_refused() -> None:
    """Of random matrices, by SVD; and of an isometry, whose bounds rounding may swap."""
    generator = torch.Generator().manual_seed(0)
    for size in (0.01, 0.3, 1.0, 3.0):
        for _ in range(50):
            g = size * torch.randn(4, 4, generator=generator, dtype=torch.float64)
            values = torch.linalg.svdvals(g + torch.eye(4))
            Bounds(
                torch.linalg.svdvals(g)[0].item(), alpha=values[-1].item(), beta=values[0].item()
            )
    Bounds(alpha=1 + 1e-12, beta=1.0)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ((0.5, 1.0, 0.01), "alpha <= beta"),
        ((0.5, 1.6, 2.0), "alpha <= 1 [+] lipschitz"),
        ((0.5, 0.1, 0.4), "beta >= 1 - lipschitz"),
        ((float("inf"), float("inf"), float("inf")), "alpha < inf"),
    ],
)
def test_bounds_that_contradict_each_other_are_refused(
    given: tuple[float, float, float], rule: str
) -> None:
    with pytest.raises(ValueError, match=f"^{rule} must hold, but got lipschitz={given[0]}, alpha"):
        Bounds(*given)
