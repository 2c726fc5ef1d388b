import copy
import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from models import IResNet, certify, deployed, project
from models.layers.spectral_norm import SpectralNormConv2d
from models.network.classifier import recompute_batch_norm
from tests.support import networks
from tests.support.networks import blocks_of, enlarge, normalized_layers


def network(**changes: Any) -> IResNet:
    """Every layer at its target or above, as training leaves it."""
    model = networks.network(**{"coeff": 0.97, "in_shape": (2, 4, 4), **changes})
    enlarge(model, 4)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["spectral", "none"])
def test_every_layer_is_at_most_coeff_and_none_is_scaled_without_need(norm: str) -> None:
    for coeff in (0.95, 0.3):
        model = network(norm=norm)
        before = {layer.name: layer.upper_bound for layer in certify(model).layers}
        assert project(model, coeff) == certify(model)
        for layer in certify(model).layers:
            assert layer.upper_bound <= coeff
            expected = min(before[layer.name], coeff)
            assert layer.upper_bound == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["spectral", "none"])
@pytest.mark.parametrize("lipschitz", [0.5, 0.008, 1e-6])
def test_every_block_is_at_most_the_bound_and_none_is_scaled_without_need(
    norm: str, lipschitz: float
) -> None:
    model = network(norm=norm, blocks=(1, 1))
    with torch.no_grad():  # one block is far below all the bounds
        for parameter in model.body[1].parameters():
            parameter.mul_(1e-3)
    model.update_spectral_norm()
    of_model = certify(model, "full")
    before = {block.name: block.upper_bound for block in of_model.blocks}
    again = copy.deepcopy(model)
    certificate = project(model, lipschitz=lipschitz)
    assert certificate == certify(model, "full")
    assert project(again, lipschitz=lipschitz, certificate=of_model) == certificate
    after = certificate.blocks
    for block in after:
        assert block.upper_bound <= lipschitz
        expected = min(before[block.name], lipschitz)
        assert block.upper_bound == pytest.approx(expected, rel=1e-5)
    assert any(block.upper_bound == before[block.name] for block in after)


def test_rows_that_did_not_stay_orthonormal_are_scaled_all_the_same() -> None:
    model = IResNet(
        (1, 4, 4), 3, (), dense_blocks=2, bottleneck=2, channel_multiplier=1, head="lipschitz"
    )
    generator = torch.Generator().manual_seed(0)
    for layer in normalized_layers(model):
        with torch.no_grad():
            layer.weight.add_(0.1 * torch.randn(layer.weight.shape, generator=generator))
    assert certify(model).lipschitz_upper_bound > 1.01 * 0.9
    for block in project(model, lipschitz=0.1).blocks:
        assert block.upper_bound <= 0.1
        assert block.upper_bound == pytest.approx(0.1, rel=1e-4)


def test_of_a_block_the_last_kernel_alone_is_scaled() -> None:
    """x + s g + b, with b what the biases make: the paper's step size."""
    model = network(norm="none").eval()
    before = copy.deepcopy(model)
    project(model, lipschitz=0.01)
    for old, new in zip(blocks_of(before), blocks_of(model), strict=True):
        *inner, last = (name for name, m in old.residual.named_children() if hasattr(m, "weight"))
        for name, value in old.residual.state_dict().items():
            if name != f"{last}.weight":
                assert torch.equal(new.residual.state_dict()[name], value), name
        assert len(inner) == 2
        x = torch.randn(3, *old.in_shape)
        with torch.no_grad():
            bias = old.residual.get_parameter(f"{last}.bias").view(1, -1, 1, 1)
            factor = (new.residual(x) - bias).norm() / (old.residual(x) - bias).norm()
            torch.testing.assert_close(new.residual(x), factor * (old.residual(x) - bias) + bias)
        assert factor < 0.5


def test_training_goes_on_at_the_bound_that_was_projected_to() -> None:
    """The target of a scaled layer is its bound of then: that holds whatever the weights become."""
    model = network()
    project(model, lipschitz=0.05)
    layers = {layer.name: layer.upper_bound for layer in certify(model).layers}
    for name, module in model.named_modules():
        if isinstance(module, SpectralNormConv2d) and module.coeff < 0.97:
            assert module.coeff == pytest.approx(layers[name], rel=1e-5)
    model.n_power_iterations = 100
    enlarge(model, 10)
    for block in certify(model).blocks:
        targets = [layer.coeff for layer in normalized_layers(model.get_submodule(block.name))]
        assert min(targets) < 0.97
        assert block.layer_product <= math.prod(targets) * 1.02


def test_a_layer_is_scaled_and_not_changed_otherwise() -> None:
    model = network()
    weights = [layer.effective_weight().detach() for layer in normalized_layers(model)]
    project(model, 0.4)
    after = [layer.effective_weight().detach() for layer in normalized_layers(model)]
    for old, new in zip(weights, after, strict=True):
        factor = (old * new).sum() / (old * old).sum()
        torch.testing.assert_close(new, factor * old)


