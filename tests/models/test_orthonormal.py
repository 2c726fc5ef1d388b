"""Layers with orthonormal rows, against singular value decompositions in float64."""

import pytest
import torch

from models.layers.orthonormal import OrthonormalConv2d, retract


def layer_with(values: torch.Tensor, n: int) -> OrthonormalConv2d:
    """A layer whose matrix, (len(values), n), has these singular values."""
    layer = OrthonormalConv2d(n, len(values), coeff=0.5).to(values.dtype)
    with torch.no_grad():
        u, _, vh = torch.linalg.svd(torch.randn(len(values), n, dtype=values.dtype))
        matrix = u @ values.diag() @ vh[: len(values)]
        layer.weight.copy_(matrix.view_as(layer.weight))
    return layer


def matrix_of(layer: OrthonormalConv2d) -> torch.Tensor:
    return layer.weight.detach().flatten(1)


@pytest.mark.parametrize("shape", [(6, 6), (6, 11), (1, 5)])
def test_all_singular_values_of_a_new_layer_are_its_target(shape: tuple[int, int]) -> None:
    layer = OrthonormalConv2d(shape[1], shape[0], coeff=1.7)
    values = torch.linalg.svdvals(layer.effective_weight().flatten(1).double())
    torch.testing.assert_close(values, torch.full_like(values, 1.7), rtol=1e-5, atol=0)
    plain = layer.deployed()
    x = torch.randn(2, shape[1], 3, 4)
    expected = torch.einsum("oi,bihw->bohw", layer.effective_weight().flatten(1), x)
    torch.testing.assert_close(plain(x), expected + layer.bias.view(1, -1, 1, 1))


@pytest.mark.parametrize("largest", [1.0, 1.1])
def test_a_step_is_a_polynomial_of_the_singular_values(largest: float) -> None:
    """Below a norm of the rows' absolute sums of 2, which values up to 1.1 may well have."""
    layer = layer_with(torch.linspace(0.8, largest, 3, dtype=torch.float64), 40)
    u, s, vh = torch.linalg.svd(matrix_of(layer), full_matrices=False)
    retract([layer], 1)
    torch.testing.assert_close(matrix_of(layer), u @ (s * (3 - s**2) / 2).diag() @ vh)


@pytest.mark.parametrize("scale", [0.05, 1.0, 3.0, 1e4])
def test_steps_lead_to_the_polar_factor_from_anywhere(scale: float) -> None:
    """Layers of one shape share a batch, and one far off changes nothing of another."""
    values = scale * torch.linspace(0.3, 1.2, 6, dtype=torch.float64)
    far, near = layer_with(values, 11), layer_with(torch.full_like(values, 1.01), 11)
    polar = []
    for layer in (far, near):
        u, _, vh = torch.linalg.svd(matrix_of(layer), full_matrices=False)
        polar.append(u @ vh)
    retract([far, near], 2)
    torch.testing.assert_close(matrix_of(near), polar[1], rtol=0, atol=1e-7)
    for _ in range(30):
        retract([far, near], 1)
        assert torch.linalg.svdvals(matrix_of(far)).max() <= max(1.0, scale) + 1e-12
    torch.testing.assert_close(matrix_of(far), polar[0])
    torch.testing.assert_close(matrix_of(near), polar[1])


def test_under_autocast_only_the_products_are_rounded() -> None:
    values = torch.linspace(0.97, 1.03, 24)
    exact = layer_with(values, 40)
    rounded = OrthonormalConv2d(40, 24, coeff=0.5)
    rounded.load_state_dict(exact.state_dict())
    retract([exact], 1)
    with torch.autocast("cpu", torch.bfloat16):
        retract([rounded], 1)
    off = torch.linalg.matrix_norm(matrix_of(exact) - matrix_of(rounded), ord=2)
    assert 0 < off < 0.005
    assert rounded.weight.dtype == torch.float32
