import json
import math
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from models import IResNet, certify
from models.layers.spectral_norm import SpectralNormConv2d
from tests.support.networks import blocks_of, enlarge, network, normalized_layers
from tests.support.oracles import dense_convolution, dense_norm

small = partial(network, dropout=0.0)


def test_a_layer_bound_is_that_of_the_effective_weight_in_every_mode() -> None:
    model = small(coeff=0.5)
    enlarge(model, 20)
    modules = dict(model.named_modules())
    for result in (certify(model.train()), certify(model.eval())):
        assert len(result.layers) == 9
        for layer in result.layers:
            module = modules[layer.name]
            assert isinstance(module, SpectralNormConv2d)
            exact = dense_norm(module.effective_weight().detach(), module.size)
            assert exact <= layer.upper_bound <= exact * 1.07
            assert layer.upper_bound < dense_norm(module.weight.detach(), module.size) / 5


def test_the_network_is_as_good_as_its_worst_block() -> None:
    result = certify(small())
    for block in result.blocks:
        inside = [x.upper_bound for x in result.layers if x.name.startswith(f"{block.name}.")]
        assert len(inside) == 3
        assert block.layer_product == pytest.approx(math.prod(inside), rel=2e-9)
        assert block.layer_product >= math.prod(inside)
        assert block.upper_bound <= block.layer_product
    assert result.block_bounds == tuple(block.upper_bound for block in result.blocks)
    assert result.lipschitz_upper_bound == max(result.block_bounds)
    assert result.contraction
    result = certify(small(channel_multiplier=8))  # the layers' interplay tightens a block
    assert all(block.upper_bound < 0.9 * block.layer_product for block in result.blocks)


def test_training_mode_pays_for_dropout_and_has_no_bound_with_batch_norm() -> None:
    for block in certify(small(dropout=0.2)).blocks:
        assert block.train_upper_bound == pytest.approx(block.upper_bound / 0.8, rel=1e-10)
    for block in certify(small()).blocks:
        assert block.train_upper_bound == block.upper_bound
    result = certify(small(norm="batch").eval())
    assert result.train_lipschitz_upper_bound == math.inf


def test_the_bounds_of_the_network_hold_for_its_jacobian() -> None:
    """Every singular value of the Jacobian of features lies within the bi-Lipschitz bounds."""
    model = small(in_shape=(2, 4, 4), channel_multiplier=1, bottleneck=1).double().eval()
    result = certify(model)
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(model.features, x).reshape(32, 32)
    values = torch.linalg.svdvals(jacobian)
    assert values[0] <= result.features_lipschitz_upper_bound
    assert 1 / values[-1] <= result.inverse_lipschitz_upper_bound
    for block in result.blocks:
        assert block.map_lipschitz_upper_bound < 1 + block.upper_bound
        assert block.inverse_lipschitz_upper_bound < 1 / (1 - block.upper_bound)
    expected = math.prod(block.map_lipschitz_upper_bound for block in result.blocks)
    assert result.features_lipschitz_upper_bound == pytest.approx(expected)
    expected = math.prod(block.inverse_lipschitz_upper_bound for block in result.blocks)
    assert result.inverse_lipschitz_upper_bound == pytest.approx(expected)


def test_a_block_can_be_invertible_that_is_no_contraction() -> None:
    """With the least singular value of x + g over all masks, by brute force."""
    model = network(
        in_shape=(2, 1, 2), blocks=(1,), channel_multiplier=1, bottleneck=2, norm="none"
    )
    (block,) = blocks_of(model)
    first, second, third = (m for m in block.residual if isinstance(m, nn.Conv2d))
    with torch.no_grad():
        third.weight.mul_(1.2 / certify(model).lipschitz_upper_bound)
    certificate = certify(model)
    assert not certificate.contraction
    assert certificate.invertible
    w1, w2, w3 = (dense_convolution(m.weight.double(), (1, 2)) for m in (first, second, third))
    masks = torch.tensor(list(product([0.0, 1.0], repeat=2))).double()
    jacobians = torch.eye(4) + w3 @ torch.einsum("ai,ij,bj,jk->abik", masks, w2, masks, w1)
    least = torch.linalg.svdvals(jacobians).min().item()
    assert 1 / least <= certificate.inverse_lipschitz_upper_bound < 1.5 / least


def test_the_number_of_threads_does_not_show() -> None:
    model = IResNet((4, 16, 16), 3, (3, 2), channel_multiplier=4)
    before = torch.get_num_threads()
    try:
        results = []
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            results.append(certify(model))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert [layer.name for layer in other.layers] == [x.name for x in results[0].layers]
        expected = [layer.upper_bound for layer in results[0].layers]
        assert [layer.upper_bound for layer in other.layers] == pytest.approx(expected, rel=1e-12)
        assert other.block_bounds == pytest.approx(results[0].block_bounds, rel=1e-12)


def test_batch_norm_is_folded_into_the_convolution_ahead() -> None:
    """Against the dense matrix of BatchNorm(conv(x)); without a convolution it is diagonal."""
    model = small(norm="batch")
    for _ in range(5):
        model.train()(torch.randn(16, 2, 8, 8) * 3)
    with torch.no_grad():
        for module in model.body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(torch.randn_like(module.weight))
    model.eval()
    modules: dict[str, Any] = dict(model.named_modules())
    layers = certify(model).layers
    # W1 and W2 of each of three blocks; the very first block has nothing ahead.
    assert sum(layer.folded is not None for layer in layers) == 6
    assert sum(layer.kind == "batch_norm" for layer in layers) == 2
    for layer in layers:
        module = modules[layer.name]
        if layer.folded:
            size = modules[layer.name.split(".residual")[0]].in_shape[1:]
            n = module.in_channels * math.prod(size)
            unit = torch.eye(n).view(n, module.in_channels, *size)
            norm = modules[layer.folded]
            with torch.no_grad():
                offset = norm(module(torch.zeros(1, *unit.shape[1:])))
                matrix = (norm(module(unit)) - offset).flatten(1).double()
            exact = torch.linalg.matrix_norm(matrix, ord=2).item()
            assert exact <= layer.upper_bound * (1 + 1e-5)
            assert layer.upper_bound <= exact * 1.07
        elif layer.kind == "batch_norm":
            scale = (module.weight / (module.running_var + module.eps).sqrt()).abs().max().item()
            assert layer.upper_bound == pytest.approx(scale, rel=1e-5)


def test_to_dict_is_json_with_the_paths_of_modules() -> None:
    model = small()
    content = json.loads(json.dumps(certify(model).to_dict()))
    assert content["contraction"] is True
    names = dict(model.named_modules())
    assert [layer["name"] in names for layer in content["layers"]] == [True] * 9
    assert content["lipschitz_upper_bound"] == max(b["upper_bound"] for b in content["blocks"])


def test_infinity_times_zero_proves_nothing() -> None:
    """A block with one weight that is no number and another that is zero."""
    model = small()
    first, _, last = normalized_layers(blocks_of(model)[1])
    with torch.no_grad():
        first.weight.fill_(math.nan)
        last.weight.zero_()
    assert certify(model).lipschitz_upper_bound == math.inf
