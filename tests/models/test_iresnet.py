from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

from models import IResNet, NetworkSpec, certify
from models.layers.activations import ACTIVATIONS
from models.layers.spectral_norm import SpectralNormConv2d
from tests.support.networks import blocks_of, enlarge, network, normalized_layers
from tests.support.oracles import dense_norm, relative_error

small = partial(network, in_shape=(3, 8, 8), n_classes=5, blocks=(2, 2))


@pytest.mark.slow
def test_the_papers_network_has_165_convolutions_and_3406096_parameters() -> None:
    with torch.device("meta"):
        model = IResNet(in_shape=(3, 32, 32), n_classes=10)
    assert len(normalized_layers(model)) == 165
    expected = 2 * 192 + 192 * 10 + 10  # BatchNorm and the linear layer of the classifier
    for n_blocks, channels in ((18, 12), (18, 48), (19, 192)):
        inner = channels // 4
        weights = channels * inner * 9 + inner * inner + inner * channels * 9
        expected += n_blocks * (weights + inner + inner + channels)  # and biases
    assert sum(p.numel() for p in model.parameters()) == expected == 3_406_096
    features = model.eval().features(torch.zeros(1, 3, 32, 32, device="meta"))
    assert features.shape == (1, 192, 8, 8)


def test_a_block_is_the_papers() -> None:
    """Activation, 3x3, activation, 1x1, activation, dropout, 3x3; none ahead of the first."""
    model = small(dropout=0.2)
    blocks = blocks_of(model)
    inside = [nn.ReLU, SpectralNormConv2d] * 2 + [nn.ReLU, nn.Dropout, SpectralNormConv2d]
    assert [type(m) for m in blocks[0].residual] == inside[1:]
    for block in blocks[1:]:
        assert [type(m) for m in block.residual] == inside
        convolutions = normalized_layers(block)
        assert [m.weight.shape[-1] for m in convolutions] == [3, 1, 3]
        channels = block.in_shape[0]
        assert [m.weight.shape[0] for m in convolutions] == [channels // 4, channels // 4, channels]
    ahead, *rest = [block.residual for block in blocks_of(small(norm="batch"))]
    assert [type(m) for m in rest[0]][:3] == [nn.BatchNorm2d, nn.ReLU, nn.Conv2d]
    assert [type(m) for m in ahead][:4] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Conv2d]


@pytest.mark.parametrize("budget", ["even", "last"])
def test_dropout_is_paid_for_in_training_mode(budget: str) -> None:
    """With every mask, the train-mode bound of a block is coeff**3 at most."""
    model = small(
        in_shape=(2, 4, 4), blocks=(1, 1), dropout=0.4, coeff=0.8, budget=budget,
        n_power_iterations=300,
    )  # fmt: skip
    enlarge(model, 10)
    for block in blocks_of(model):
        product = 1 / (1 - 0.4)  # the largest factor that a mask can bring
        for layer in normalized_layers(block):
            product *= dense_norm(layer.effective_weight().detach(), block.in_shape[1:])
        assert product == pytest.approx(0.8**3, rel=1e-3)


@pytest.mark.parametrize(
    ("budget", "coeff", "targets"),
    [
        ("even", 0.5, (0.5, 0.5, 0.5)),
        ("last", 0.5, (0.97, 0.97, 0.125 / 0.97**2)),
        # No layer may have more than a contraction.
        ("last", 0.99, (0.99, 0.99, 0.99)),
    ],
)
def test_a_budget_says_which_layers_a_coefficient_makes_small(
    budget: str, coeff: float, targets: tuple[float, float, float]
) -> None:
    model = small(budget=budget, coeff=coeff, dropout=0.0)
    for block in blocks_of(model):
        coeffs = [layer.coeff for layer in normalized_layers(block)]
        assert coeffs == pytest.approx(targets, rel=1e-12)


@pytest.mark.parametrize("activation", ["relu", "elu", "softplus"])
@pytest.mark.parametrize("channel_multiplier", [1, 4])
def test_inverse_undoes_features(activation: str, channel_multiplier: int) -> None:
    model = small(
        in_shape=(4, 8, 8), activation=activation, channel_multiplier=channel_multiplier
    ).eval()
    x = torch.rand(6, 4, 8, 8) - 0.5
    with torch.no_grad():
        z = model.features(x)
    solution = model.inverse(z, rtol=1e-6, max_steps=100)
    assert solution.converged.shape == solution.n_steps.shape == (4, 6)
    assert solution.converged.all()
    assert relative_error(solution.value, x).max() < 1e-5


def test_features_undoes_inverse_in_float64() -> None:
    """Without padding the map is onto, so it is a bijection from both sides."""
    model = small(in_shape=(4, 8, 8), channel_multiplier=1, bottleneck=2).double().eval()
    z = torch.randn(3, 16, 4, 4, dtype=torch.float64)
    solution = model.inverse(z, rtol=1e-13, max_steps=1000)
    with torch.no_grad():
        torch.testing.assert_close(model.features(solution.value), z, rtol=0, atol=1e-10)


