import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from models import Certificate, IResNet, certified_radius, certify, deployed
from models.heads.pooled import GlobalAveragePool
from models.norms.rounding import Running, after_layer
from tests.support.attack import attack
from tests.support.networks import classifying, network


@pytest.mark.parametrize("activation", ["relu", "elu", "softplus"])
def test_no_jacobian_of_a_logit_difference_is_beyond_its_bound(activation: str) -> None:
    """Dense Jacobians, at images found by gradient ascent on the norm of one difference."""
    model = classifying(activation=activation).double()
    certificate = certify(model)
    between = torch.tensor(certificate.logit_difference_bounds)
    x = torch.rand(1, 2, 4, 4, dtype=torch.float64).requires_grad_()
    for _ in range(10):
        jacobian = torch.autograd.functional.jacobian(
            lambda image: model(image)[0], x, create_graph=True
        ).reshape(4, -1)
        norms = (jacobian.unsqueeze(1) - jacobian).norm(dim=2)
        assert (norms <= between * certificate.features_lipschitz_upper_bound).all()
        assert norms.max() <= certificate.logit_lipschitz_upper_bound
        (slope,) = torch.autograd.grad(norms[0, 1], x)
        x = (x + 0.3 * slope / slope.norm().clamp(min=1e-12)).detach().requires_grad_()


@pytest.mark.parametrize("activation", ["relu", "elu", "softplus"])
def test_within_the_radius_no_attack_changes_an_answer(activation: str) -> None:
    model = classifying(activation=activation)
    images = torch.rand(16, 2, 4, 4) * 4
    certificate = certify(model)
    with torch.no_grad():
        labels = model(images).argmax(1)
    radius = 4 * certified_radius(model, images, labels, certificate, scale=4.0)
    assert (radius > 0).sum() >= 12
    assert not attack(model, images, labels, radius.clamp(min=0))[radius > 0].any()
    # Far outside some are changed: the attack is one.
    assert attack(model, images, labels, torch.full((16,), 20.0)).any()


def test_it_is_the_least_margin_over_its_bound_less_a_rounding() -> None:
    """Of all other classes; with the images as multiples of pixels; negative for other labels. The
    margins are such that the rounding is small."""
    model = classifying()
    with torch.no_grad():
        assert isinstance(model.classifier[3], nn.Linear)
        model.classifier[3].bias.copy_(torch.arange(4.0))
    images = torch.rand(8, 2, 4, 4)
    certificate = certify(model)
    between = torch.tensor(certificate.logit_difference_bounds, dtype=torch.float64)
    with torch.no_grad():
        logits = model.double()(images.double())
        model.float()
    for labels in (logits.argmax(1), (logits.argmax(1) + 1) % 4):
        expected = []
        for row, label in zip(logits, labels.tolist(), strict=True):
            quotients = [(row[label] - row[j]) / between[label, j] for j in range(4) if j != label]
            expected.append(min(quotients) / certificate.features_lipschitz_upper_bound)
        radius = certified_radius(model, images, labels, certificate)
        expected_radius = torch.stack(expected)
        assert (radius < expected_radius).all()
        torch.testing.assert_close(radius, expected_radius, rtol=0.02, atol=0)
        scaled = certified_radius(model, images, labels, certificate, scale=4.0)
        torch.testing.assert_close(scaled, expected_radius / 4, rtol=0.02, atol=0)


def head(weight: list[float], bias: list[float]) -> IResNet:
    """Two logits of one pixel: weight times it, plus bias; no block changes anything."""
    model = network(
        in_shape=(1, 1, 1), n_classes=2, blocks=(1,), channel_multiplier=1, bottleneck=1,
        norm="none",
    )  # fmt: skip
    linear = nn.Linear(1, 2)
    with torch.no_grad():
        for parameter in model.body.parameters():
            parameter.zero_()
        linear.weight.copy_(torch.tensor(weight).unsqueeze(1))
        linear.bias.copy_(torch.tensor(bias))
    model.classifier = nn.Sequential(GlobalAveragePool(), linear)
    return model.eval()


