"""Bounds of the differences of logits, by features."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from models import IResNet, certified_radius, certify
from models.heads.kinds import head_of
from models.proofs.certification import with_classifier
from tests.support.networks import classifying


def test_a_classifier_alone_reaches_its_bound_where_all_is_on() -> None:
    """Its gradient where every ReLU passes, by autograd."""
    classifier = classifying().classifier.double()
    with torch.no_grad():
        assert isinstance(classifier[0], nn.BatchNorm2d)
        classifier[0].bias.fill_(100.0)
    channels = classifier[0].num_features
    bounds = head_of(classifier).difference_bounds(classifier, (channels, 2, 2))
    features = torch.rand(1, channels, 2, 2, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda f: classifier(f)[0], features)
    jacobian = jacobian.reshape(4, -1)
    attained = (jacobian.unsqueeze(1) - jacobian).norm(dim=2)
    torch.testing.assert_close(bounds, attained, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(
    "last", [[nn.Dropout(0.1)], [nn.Flatten(), nn.Linear(4, 2)], [nn.Softmax(1)], []]
)
def test_of_another_classifier_nothing_is_said_and_the_reason_is(last: list[nn.Module]) -> None:
    model = classifying()
    model.classifier = nn.Sequential(*last).eval()
    certificate = certify(model)
    assert certificate.logit_lipschitz_upper_bound == math.inf
    assert certificate.unknown_classifier is not None
    assert "classifier" in certificate.unknown_classifier
    assert certificate.features_lipschitz_upper_bound < math.inf
    images, labels = torch.rand(3, 2, 4, 4), torch.zeros(3, dtype=torch.int64)
    assert (certified_radius(model, images, labels, certificate) == -math.inf).all()


@pytest.mark.parametrize("exponent", [-160, -540, -548, -900, 500])
def test_the_bounds_of_a_head_follow_the_scale_of_its_weights(exponent: int) -> None:
    """Powers of two change no other bit of a weight: bounds are those at scale 1, times the power,
    and radii are the same, though the squares of the weights are zero in float64."""
    model = IResNet(
        (1, 4, 4), 10, (), dense_blocks=1, bottleneck=2, channel_multiplier=1, head="lipschitz"
    )  # fmt: skip
    model = model.double().eval()
    last = model.classifier[1]
    assert isinstance(last, nn.Linear)
    images = torch.rand(4, 1, 4, 4, dtype=torch.float64)
    labels = model(images).argmax(1)
    certificate = certify(model)
    expected = torch.tensor(certificate.logit_difference_bounds, dtype=torch.float64)
    radii = certified_radius(model, images, labels, certificate)
    assert bool((radii > 0).all())
    with torch.no_grad():
        last.weight.mul_(2.0**exponent)
    certificate = certify(model)
    found = torch.tensor(certificate.logit_difference_bounds, dtype=torch.float64)
    torch.testing.assert_close(found, expected * 2.0**exponent, rtol=1e-12, atol=0)
    assert certificate.logit_lipschitz_upper_bound > 0
    found = certified_radius(model, images, labels, certificate)
    # What underflow may add to the rounding counts more, the smaller the logits are.
    assert bool((found <= radii * (1 + 1e-9)).all())
    if exponent > -800:
        torch.testing.assert_close(found, radii, rtol=1e-9, atol=0)


def test_the_slopes_of_a_linear_head_are_the_differences_of_its_rows() -> None:
    """Far below the others too: by 3 and 4 times 1e-200, next to a row of 1, so by 5e-200, l2."""
    linear = nn.Linear(2, 3).double()
    with torch.no_grad():
        rows = [[3e-200, 0.0], [0.0, -4e-200], [1.0, 0.0]]
        linear.weight.copy_(linear.weight.new_tensor(rows))
    classifier = nn.Sequential(nn.Flatten(), linear)
    bounds = head_of(classifier).difference_bounds(classifier, (2, 1, 1))
    expected = [[0, 5e-200, 1], [5e-200, 0, 1], [1, 1, 0]]
    torch.testing.assert_close(bounds, bounds.new_tensor(expected), rtol=1e-8, atol=0)


@pytest.mark.parametrize(("gamma", "weight"), [(1e-200, 1e-200), (1e-290, 1e-40)])
def test_products_that_underflow_have_no_bound_of_zero(gamma: float, weight: float) -> None:
    """But that of the smallest numbers, or none."""
    model = classifying().double()
    norm, _, _, last = model.classifier
    with torch.no_grad():
        norm.weight.fill_(gamma)
        last.weight.mul_(weight)
    assert certify(model).logit_lipschitz_upper_bound >= 2.0**-1000
    with torch.no_grad():
        norm.weight.fill_(1e-310)
    certificate = certify(model)
    assert certificate.logit_lipschitz_upper_bound == math.inf
    assert "too small for float64" in str(certificate.unknown_classifier)


def test_products_of_bounds_are_zero_only_where_a_factor_is() -> None:
    certificate = certify(classifying())
    of_block = certificate.blocks[0]
    tiny = replace(of_block, map_lipschitz_upper_bound=1e-200)
    huge = replace(of_block, map_lipschitz_upper_bound=1e300)
    zero = replace(of_block, map_lipschitz_upper_bound=0.0)
    for blocks, expected in (
        ((tiny, tiny, huge), 1e-100),
        ((tiny, tiny), 2.0**-1000),
        ((tiny, zero, huge), 0.0),
    ):
        bound = replace(certificate, blocks=blocks).features_lipschitz_upper_bound
        assert bound == pytest.approx(expected, rel=1e-8, abs=0)
        assert bound >= expected
    of_logits = replace(certificate, blocks=(tiny, tiny), logit_difference_bounds=((1e-200,),))
    assert of_logits.logit_lipschitz_upper_bound == 2.0**-1000


def test_a_variance_below_zero_bounds_nothing() -> None:
    """Near -eps, float32 and float64 divide by other numbers: by rounding alone."""
    model = classifying()
    norm = model.classifier[0]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None
    eps = torch.tensor(-norm.eps)
    norm.running_var.copy_(torch.nextafter(eps, torch.tensor(0.0)))
    images = torch.rand(4, 2, 4, 4)
    labels = model(images).argmax(1)
    certificate = certify(model)
    assert "must have variances and an eps >= 0" in str(certificate.unknown_classifier)
    assert bool((certified_radius(model, images, labels, certificate) == -math.inf).all())


def test_a_head_of_another_shape_has_no_bound() -> None:
    model = IResNet((2, 4, 4), 3, (1,), head="lipschitz").eval()
    certificate = certify(model, "fast")
    model.classifier[0] = nn.Flatten(2).eval()
    changed = with_classifier(certificate, model)
    assert changed.logit_difference_bounds == ()
    assert "must keep samples" in str(changed.unknown_classifier)
