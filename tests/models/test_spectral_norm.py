import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.spectral_norm import (
    SpectralNormConv2d,
    convolution,
    power_iteration,
    update_spectral_norm,
)
from tests.support.operators import convolution_adjoint
from tests.support.oracles import dense_convolution, dense_norm

SHAPES = st.tuples(
    st.integers(1, 4),  # c_out
    st.integers(1, 4),  # c_in
    st.sampled_from([1, 3, 5]),  # k
    st.integers(1, 6),  # height
    st.integers(1, 6),  # width
)


@settings(deadline=None, max_examples=60)
@given(shape=SHAPES, seed=st.integers(0, 10_000))
def test_convolution_and_adjoint_are_the_dense_matrix_and_its_transpose(
    shape: tuple[int, int, int, int, int], seed: int
) -> None:
    c_out, c_in, k, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(c_out, c_in, k, k, dtype=torch.float64, generator=generator)
    matrix = dense_convolution(weight, (height, width))
    x = torch.randn(1, c_in, height, width, dtype=torch.float64, generator=generator)
    y = torch.randn(1, c_out, height, width, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(convolution(x, weight).flatten(), matrix @ x.flatten())
    torch.testing.assert_close(convolution_adjoint(y, weight).flatten(), matrix.T @ y.flatten())


@pytest.mark.parametrize(("c_in", "c_out"), [(2, 5), (5, 2), (3, 3)])
@pytest.mark.parametrize("k", [1, 3])
def test_a_long_power_iteration_reaches_the_norm_from_below(c_in: int, c_out: int, k: int) -> None:
    """In float64, since the two largest singular values may lie within a thousandth."""
    layer = SpectralNormConv2d(c_in, c_out, k, size=(6, 5), coeff=0.9).double()
    exact = dense_norm(layer.weight.detach(), (6, 5))
    estimates = []
    for _ in range(40):
        update_spectral_norm([layer], 200)
        estimates.append(layer.sigma.item())
    assert max(estimates) <= exact * (1 + 1e-12)
    assert estimates == pytest.approx(sorted(estimates), rel=1e-12)
    assert estimates[-1] == pytest.approx(exact, rel=1e-6)


def test_the_gradient_of_sigma_is_that_of_the_largest_singular_value() -> None:
    layer = SpectralNormConv2d(3, 2, 3, size=(4, 4), coeff=0.9)
    update_spectral_norm([layer], 500)
    weight = layer.weight.detach().double().requires_grad_()
    # The dense operator as a differentiable function of the kernel: conv of every unit vector.
    unit = torch.eye(3 * 4 * 4, dtype=torch.float64).view(-1, 3, 4, 4)
    norm = torch.linalg.matrix_norm(convolution(unit, weight).flatten(1), ord=2)
    (expected,) = torch.autograd.grad(norm, weight)
    (actual,) = torch.autograd.grad(layer.sigma, layer.weight)
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=1e-4)


def test_layers_of_one_shape_are_iterated_as_each_alone() -> None:
    """A layer and one of the transposed shape share a batch; the result is that of one each."""
    layers = [
        SpectralNormConv2d(2, 4, 3, size=(5, 5), coeff=0.9),
        SpectralNormConv2d(4, 2, 3, size=(5, 5), coeff=0.9),
        SpectralNormConv2d(2, 4, 3, size=(5, 5), coeff=0.9),
    ]
    alone = [SpectralNormConv2d(*io, 3, size=(5, 5), coeff=0.9) for io in ((2, 4), (4, 2), (2, 4))]
    for layer, single in zip(layers, alone, strict=True):
        single.load_state_dict(layer.state_dict())
        update_spectral_norm([single], 3)
    update_spectral_norm(layers, 3)
    for layer, single in zip(layers, alone, strict=True):
        torch.testing.assert_close(layer.outer, single.outer)
        torch.testing.assert_close(layer.vector, single.vector)


def test_one_call_with_two_iterations_is_two_calls_with_one() -> None:
    weight = torch.randn(1, 4, 2, 3, 3, dtype=torch.float64)
    start = torch.randn(1, 2, 5, 5, dtype=torch.float64)
    start /= start.norm()
    twice, outer = power_iteration(weight, start, 2)
    once, _ = power_iteration(weight, start, 1)
    again, outer_again = power_iteration(weight, once, 1)
    torch.testing.assert_close(twice, again)
    torch.testing.assert_close(outer, outer_again)


def test_a_large_weight_is_scaled_to_coeff_and_a_small_one_is_left_alone() -> None:
    layer = SpectralNormConv2d(3, 3, 3, size=(6, 6), coeff=0.7)
    with torch.no_grad():
        layer.weight.mul_(10)
    update_spectral_norm([layer], 500)
    assert dense_norm(layer.effective_weight().detach(), (6, 6)) == pytest.approx(0.7, rel=1e-4)
    with torch.no_grad():
        layer.weight.mul_(1e-3)
    update_spectral_norm([layer], 1)
    torch.testing.assert_close(layer.effective_weight(), layer.weight, rtol=0, atol=0)


def test_forward_is_the_convolution_with_the_effective_weight_and_changes_no_state() -> None:
    layer = SpectralNormConv2d(2, 3, 3, size=(4, 4), coeff=0.5)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    x = torch.randn(2, 2, 4, 4)
    expected = convolution(x, layer.effective_weight()) + layer.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(layer(x), expected)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_zero_weight_has_a_finite_gradient_and_recovers() -> None:
    layer = SpectralNormConv2d(2, 2, 3, size=(4, 4), coeff=0.5)
    saved = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.zero_()
    update_spectral_norm([layer], 5)
    layer(torch.ones(1, 2, 4, 4)).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.isfinite().all()
    with torch.no_grad():
        layer.weight.copy_(saved)
    update_spectral_norm([layer], 500)
    assert math.isclose(layer.sigma.item(), dense_norm(saved, (4, 4)), rel_tol=1e-4)


def test_no_iterations_is_an_error() -> None:
    layer = SpectralNormConv2d(1, 1, 3, size=(3, 3), coeff=0.9)
    with pytest.raises(ValueError, match="n_power_iterations >= 1 must hold, but got"):
        update_spectral_norm([layer], 0)
