import copy
import math

import pytest
import torch
import torch.nn.functional as F

from models.layers.power_iteration import power_iteration
from models.layers.spectral_norm import SpectralNormConv2d, effective_weights, update_spectral_norm
from tests.support.oracles import dense_norm


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
    norm = torch.linalg.matrix_norm(F.conv2d(unit, weight, padding=1).flatten(1), ord=2)
    (expected,) = torch.autograd.grad(norm, weight)
    (actual,) = torch.autograd.grad(layer.sigma, layer.weight)
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=1e-4)


def test_layers_of_one_shape_are_iterated_as_each_alone() -> None:
    """A layer and one of the transposed shape share a batch; the result is that of one each."""
    layers = [SpectralNormConv2d(*io, 3, size=(5, 5), coeff=0.9) for io in ((2, 4), (4, 2), (2, 4))]
    alone = copy.deepcopy(layers)
    for single in alone:
        update_spectral_norm([single], 3)
    update_spectral_norm(layers, 3)
    for layer, single in zip(layers, alone, strict=True):
        torch.testing.assert_close(layer.outer, single.outer)
        torch.testing.assert_close(layer.vector, single.vector)


def layers_of_three_kinds() -> list[SpectralNormConv2d]:
    """Of one shape with two targets, one of another shape, some below and some above the target."""
    shapes = [(6, 3, 3, 0.5), (6, 3, 3, 0.5), (3, 6, 1, 0.5), (6, 3, 3, 0.9), (6, 3, 3, 0.5)]
    layers = [
        SpectralNormConv2d(c_in, c_out, k, size=(5, 4), coeff=coeff)
        for c_in, c_out, k, coeff in shapes
    ]
    with torch.no_grad():
        layers[1].weight.mul_(0.1)
        layers[4].weight.mul_(20)
    update_spectral_norm(layers, 30)
    assert layers[1].sigma < layers[1].coeff < layers[0].sigma
    return layers


def test_effective_weights_and_their_gradients_are_those_of_the_formula() -> None:
    """Autograd through W * min(1, coeff / <G, W>), a layer at a time, in float64."""
    layers = [layer.double() for layer in layers_of_three_kinds()]
    effective = effective_weights(layers)
    directions = [torch.randn_like(weight) for weight in effective]
    sum((w * d).sum() for w, d in zip(effective, directions, strict=True)).backward()
    for layer, weight, direction in zip(layers, effective, directions, strict=True):
        plain = layer.weight.detach().requires_grad_()
        sigma = (layer.outer * plain).sum()
        expected = plain * (layer.coeff / sigma).clamp(max=1)
        torch.testing.assert_close(weight, expected)
        (gradient,) = torch.autograd.grad(expected, plain, direction)
        torch.testing.assert_close(layer.weight.grad, gradient)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_an_effective_weight_is_the_same_bits_in_any_company(layout: torch.memory_format) -> None:
    """Alone and beside others, in both layouts of torch, on any number of threads."""
    layers = [SpectralNormConv2d(64, 96, 3, size=(4, 4), coeff=0.5) for _ in range(3)]
    layers.append(SpectralNormConv2d(9, 1, 3, size=(4, 4), coeff=0.5))
    # More inputs of one output than torch sums on one thread.
    layers += [SpectralNormConv2d(36_864, 1, 1, size=(1, 1), coeff=0.9) for _ in range(2)]
    together = effective_weights(layers)
    n_threads = torch.get_num_threads()
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            for layer, weight in zip(layers, together, strict=True):
                for tensor in (layer.weight, layer.outer):
                    tensor.data = tensor.data.contiguous(memory_format=layout)
                assert torch.equal(layer.effective_weight(), weight)
                assert weight.is_contiguous(memory_format=torch.channels_last)
    finally:
        torch.set_num_threads(n_threads)


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
    expected = F.conv2d(x, layer.effective_weight(), layer.bias, padding=1)
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


def test_power_iteration_is_as_exact_under_autocast() -> None:
    layer = SpectralNormConv2d(3, 5, 3, size=(6, 6), coeff=0.9)
    other = copy.deepcopy(layer)
    update_spectral_norm([layer], 2)
    with torch.autocast("cpu", torch.bfloat16):
        update_spectral_norm([other], 2)
    assert torch.equal(layer.outer, other.outer)
    assert torch.equal(layer.vector, other.vector)