def test_batch_norm_gets_the_statistics_of_the_images() -> None:
    model = network(dropout=0.3).train()
    batches = [torch.randn(20, 2, 4, 4) for _ in range(3)]
    project(model, 0.5, batches)
    assert model.training
    (norm,) = (m for m in model.classifier if isinstance(m, nn.BatchNorm2d))
    assert norm.momentum == 0.1
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        features = [model.eval().features(batch) for batch in batches]
    expected_mean = torch.stack([f.mean((0, 2, 3)) for f in features]).mean(0)
    expected_var = torch.stack([f.var((0, 2, 3)) for f in features]).mean(0)
    torch.testing.assert_close(norm.running_mean, expected_mean)
    torch.testing.assert_close(norm.running_var, expected_var)
    before = copy.deepcopy(model.state_dict())
    recompute_batch_norm(model, batches)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_channels_that_a_small_bound_leaves_small_reach_the_classifier_in_full() -> None:
    model = network(channel_multiplier=4, blocks=(2,), dropout=0.0)
    images = [torch.randn(200, 2, 4, 4)]
    project(model, images=images, lipschitz=1e-3)
    with torch.no_grad():
        features = model.eval().features(images[0])
        assert features.std(dim=(0, 2, 3))[2:].max() < 1e-3  # those that were appended
        seen = model.classifier[0](features)
    torch.testing.assert_close(seen.std(dim=(0, 2, 3)), torch.ones(8), rtol=5e-2, atol=0.0)


@pytest.mark.parametrize("given", [{"coeff": 0.3}, {"lipschitz": 0.02}])
def test_the_last_layer_is_fitted_to_the_logits_of_before(given: dict[str, float]) -> None:
    """Against scikit-learn's ridge regression of what is missing."""
    model = network(dropout=0.3).train()
    batches = [torch.randn(40, 2, 4, 4) for _ in range(3)]
    before, without = copy.deepcopy(model).eval(), copy.deepcopy(model)
    project(model, images=batches, **given)
    assert model.training
    project(without, **given)
    recompute_batch_norm(without, batches)
    x = torch.cat(batches)
    with torch.no_grad():
        logits = before(x)
        inputs = without.eval().classifier[:-1](without.features(x))
        missing = logits - without(x)
    n, variance = len(x), inputs.double().var(dim=0, correction=0).mean().item()
    ridge = Ridge(alpha=1e-4 * variance * n).fit(inputs.double(), missing.double())
    old, new = (m.classifier[-1].double().state_dict() for m in (without, model))
    for name, change in (("weight", ridge.coef_), ("bias", ridge.intercept_)):
        expected = old[name] + torch.as_tensor(change)
        torch.testing.assert_close(new[name], expected, rtol=1e-4, atol=1e-5)
    model.float()
    with torch.no_grad():
        left = (model.eval()(x) - logits).norm()
    assert left < 0.7 * missing.norm()


def test_a_network_that_needs_no_scaling_stays_as_it_is() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    project(model, lipschitz=0.999, images=[torch.randn(20, 2, 4, 4)])
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_batch_norm_in_the_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="got norm=batch"):
        project(network(norm="batch"), 0.5)


@pytest.mark.parametrize(
    ("name", "number"), [("coeff", np.float32(0.1)), ("lipschitz", torch.tensor([0.1]))]
)
def test_numbers_of_numpy_and_torch_are_numbers(name: str, number: Any) -> None:
    model, expected = network(dropout=np.float32(0.25)), network(dropout=0.25)
    expected.load_state_dict(model.state_dict())
    certificate = project(model, **{name: number})
    assert certificate == project(expected, **{name: float(number)})
    assert certificate == certify(model)
    for key, value in model.state_dict().items():
        assert torch.equal(value, expected.state_dict()[key])


class Shuffled:
    """Images in another order each time that they are read, as a loader gives them."""

    def __init__(self, images: Tensor) -> None:
        self._images, self._generator = images, torch.Generator().manual_seed(0)

    def __iter__(self) -> Iterator[Tensor]:
        order = torch.randperm(len(self._images), generator=self._generator)
        return iter(self._images[order].split(20))


def test_images_are_read_once_in_whatever_form_they_come() -> None:
    images = torch.randn(60, 2, 4, 4)
    batches = list(Shuffled(images))  # those of the first time
    start = network(blocks=(1,))

    def projected(given: Any) -> IResNet:
        model = copy.deepcopy(start)
        project(model, 0.5, given)
        return model.eval()

    expected = projected(batches).state_dict()
    for given in (Shuffled(images), iter(batches)):
        for name, value in projected(given).state_dict().items():
            assert torch.equal(value, expected[name])
    assert torch.equal(projected(images)(images), projected([images])(images))


def expand_the_last_weight(model: IResNet) -> None:
    """Which is written to after the others."""
    layer = normalized_layers(model)[-1]
    layer.weight = nn.Parameter(layer.weight.detach()[:1].expand_as(layer.weight))


