"""Bounds of the error of an inverse, against what it is off."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import IResNet, Solution, certify, deployed, project
from models.blocks.bottleneck import ResidualBlock
from models.blocks.potential import PotentialBlock
from models.isometries import InjectivePad, Squeeze
from tests.support.networks import blocks_of, enlarge, network, normalized_layers

small = partial(network, in_shape=(3, 8, 8), n_classes=5, blocks=(2, 2), dropout=0.0)


def bounds_of(solution: Solution) -> tuple[Tensor, Tensor]:
    """(error_bound, image_error_bound), which are there."""
    assert solution.error_bound is not None
    assert solution.image_error_bound is not None
    return solution.error_bound, solution.image_error_bound


def distance(solution: Solution, images: Tensor) -> Tensor:
    """(B,), l2, of images from their reconstructions."""
    return (solution.last_iterate.double() - images.double()).flatten(1).norm(dim=1)


def features(model: IResNet, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model.features(images)


@pytest.mark.parametrize(("coeff", "max_steps"), [(0.5, 1), (0.97, 3), (0.97, 100)])
def test_the_error_bound_is_never_below_the_error(coeff: float, max_steps: int) -> None:
    """Against the exact preimage, found in float64, block by block, unconverged ones included."""
    model = small(in_shape=(2, 4, 4), blocks=(2, 1), coeff=coeff, n_power_iterations=50)
    enlarge(model, 5)
    project(model, coeff)
    z = features(model.eval(), torch.rand(5, 2, 4, 4) - 0.5)
    certificate = certify(model, "fast")
    solution = model.inverse(z, rtol=1e-7, max_steps=max_steps, certificate=certificate)
    bound, _ = bounds_of(solution)
    assert bound.shape == (3, 5)
    exact = z.double()
    index = 2
    for module in reversed(model.body):
        if isinstance(module, ResidualBlock):
            g, target, exact = module.deployed().double(), exact, exact
            with torch.no_grad():
                for _ in range(600):
                    before, exact = exact, target - g(exact)
                    if torch.equal(before, exact):
                        break
            z = module.inverse(z, rtol=1e-7, max_steps=max_steps).last_iterate
            error = (z.double() - exact).flatten(1).norm(dim=1)
            assert (error <= bound[index]).all()
            assert (bound[index] <= 1.02 * error + 1e-11 * exact.norm()).all()
            index -= 1
        else:
            assert isinstance(module, Squeeze | InjectivePad)
            z, exact = module.inverse(z), module.inverse(exact)
    assert index == -1


def test_blocks_that_are_proven_invertible_need_not_contract() -> None:
    """x + W^T relu(2 relu(W x)): steps may grow, and some images come back by the proof alone."""
    model = small(in_shape=(4, 1, 1), blocks=(1,), channel_multiplier=1, bottleneck=1, norm="none")
    first, second, third = (m for m in model.body[0].residual if isinstance(m, nn.Conv2d))
    with torch.no_grad():
        torch.nn.init.orthogonal_(first.weight[:, :, 1, 1])
        third.weight.copy_(first.weight.transpose(0, 1))
        second.weight.copy_(2 * torch.eye(4).view(4, 4, 1, 1))
    certificate = certify(model.eval())
    assert not certificate.contraction
    assert certificate.invertible
    images = torch.randn(20, 4, 1, 1)
    z = features(model, images)
    assert not model.inverse(z).converged.all()
    solution = model.inverse(z, certificate=certificate)
    assert solution.converged.all()
    bound, _ = bounds_of(solution)
    # The features are rounded to float32 here.
    assert (distance(solution, images) <= bound[0] + 1e-5).all()
    assert bound.max() < 1e-4
    without = model.inverse(z, certificate=certificate, bound_error=False)
    assert without.error_bound is None
    assert torch.equal(without.value, solution.value)


def dense(**changes: Any) -> IResNet:
    settings: dict[str, Any] = {"dense_blocks": 8, "coeff": 0.9, "n_power_iterations": 50}
    model = IResNet(
        (1, 8, 8), 10, (), bottleneck=1, channel_multiplier=1, head="lipschitz", dropout=0.0,
        **{**settings, **changes},
    )  # fmt: skip
    model.update_spectral_norm()
    return model.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "build",
    [
        dense,
        partial(dense, coeff=0.3),
        partial(dense, activation="softplus"),
        partial(small, n_power_iterations=50),
        partial(small, activation="elu", n_power_iterations=50),
    ],
)
def test_no_image_is_farther_from_its_reconstruction_than_proven(
    build: Callable[[], IResNet], dtype: torch.dtype
) -> None:
    """The features are rounded, which an error bound from their exact preimage does not know."""
    model = deployed(build()).to(dtype).eval()
    certificate = certify(model, "fast")
    assert certificate.invertible
    images = torch.rand(16, *model.in_shape, dtype=dtype) - 0.5
    z = features(model, images)
    inverse = partial(model.inverse, z, rtol=torch.finfo(dtype).eps, certificate=certificate)
    solution = inverse()
    off, (bound, of_image) = distance(solution, images), bounds_of(solution)
    assert (off <= of_image).all()
    assert (bound[0] < of_image).all()
    _, at_hand = bounds_of(inverse(images=images))
    assert (off <= at_hand).all()
    torch.testing.assert_close(at_hand, off, rtol=1e-8, atol=0.0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_bound_from_features_alone_holds_for_the_worst_rounding(sign: float) -> None:
    """Each sum of n products is off by n units of rounding of the sum of their absolute values, all
    of them the same way: the most that any order of summation can be off."""
    model = deployed(dense(dense_blocks=3, coeff=0.5))
    images = torch.rand(32, 1, 8, 8) - 0.5
    x = images.double()
    with torch.no_grad():
        for module in model.body:
            if not isinstance(module, PotentialBlock):
                x = module(x)
                continue
            g = x
            for layer in module.deployed().double():
                value = layer(g)
                if isinstance(layer, nn.Conv2d):
                    bias = None if layer.bias is None else layer.bias.abs()
                    off = nn.functional.conv2d(g.abs(), layer.weight.abs(), bias)
                    value = value + sign * layer.weight[0].numel() * 2**-24 * off
                g = value
            x = x + g
    solution = model.inverse(x.float(), rtol=0.0, certificate=certify(model, "fast"))
    off, (_, bound) = distance(solution, images), bounds_of(solution)
    # It is larger than the worst case only by the direction in which an error is amplified.
    assert (off <= bound).all()
    assert (bound < 30 * off).all()


def test_the_bound_from_features_alone_follows_the_scale_of_the_images() -> None:
    """Without biases, a network of ReLU scales with its images, and so does its rounding."""
    model = deployed(dense(dense_blocks=3, coeff=0.5))
    with torch.no_grad():
        for name, parameter in model.body.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    certificate = certify(model, "fast")
    images = torch.rand(4, 1, 8, 8) - 0.5
    bounds = []
    for exponent in (0, 40, 100):
        z = features(model, images * 2.0**exponent)
        _, bound = bounds_of(model.inverse(z, rtol=0.0, certificate=certificate))
        bounds.append(bound / 2.0**exponent)
    for bound in bounds[1:]:
        torch.testing.assert_close(bound, bounds[0], rtol=1e-3, atol=0.0)


def test_without_a_proof_the_image_at_hand_has_its_distance() -> None:
    model = small().eval()
    images = torch.rand(4, 3, 8, 8)
    z = features(model, images)
    assert model.inverse(z).image_error_bound is None
    solution = model.inverse(z, max_steps=1, images=images)
    found, off = solution.image_error_bound, distance(solution, images)
    torch.testing.assert_close(found, off, rtol=1e-6, atol=0.0)
    with pytest.raises(ValueError, match=r"images of shape \(4, 3, 8, 8\) must be given"):
        model.inverse(z, images=images[:1])


def test_without_a_proof_there_is_no_error_bound() -> None:
    model = small().eval()
    z = torch.randn(2, 48, 4, 4)
    assert model.inverse(z).error_bound is None
    proven = certify(model, "fast")
    blocks = list(proven.blocks)
    blocks[1] = replace(blocks[1], inverse_lipschitz_upper_bound=math.inf)
    without = replace(proven, blocks=tuple(blocks))
    bound, of_image = bounds_of(model.inverse(z, certificate=without))
    assert of_image.isinf().all()
    assert bound.isinf().all(dim=1).tolist() == [True, True, False, False]


@pytest.mark.parametrize("activation", ["relu", "softplus"])
def test_the_error_bound_of_a_float64_network_has_the_rounding_in_it(activation: str) -> None:
    """Biases far above z: where float64 itself rounds, zero is no bound."""
    model = small(activation=activation).double().eval()
    with torch.no_grad():
        for layer in normalized_layers(blocks_of(model)[-1]):
            layer.bias.mul_(1e6)
    z = torch.zeros(2, 48, 4, 4).double()
    bound, _ = bounds_of(model.inverse(z, rtol=0.0, certificate=certify(model, "fast")))
    assert (bound[-1] > 1e-12).all()


@pytest.mark.parametrize("exponent", [-165, -300])
def test_the_error_bound_of_numbers_whose_squares_underflow(exponent: int) -> None:
    """Without biases a block of ReLU is homogeneous: the errors of scaled features are scaled."""
    model = IResNet(
        (1, 4, 4), 2, (1,), bottleneck=1, channel_multiplier=1, dropout=0.0, n_power_iterations=99
    )
    model = model.double().eval()
    with torch.no_grad():
        for name, parameter in model.body.named_parameters():
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    model.update_spectral_norm()
    certificate, x = certify(model, "fast"), torch.rand(5, 1, 4, 4, dtype=torch.float64)
    z = features(model, x) * 10.0**exponent
    solution = model.inverse(z, rtol=1e-3, certificate=certificate)
    assert solution.converged.all()
    error = (solution.last_iterate * 10.0**-exponent - x).flatten(1).norm(dim=1)
    bound = bounds_of(solution)[0][0] * 10.0**-exponent
    assert (error > 1e-8).all()
    assert (error <= bound * (1 + 1e-9)).all()
    assert exponent < -200 or (bound < 100 * error).all()


def test_an_inverse_is_in_full_precision_under_autocast() -> None:
    model = small().eval()
    z = features(model, torch.randn(3, 3, 8, 8))
    certificate = certify(model, "fast")
    expected = model.inverse(z, certificate=certificate)
    with torch.autocast("cpu", torch.bfloat16):
        solution = model.inverse(z, certificate=certificate)
    assert solution.converged.all()
    assert torch.equal(solution.value, expected.value)
    for bound, other in zip(bounds_of(solution), bounds_of(expected), strict=True):
        assert torch.equal(bound, other)