def test_a_tie_is_not_certified() -> None:
    images, labels = torch.full((1, 1, 1, 1), 0.5), torch.tensor([0])
    for weight, bias in (([1.0, 1.0], [0.0, 0.0]), ([1.0, -1.0], [-0.5, 0.5])):
        model = head(weight, bias)
        assert certified_radius(model, images, labels, certify(model)) <= 0


def test_a_margin_within_the_rounding_of_float32_is_not_certified() -> None:
    """The answer is right in real arithmetic, by less than the bias rounds to."""
    large = 2.0**24
    model = head([1.0, -1.0], [large, large])
    image = torch.full((1, 1, 1, 1), 0.5)
    exact = 2 * 0.5
    with torch.no_grad():
        computed = model(image)
    assert exact > 0 == (computed[0, 0] - computed[0, 1]).item()
    certificate = certify(model)
    assert certified_radius(model, image, torch.tensor([0]), certificate) <= 0
    # With a small bias it is certified, up to the image at which the logits are equal.
    model = head([1.0, -1.0], [0.0, 0.0])
    radius = certified_radius(model, image, torch.tensor([0]), certify(model)).item()
    assert radius == pytest.approx(0.5, rel=1e-4)
    assert radius < 0.5


def test_images_beyond_their_scale_are_refused() -> None:
    """Images of 0 to 255; each channel may have an offset of its own."""
    model = classifying()
    certificate, labels = certify(model), torch.zeros(4, dtype=torch.int64)
    pixels = torch.rand(4, 2, 4, 4)
    for image, scale in ((pixels * 255, 1.0), (pixels * 255, 200.0), (pixels, 0.9)):
        image[3, 1, 0, :2] = torch.tensor([image.min(), image.max()])
        with pytest.raises(ValueError, match=r"pixels of \[0, 1\] times .* scale=.* from .* to "):
            certified_radius(model, image, labels, certificate, scale=scale)
    offsets = torch.tensor([-3.0, 7.0]).view(2, 1, 1)
    for image, scale in ((pixels * 255, 255.0), (pixels + offsets, 1.0), (pixels / 3, 1 / 3)):
        assert certified_radius(model, image, labels, certificate, scale=scale).shape == (4,)


def test_labels_are_whole_numbers_of_any_type() -> None:
    model = classifying()
    certificate, images = certify(model), torch.rand(4, 2, 4, 4)
    labels = model(images).argmax(1)
    radii = certified_radius(model, images, labels, certificate)
    for whole in (torch.int32, torch.uint8):
        assert torch.equal(certified_radius(model, images, labels.to(whole), certificate), radii)


def test_a_denormal_variance_has_no_radius() -> None:
    """float32 keeps few of its bits."""
    model = classifying(classifier_eps=1e-40)
    norm = model.classifier[0]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None
    with torch.no_grad():
        norm.running_var.zero_()
        norm.weight.fill_(1e-10)
    images = torch.rand(4, 2, 4, 4)
    labels = deployed(model).double()(images.double()).argmax(1)
    certificate = certify(model)
    assert certificate.logit_lipschitz_upper_bound < math.inf
    assert not bool((certified_radius(model, images, labels, certificate) > 0).any())
    # In float64 it is a number as any other.
    assert bool((certified_radius(model, images.double(), labels, certificate) > 0).any())


def test_the_rounding_of_an_unknown_module_is_not_counted_as_none() -> None:
    zero = torch.zeros(1, dtype=torch.float64)
    with pytest.raises(TypeError, match="no bound of the rounding is known for a Hardtanh"):
        after_layer(nn.Hardtanh(), Running(torch.ones(1, 1, 1, 1), zero, zero))


@pytest.mark.parametrize("in_features", [-(2**24) - 1000, 0])
def test_the_number_of_terms_is_that_of_the_weight(in_features: int) -> None:
    """in_features is only a setting."""
    model = IResNet((1, 4, 4), 3, (1,), head="lipschitz").eval()
    images = torch.rand(4, 1, 4, 4) - 0.5
    labels = model(images).argmax(1)
    expected = certified_radius(model, images, labels, certify(model, "fast"))
    model.classifier[-1].in_features = in_features
    found = certified_radius(model, images, labels, certify(model, "fast"))
    assert torch.equal(found, expected)