IMAGES = torch.linspace(-1, 1, 20 * 2 * 4 * 4).view(20, 2, 4, 4)
OF_CLASSIFIER = {"coeff": 0.3, "images": [IMAGES]}
# What is done to a network, what it is projected with, and what is said.
REFUSED: list[tuple[Callable[[IResNet], object], dict[str, Any], str | None]] = [
    (lambda m: operator.setitem(m.classifier, 0, nn.Identity()), OF_CLASSIFIER, None),
    (
        lambda m: operator.setitem(m.classifier, -1, nn.Linear(32, 3, bias=False)),
        OF_CLASSIFIER,
        None,
    ),
    (lambda m: nn.init.constant_(m.classifier[-1].weight, math.nan), OF_CLASSIFIER, None),
    (lambda m: nn.init.constant_(m.body[1].residual[0].weight, math.nan), {"coeff": 0.5}, "finite"),
    (expand_the_last_weight, {"lipschitz": 0.01, "images": [IMAGES]}, None),
    (IResNet.train, {"lipschitz": 1e-44}, None),
    *(
        (IResNet.train, {"coeff": 0.3, "images": images}, rule)
        for images, rule in (
            ([], "images must be one or more batches"),
            ([IMAGES, IMAGES[:0]], None),
            ([(IMAGES, torch.zeros(20))], None),
            ([IMAGES, IMAGES[:, :1]], None),
            ([IMAGES, IMAGES.where(IMAGES < 1, math.nan)], None),
            ([IMAGES * 1e38], None),
        )
    ),
    (IResNet.train, {}, "one of coeff and lipschitz must be given"),
    (IResNet.train, {"coeff": 0.5, "lipschitz": 0.5}, "one of coeff and lipschitz must be given"),
    *(
        (IResNet.train, {name: value}, f"0 < {name} < 1 must hold")
        for name in ("coeff", "lipschitz")
        for value in (0.0, 1.0, math.nan)
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("change", "given", "rule"), REFUSED)
def test_what_cannot_be_projected_is_an_error_and_nothing_is_changed(
    change: Callable[[IResNet], object], given: dict[str, Any], rule: str | None
) -> None:
    model = network()
    change(model)
    state = copy.deepcopy(model.state_dict())
    settings = [(str(module), module.training) for module in model.modules()]
    with pytest.raises((ValueError, RuntimeError, OverflowError), match=rule):
        project(model, **given)
    for name, value in model.state_dict().items():
        assert torch.equal(value.nan_to_num(), state[name].nan_to_num()), name
    assert [(str(module), module.training) for module in model.modules()] == settings


@pytest.mark.parametrize("activation", ["relu", "elu"])
def test_deployed_is_the_same_function_bit_for_bit_and_loads_as_a_plain_network(
    activation: str,
) -> None:
    model = network(activation=activation).eval()
    plain = deployed(model)
    assert not normalized_layers(plain)
    x = torch.randn(5, 2, 4, 4)
    with torch.no_grad():
        assert torch.equal(plain(x), model(x))
    of_plain, of_model = certify(plain), certify(model)
    assert of_plain.sha256 != of_model.sha256  # their modules are others
    assert replace(of_plain, sha256="") == replace(of_model, sha256="")
    other = network(norm="none", activation=activation).eval()
    other.load_state_dict(plain.state_dict())
    with torch.no_grad():
        assert torch.equal(other(x), model(x))
    assert normalized_layers(model)  # the plain one is a copy


def linear(**changes: Any) -> IResNet:
    """A network of head="lipschitz", whose blocks are far above the bounds that are asked for."""
    return network(**{"head": "lipschitz", "blocks": (2,), **changes})


@pytest.mark.parametrize("block", ["bottleneck", "potential"])
def test_a_linear_classifier_is_fitted_to_its_former_logits(block: str) -> None:
    """By the ridge regression of scikit-learn, as an oracle, of what the logits lack."""
    model = linear(block=block, norm="none").eval()
    images = torch.randn(200, 2, 4, 4)
    before, unfitted = copy.deepcopy(model), copy.deepcopy(model)
    certificate = project(model, lipschitz=0.05, images=[images[:150], images[150:]])
    assert certificate == certify(model)
    assert certificate.lipschitz_upper_bound <= 0.05
    project(unfitted, lipschitz=0.05)
    with torch.no_grad():
        inputs = unfitted.features(images).flatten(1).double()
        missing = before(images).double() - unfitted(images).double()
        variance = inputs.var(dim=0, correction=0).mean().item()
        fitted = Ridge(alpha=1e-4 * variance * len(images)).fit(inputs, missing)
        expected = unfitted(images).double() + torch.tensor(fitted.predict(inputs))
        torch.testing.assert_close(model(images).double(), expected, rtol=0, atol=1e-4)


def test_labels_must_fit_the_images_and_the_head() -> None:
    images, labels = torch.randn(4, 2, 4, 4), torch.zeros(4, dtype=torch.int64)
    for given, rule in (
        ({"labels": labels}, "labels must be left out without images, but were given"),
        ({"labels": labels[:3], "images": images}, r"labels must have the shape \(4,\), one for"),
        ({"labels": labels, "images": images, "margin": 0.0}, "margin > 0 must hold, but got 0.0"),
    ):
        with pytest.raises(ValueError, match=rule):
            project(linear(), lipschitz=0.1, **given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be left out without head="):
        project(network(), lipschitz=0.1, images=images, labels=labels)
