import json
import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models import IResNet, certificate, certify
from models.certificate import ROUNDING_SLACK, convolution_upper_bound
from models.iresnet import ResidualBlock
from models.spectral_norm import SpectralNormConv2d
from tests.oracles import dense_convolution, dense_norm


def small(**changes: Any) -> IResNet:
    arguments: dict[str, Any] = {
        "in_shape": (2, 8, 8), "n_classes": 3, "blocks": (2, 1), "dropout": 0.0,
    }  # fmt: skip
    return IResNet(**{**arguments, **changes})


@pytest.fixture
def only_the_torus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small maps are normed densely; this has the bound for large maps tested on them too."""
    monkeypatch.setattr(certificate, "_DENSE_ROWS", 0)


KERNELS = st.tuples(
    st.integers(1, 4),  # c_out
    st.integers(1, 4),  # c_in
    st.sampled_from([1, 3, 5, 7]),  # k_h
    st.sampled_from([1, 3, 5, 7]),  # k_w
    st.integers(1, 7),  # height, less than k included
    st.integers(1, 7),  # width
)


@settings(deadline=None, max_examples=100)
@given(shape=KERNELS, seed=st.integers(0, 10_000), rows=st.sampled_from([0, 256]))
def test_the_bound_is_never_below_the_dense_norm(
    shape: tuple[int, ...], seed: int, rows: int
) -> None:
    c_out, c_in, k_h, k_w, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(c_out, c_in, k_h, k_w, dtype=torch.float64, generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificate, "_DENSE_ROWS", rows)
        bound = convolution_upper_bound(weight, (height, width))
    exact = dense_norm(weight, (height, width))
    assert bound >= exact
    if rows:
        assert bound == pytest.approx(exact, rel=2 * ROUNDING_SLACK)


def second_difference_squared() -> tuple[float, int]:
    """[-1, 2, -1] on n = 5 zero-padded pixels: eigenvalues 2 - 2 cos(pi j / 6), j = 1..5."""
    return (2 - 2 * math.cos(5 * math.pi / 6)) ** 2, 5


def central_difference_squared() -> tuple[float, int]:
    """[1, 0, -1] on n = 6 zero-padded pixels: eigenvalues 2 i cos(pi j / 7), j = 1..6."""
    return (2 * math.cos(math.pi / 7)) ** 2, 6


@pytest.mark.parametrize(
    ("taps", "closed_form", "over_circular"),
    [
        ([-1.0, 2.0, -1.0], second_difference_squared(), 1.064),
        ([1.0, 0.0, -1.0], central_difference_squared(), 1.082),
    ],
)
def test_closed_forms_that_the_circular_norm_misses(
    taps: list[float], closed_form: tuple[float, int], over_circular: float
) -> None:
    exact, n = closed_form
    weight = torch.outer(torch.tensor(taps), torch.tensor(taps)).double().view(1, 1, 3, 3)
    assert dense_norm(weight, (n, n)) == pytest.approx(exact, rel=1e-12)
    circular = torch.fft.fft2(weight[0, 0], s=(n, n)).abs().max().item()
    assert exact / circular == pytest.approx(over_circular, abs=5e-4)
    assert convolution_upper_bound(weight, (n, n)) == pytest.approx(exact, rel=1e-10)


@pytest.mark.usefixtures("only_the_torus")
@pytest.mark.parametrize(
    ("taps", "closed_form"),
    [
        ([-1.0, 2.0, -1.0], second_difference_squared()),
        ([1.0, 0.0, -1.0], central_difference_squared()),
    ],
)
def test_the_torus_bound_holds_for_the_closed_forms(
    taps: list[float], closed_form: tuple[float, int]
) -> None:
    exact, n = closed_form
    weight = torch.outer(torch.tensor(taps), torch.tensor(taps)).double().view(1, 1, 3, 3)
    assert exact <= convolution_upper_bound(weight, (n, n)) <= 1.3 * exact


@pytest.mark.usefixtures("only_the_torus")
def test_half_of_the_frequencies_are_enough() -> None:
    """The bound is the smallest, over shifts, of the largest over the whole shifted grid."""
    weight = torch.randn(2, 3, 3, 5, dtype=torch.float64)
    height, width = 5, 6
    n_rows, n_columns = height + 1, width + 2
    largest = []
    for shift_row, shift_column in ((0, 0), (0, 0.5), (0.5, 0), (0.5, 0.5)):
        norms = []
        for row in range(n_rows):
            for column in range(n_columns):
                symbol = torch.zeros(2, 3, dtype=torch.complex128)
                for a in range(3):
                    for b in range(5):
                        phase = (row + shift_row) * (a - 1) / n_rows
                        phase += (column + shift_column) * (b - 2) / n_columns
                        turn = 2 * math.pi * phase
                        symbol += weight[:, :, a, b] * complex(math.cos(turn), math.sin(turn))
                norms.append(torch.linalg.matrix_norm(symbol, ord=2).item())
        largest.append(max(norms))
    bound = convolution_upper_bound(weight, (height, width))
    assert bound == pytest.approx(min(largest), rel=1e-10)


def test_a_weight_that_is_not_finite_bounds_nothing() -> None:
    assert convolution_upper_bound(torch.full((1, 1, 3, 3), math.nan), (5, 5)) == math.inf
    model = small()
    with torch.no_grad():
        next(iter(model.body.parameters())).fill_(math.inf)
    assert certify(model).lipschitz_upper_bound == math.inf
    assert not certify(model).contraction


@pytest.mark.parametrize("norm", ["spectral", "none", "batch"])
def test_block_bounds_hold_for_the_jacobian(norm: str) -> None:
    """The Jacobian of g at random points, dense, in eval mode: its norm is below the bound."""
    model = small(norm=norm)
    for _ in range(5):  # running statistics that are not those of initialization
        model.train()(torch.randn(16, 2, 8, 8) * 2)
    model.eval()
    result = certify(model)
    bounds = {block.name: block.upper_bound for block in result.blocks}
    assert len(bounds) == 3
    for name, block in model.named_modules():
        if isinstance(block, ResidualBlock):
            for _ in range(3):
                x = torch.randn(1, *block.in_shape) * 3
                jacobian = torch.autograd.functional.jacobian(block.residual, x)
                n = x.numel()
                norm_at_x = torch.linalg.matrix_norm(jacobian.reshape(n, n).double(), ord=2)
                assert norm_at_x <= bounds[name] * (1 + 1e-5)


def test_a_layer_bound_is_that_of_the_effective_weight_in_every_mode() -> None:
    model = small(coeff=0.5)
    with torch.no_grad():
        for parameter in model.body.parameters():
            parameter.mul_(20)
    model.update_spectral_norm()
    modules = dict(model.named_modules())
    for result in (certify(model.train()), certify(model.eval())):
        assert len(result.layers) == 9
        for layer in result.layers:
            module = modules[layer.name]
            assert isinstance(module, SpectralNormConv2d)
            exact = dense_norm(module.effective_weight().detach(), module.size)
            assert exact <= layer.upper_bound <= exact * 1.07
            assert layer.upper_bound < dense_norm(module.weight.detach(), module.size) / 5


def test_the_network_is_as_good_as_its_worst_block_and_a_block_the_product_of_its_layers() -> None:
    result = certify(small())
    for block in result.blocks:
        inside = [x.upper_bound for x in result.layers if x.name.startswith(f"{block.name}.")]
        assert len(inside) == 3
        assert block.upper_bound == pytest.approx(math.prod(inside), rel=1e-10)
        assert block.upper_bound >= math.prod(inside)
    assert result.lipschitz_upper_bound == max(block.upper_bound for block in result.blocks)
    assert result.contraction


def test_batch_norm_is_folded_into_the_convolution_ahead() -> None:
    model = small(norm="batch")
    for _ in range(5):
        model.train()(torch.randn(16, 2, 8, 8) * 3)
    with torch.no_grad():
        for module in model.body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(torch.randn_like(module.weight))
    model.eval()
    modules = dict(model.named_modules())
    layers = {layer.name: layer for layer in certify(model).layers}
    folded = [layer for layer in layers.values() if layer.folded]
    assert len(folded) == 6  # W1 and W2 of each of three blocks
    for layer in folded:
        convolution, norm = modules[layer.name], modules[str(layer.folded)]
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        block = modules[layer.name.split(".residual")[0]]
        assert isinstance(block, ResidualBlock)
        size = block.in_shape[1:]
        # The dense matrix of the linear part of BatchNorm(conv(x)), from the modules' own outputs.
        n = convolution.in_channels * math.prod(size)
        unit = torch.eye(n).view(n, convolution.in_channels, *size)
        with torch.no_grad():
            offset = norm(convolution(torch.zeros(1, *unit.shape[1:])))
            matrix = (norm(convolution(unit)) - offset).flatten(1).double()
        exact = torch.linalg.matrix_norm(matrix, ord=2).item()
        assert exact <= layer.upper_bound * (1 + 1e-5)
        assert layer.upper_bound <= exact * 1.07
    # BatchNorm with no convolution ahead of it: a diagonal, whose norm is its largest entry.
    ahead = [layer for layer in layers.values() if layer.kind == "batch_norm"]
    assert len(ahead) == 2  # the very first block has none
    for layer in ahead:
        norm = modules[layer.name]
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_var is not None
        scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).abs().max().item()
        assert layer.upper_bound == pytest.approx(scale, rel=1e-5)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.LayerNorm(8), "no Lipschitz bound is known for the module LayerNorm at body.1"),
        (nn.Conv2d(2, 2, 3, padding=1, stride=2), "no bound is known for the convolution"),
        (nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), "no bound is known for the conv"),
        (nn.Conv2d(2, 2, 2), "no bound is known for the convolution"),
        (nn.Conv2d(2, 2, 3, padding=1, groups=2), "no bound is known for the convolution"),
        (nn.ELU(alpha=2.0), "alpha <= 1 must hold, but got 2.0"),
        (nn.BatchNorm2d(2, track_running_stats=False), "without running statistics"),
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 2, 3, padding=1)), "is known for"),
    ],
)
def test_what_is_not_known_is_an_error_not_a_one(module: nn.Module, message: str) -> None:
    model = small(norm="none")
    block = model.body[1]
    assert isinstance(block, ResidualBlock)
    block.residual[1] = module
    with pytest.raises(ValueError, match=message):
        certify(model)


def test_an_unknown_module_between_blocks_is_an_error() -> None:
    model = small()
    model.body.append(nn.Identity())
    with pytest.raises(ValueError, match="Identity"):
        certify(model)


def test_to_dict_is_json_with_the_paths_of_modules() -> None:
    model = small()
    content = json.loads(json.dumps(certify(model).to_dict()))
    assert content["contraction"] is True
    names = dict(model.named_modules())
    assert [layer["name"] in names for layer in content["layers"]] == [True] * 9
    assert content["lipschitz_upper_bound"] == max(b["upper_bound"] for b in content["blocks"])


def test_the_bound_of_a_composition_covers_the_true_norm_of_linear_blocks() -> None:
    """Without activations g is linear: the norm of the product of the dense matrices."""
    model = small(norm="none")
    for block in (m for m in model.body if isinstance(m, ResidualBlock)):
        convolutions = [m for m in block.residual if isinstance(m, nn.Conv2d)]
        size = block.in_shape[1:]
        matrices = [dense_convolution(c.weight.detach().double(), size) for c in convolutions]
        assert all(a.shape[0] == b.shape[1] for a, b in pairwise(matrices))
        product = matrices[2] @ matrices[1] @ matrices[0]
        exact = torch.linalg.matrix_norm(product, ord=2).item()
        bound = math.prod(convolution_upper_bound(c.weight.detach(), size) for c in convolutions)
        assert exact <= bound