def test_a_network_that_is_no_contraction_says_so_instead_of_answering() -> None:
    model = small(norm="none", dropout=0.0)
    enlarge(model, 30)
    model.eval()
    assert not certify(model, "fast").contraction
    x = torch.rand(4, 3, 8, 8) - 0.5
    with torch.no_grad():
        solution = model.inverse(model.features(x), max_steps=50)
    assert not solution.converged.all(dim=0).any()
    assert solution.value.isnan().all()


@pytest.mark.parametrize("changes", [{"dropout": 0.1}, {"dropout": 0.0, "norm": "batch"}])
def test_an_inverse_in_training_mode_or_of_another_size_is_an_error(
    changes: dict[str, Any],
) -> None:
    with pytest.raises(RuntimeError, match=r"call model\.eval"):
        small(**changes).train().inverse(torch.zeros(1, 48, 4, 4))
    with pytest.raises(ValueError, match=r"\(48, 4, 4\) must be given, but got \(48, 5, 5\)"):
        small(**changes).eval().inverse(torch.zeros(1, 48, 5, 5))


def test_a_certificate_of_another_network_is_refused() -> None:
    model = small().eval()
    z = torch.randn(2, 48, 4, 4)
    certificate = certify(model, "fast")
    assert model.train().eval().inverse(z, certificate=certificate).error_bound is not None
    with torch.no_grad():
        next(model.body.parameters()).mul_(1 + 1e-6)
    with pytest.raises(ValueError, match="must be that of the network as it is"):
        model.inverse(z, certificate=certificate)
    certificate = certify(model, "fast")
    model.update_spectral_norm()  # moves sigma, and with it the weight that runs
    with pytest.raises(ValueError, match="must be that of the network as it is"):
        model.inverse(z, certificate=certificate)


def test_softplus_has_no_jump() -> None:
    """Slopes are in [0, 1] up to rounding; torch's own softplus jumps by 2e-9 at 20."""
    activation = ACTIVATIONS["softplus"]()
    near = torch.linspace(19, 21, 100_001, dtype=torch.float64)
    far = torch.tensor([-1e3, -40.0, -1.0, 0.0, 1.0, 40.0, 1e3], dtype=torch.float64)
    for x in (near, far):
        rises = activation(x).diff()
        assert (rises >= 0).all()
        assert (rises <= x.diff() * (1 + 1e-9) + 1e-14).all()
    torch.testing.assert_close(activation(far), nn.Softplus()(far), rtol=1e-15, atol=1e-15)
    x = far.clone().requires_grad_()
    activation(x).sum().backward()
    torch.testing.assert_close(x.grad, far.sigmoid())


@pytest.mark.parametrize(("shape", "channel_multiplier"), [((1, 8, 8), 1), ((3, 8, 8), 4)])
def test_all_maps_have_the_layout_of_the_kernels(
    shape: tuple[int, int, int], channel_multiplier: int
) -> None:
    """What a block adds has one layout, whatever that of the images."""
    model = small(in_shape=shape, channel_multiplier=channel_multiplier, bottleneck=1)
    maps: list[torch.Tensor] = []
    for block in blocks_of(model):
        block.register_forward_hook(lambda _, given, out: maps.extend((given[0], out)))
    maps.append(model.features(torch.randn(2, *shape)))
    assert len(maps) == 9
    assert all(z.is_contiguous(memory_format=torch.channels_last) for z in maps)
    assert maps[-1].shape[1] > 1
    assert not maps[-1].is_contiguous()


@pytest.mark.slow
def test_the_network_compiles_whole() -> None:
    """One graph, forward and backward, without a compiler that this machine may lack."""
    model = small(dropout=0.0, blocks=(1, 1))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(compiled(x), model(x))
    compiled(x).sum().backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    model(x).sum().backward()
    for gradient, parameter in zip(gradients, model.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-5)


def test_networks_of_one_shape_run_under_vmap() -> None:
    """Three models as one: the same outputs and gradients as one by one."""
    models = [small().eval() for _ in range(3)]
    parameters, buffers = stack_module_state(models)
    x = torch.randn(2, 3, 8, 8)

    def call(parameters: Any, buffers: Any, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = functional_call(models[0], (parameters, buffers), (x,))
        return logits

    together = vmap(call, in_dims=(0, 0, None))(parameters, buffers, x)
    gradients = vmap(grad(lambda p, b, x: call(p, b, x).square().mean()), in_dims=(0, 0, None))(
        parameters, buffers, x
    )
    for index, model in enumerate(models):
        torch.testing.assert_close(together[index], model(x), rtol=1e-5, atol=1e-6)
        model(x).square().mean().backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(gradients[name][index], parameter.grad)


@pytest.mark.parametrize(
    "beside", [{"n_classes": 10}, {"blocks": (1,)}, {"block": "potential"}, {"coeff": 0.5}]
)
def test_beside_a_spec_no_setting_may_be_given(beside: dict[str, Any]) -> None:
    spec = NetworkSpec(in_shape=(1, 8, 8), n_classes=10, blocks=(1, 1))
    (name,) = beside
    with pytest.raises(TypeError, match=f"^a NetworkSpec must stand alone, but got {name} too$"):
        IResNet(spec, **beside)
    assert len(IResNet(spec).body) == len(IResNet((1, 8, 8), 10, (1, 1)).body)
