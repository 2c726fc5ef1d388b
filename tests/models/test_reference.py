"""What the benchmarks compare with computes the same things; so it can be an oracle as well."""

import copy

import pytest
import torch

from models import IResNet, certify
from models.certificate import ROOM
from models.spectral_norm import SpectralNormConv2d
from tests.support import reference
from tests.support.networks import with_biases
from tests.support.oracles import dense_norm, relative_error


def test_per_layer_power_iteration_comes_to_the_same_weights() -> None:
    ours = with_biases(
        IResNet((2, 8, 8), 3, (1, 1), dropout=0.0, coeff=0.5, n_power_iterations=400)
    )
    with torch.no_grad():
        for parameter in ours.body.parameters():
            parameter.mul_(5)
    theirs = reference.per_layer_spectral_norm(copy.deepcopy(ours), 400)
    ours.update_spectral_norm()
    x = torch.randn(4, 2, 8, 8)
    theirs.train()(x)
    torch.testing.assert_close(theirs.features(x), ours.features(x), rtol=1e-3, atol=1e-3)


def test_the_papers_check_is_exact_for_one_pixel_kernels_and_can_be_too_small_for_others() -> None:
    weight = torch.randn(3, 4, 1, 1)
    exact = dense_norm(weight, (4, 4))
    assert reference.circular_norm(weight, (4, 4)) == pytest.approx(exact, rel=1e-12)
    second = torch.tensor([-1.0, 2.0, -1.0])
    weight = torch.outer(second, second).view(1, 1, 3, 3)
    assert reference.circular_norm(weight, (5, 5)) < 0.95 * dense_norm(weight, (5, 5))
    assert reference.circular_norm(weight, (6, 6)) >= dense_norm(weight, (5, 5))


def test_a_hundred_steps_invert_what_ours_inverts() -> None:
    model = with_biases(IResNet((2, 8, 8), 3, (2, 1))).eval()
    x = torch.rand(3, 2, 8, 8) - 0.5
    with torch.no_grad():
        z = model.features(x)
    assert relative_error(reference.inverse(model, z), x).max() < 1e-6
    assert relative_error(model.inverse(z, rtol=1e-7).value, x).max() < 1e-6


def test_our_certificate_is_at_most_the_papers_check_on_the_larger_grid() -> None:
    model = IResNet((4, 16, 16), 3, (1,))
    modules = dict(model.named_modules())
    for layer in certify(model).layers:
        module = modules[layer.name]
        assert isinstance(module, SpectralNormConv2d)
        reach = module.weight.shape[-1] // 2
        torus = (module.size[0] + reach, module.size[1] + reach)
        plain = reference.circular_norm(module.effective_weight(), torus)
        assert layer.upper_bound <= plain * (1 + 2 * ROOM)