def test_an_image_that_overflows_is_within_no_radius() -> None:
    """That of ones has an answer of NaN, and that of zeros may turn into it."""
    model = IResNet(
        (4, 1, 1), 2, (1,), bottleneck=1, channel_multiplier=1, norm="none", dropout=0.0,
        head="lipschitz",
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in model.body.parameters():
            parameter.zero_()
        first, second, third = (m for m in model.body.modules() if isinstance(m, nn.Conv2d))
        first.weight[:, :, 1, 1] = 1.5e38
        second.weight[:, :, 0, 0] = torch.eye(4)
        third.weight[:, :, 1, 1] = 1e-40 * torch.eye(4)
        assert isinstance(model.classifier[1], nn.Linear)
        model.classifier[1].weight[0] = 0.01
        model.classifier[1].weight[1] = 0.0
        model.classifier[1].bias[:] = torch.tensor([0.0, 1.0])
    zeros = torch.zeros(1, 4, 1, 1)
    certificate = certify(model, "fast")
    assert certificate.lipschitz_upper_bound < 1
    label = model(zeros).argmax(1)
    assert model(zeros + 1).isnan().all()
    assert certified_radius(model, zeros, label, certificate).item() == -math.inf
    # In float64 nothing overflows.
    assert certified_radius(model, zeros.double(), label, certificate).item() > 0


def test_images_of_less_precision_than_the_weights_are_refused() -> None:
    """In float32 the weights would be others than the certified ones."""
    model = deployed(IResNet((1, 4, 4), 3, (1,), head="lipschitz")).double().eval()
    images, labels = torch.rand(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"images must be float64, as weights are, .*float32"):
        certified_radius(model, images, labels, certify(model, "fast"))


def test_layers_without_a_bias_or_factors_have_radii() -> None:
    model = IResNet((1, 4, 4), 3, (1,), norm="batch").eval()
    linear = IResNet((1, 4, 4), 3, (1,), head="lipschitz").eval()
    linear.classifier[1] = nn.Linear(64, 3, bias=False).eval()
    bare = nn.BatchNorm2d(4, affine=False)
    model.classifier[0] = bare.eval()
    images = torch.rand(4, 1, 4, 4) - 0.5
    for changed in (model, linear):
        labels = changed(images).argmax(1)
        radii = certified_radius(changed, images, labels, certify(changed, "fast"))
        assert bool((radii > 0).any())
        assert not attack(changed, images, labels, radii.clamp(min=0))[radii > 0].any()


def test_a_bound_of_zero_between_two_logits_depends_on_the_margin() -> None:
    model = head([1.0, 1.0], [1.0, 0.0])
    image = torch.full((1, 1, 1, 1), 0.5)
    certificate = certify(model)
    assert isinstance(certificate, Certificate)
    assert certificate.logit_lipschitz_upper_bound == 0
    radius = [
        certified_radius(model, image, torch.tensor([label]), certificate).item()
        for label in (0, 1)
    ]
    assert radius == [1.0, -math.inf]
    worse = replace(certificate, logit_difference_bounds=((0.0, 1.0), (1.0, 0.0)))
    assert 0.9 < certified_radius(model, image, torch.tensor([0]), worse).item() < 1


def test_images_in_float64_are_certified_for_the_network_in_float64() -> None:
    """The same as of a network that is in float64 itself, but for the last bits of its bounds; and
    more than in float32, whose rounding is larger, by at most what real arithmetic would prove."""
    model = IResNet(
        (1, 8, 8), 4, (), dense_blocks=2, bottleneck=1, head="lipschitz", activation="elu"
    ).eval()
    certificate = certify(model)
    x = torch.rand(50, 1, 8, 8) - 0.5
    labels = model(x).argmax(1)
    ours = certified_radius(model, x.double(), labels, certificate)
    inside = deployed(model).double()
    theirs = certified_radius(inside, x.double(), labels, certify(inside))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
    assert (ours > certified_radius(model, x, labels, certificate)).all()
    logits = inside(x.double())
    margins = logits.gather(1, labels.unsqueeze(1)) - logits
    bounds = torch.tensor(certificate.logit_difference_bounds, dtype=torch.float64)[labels]
    real = (margins / bounds).scatter(1, labels.unsqueeze(1), math.inf).amin(1)
    assert (ours <= real / certificate.features_lipschitz_upper_bound).all()
