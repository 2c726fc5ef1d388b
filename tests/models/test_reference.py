"""What the benchmarks compare with computes the same things; so it can be an oracle as well."""

import copy

import torch

from models import IResNet, certify
from models.floats.raised import ROOM
from models.layers.spectral_norm import SpectralNormConv2d
from tests.benchmarks import reference
from tests.support.networks import enlarge, network


def test_per_layer_power_iteration_comes_to_the_same_weights() -> None:
    ours = network(blocks=(1, 1), dropout=0.0, coeff=0.5, n_power_iterations=400)
    enlarge(ours, 5)
    theirs = reference.per_layer_spectral_norm(copy.deepcopy(ours), 400)
    x = torch.randn(4, 2, 8, 8)
    theirs.train()(x)
    torch.testing.assert_close(theirs.features(x), ours.features(x), rtol=1e-3, atol=1e-3)


def test_our_certificate_is_at_most_the_papers_check_on_the_larger_grid() -> None:
    model = IResNet((4, 16, 16), 3, (1,))
    modules = dict(model.named_modules())
    for layer in certify(model, "fast").layers:
        module = modules[layer.name]
        assert isinstance(module, SpectralNormConv2d)
        reach = module.weight.shape[-1] // 2
        torus = (module.size[0] + reach, module.size[1] + reach)
        plain = reference.circular_norm(module.effective_weight(), torus)
        assert layer.upper_bound <= plain * (1 + 2 * ROOM)
