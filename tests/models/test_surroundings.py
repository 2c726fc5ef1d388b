"""What is proven of the answers around an image, against what the network does there."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from models import Certificate, IResNet, certified_answers, certified_radius, certify
from models.blocks.passed_potential import PassedPotential
from models.norms.fall import Fall
from models.proofs.surroundings import Surroundings
from tests.support.attack import attack
from tests.support.networks import network

BODIES: dict[str, dict[str, Any]] = {
    "dense": {"blocks": (), "dense_blocks": 4, "coeff": 0.8},
    "deep and weak": {"blocks": (), "dense_blocks": 12, "coeff": 0.3},
    "patches": {"blocks": (2, 2), "block": "potential", "patch": 2, "dense_blocks": 1},
    "convolutions": {"blocks": (2, 2), "block": "potential", "coeff": 0.5},
    "padded": {"blocks": (), "dense_blocks": 3, "channel_multiplier": 2},
    "not invertible": {"blocks": (), "dense_blocks": 4, "coeff": 1.7},
}


def potential(**settings: Any) -> IResNet:
    torch.manual_seed(0)
    small = {"bottleneck": 2, "channel_multiplier": 1, "head": "lipschitz", "dropout": 0.0}
    return network(**{**small, **settings}).eval()


def margins_of(model: IResNet, x: Tensor) -> Tensor:
    logits: Tensor = model(x)
    return logits[..., 0] - logits[..., 1]


def around(model: IResNet, x: Tensor) -> Surroundings:
    found = Surroundings.of(model, x, certify(model).blocks)
    assert found is not None
    return found


def difference(model: IResNet) -> Tensor:
    """The gradient of the margin of class 0 over class 1 by the features."""
    weight: Tensor = model.classifier[-1].weight.detach().double()
    return weight[0] - weight[1]


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_no_margin_falls_by_more_than_its_bound(body: dict[str, Any]) -> None:
    """At random points, and at those that gradient steps find, near and far."""
    model = potential(**body).double()
    x = torch.rand(20, 2, 8, 8, dtype=torch.float64) - 0.5
    with torch.no_grad():
        margins = margins_of(model, x)
        x, margins = x[margins > 0], margins[margins > 0]
        slopes = difference(model).expand(len(x), -1)
        fall = around(model, x).fall(
            torch.arange(len(x)), slopes, torch.zeros_like(margins), margins
        )
    attained = []
    for size in (0.01, 0.1, 0.5, 2.0, 10.0):
        d = torch.randn_like(x)
        for _ in range(15):
            d = (d * size / d.flatten(1).norm(dim=1).view(-1, 1, 1, 1)).requires_grad_()
            fell = margins - margins_of(model, x + d)
            along = (fall.slope * d).flatten(1).sum(dim=1)
            least = fall.curvature * size**2 + fall.offset - along
            assert bool((fell <= least + 1e-12).all())
            attained.append((fell / (fall.norm * size + least + along)).max().item())
            (slope,) = torch.autograd.grad(fell.sum(), d)
            d = (d + size * slope / slope.flatten(1).norm(dim=1).view(-1, 1, 1, 1)).detach()
    # The bound is of use: something comes near to it.
    assert max(attained) > 0.5


@pytest.mark.parametrize("seed", range(20))
def test_a_block_s_bound_holds_whatever_is_known_inside(seed: int) -> None:
    """With a way that nothing takes, and with u off by as much as is said, signs included."""
    torch.manual_seed(seed)
    model = potential(blocks=(), dense_blocks=1, coeff=0.9 if seed % 2 else 1.6).double()
    x, off = torch.rand(30, 2, 8, 8, dtype=torch.float64) - 0.5, 0.3
    passed = around(model, x).steps[1]
    assert isinstance(passed, PassedPotential)
    block = model.blocks[0]
    wrong = torch.randn_like(passed.u)
    wrong = off * wrong / wrong.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    passed = replace(passed, u=passed.u + wrong, off=torch.full_like(passed.off, off))
    after = Fall(
        torch.randn(30, 128, 1, 1, dtype=torch.float64),
        0.1 + torch.rand(30, dtype=torch.float64),
        torch.zeros(30, dtype=torch.float64),
        torch.zeros(30, dtype=torch.float64),
    )
    with torch.no_grad():
        before = passed.before(after, torch.randn_like(passed.u))
        x = x.view(30, 128, 1, 1)
        for size in (0.01, 0.3, 3.0):
            d = size * torch.randn(200, 30, 128, 1, 1, dtype=torch.float64)
            moved = block((x + d).flatten(0, 1)).view_as(d) - block(x)

            def bound(fall: Fall, d: Tensor) -> Tensor:
                flat = d.flatten(2)
                along = (fall.slope.flatten(1) * flat).sum(dim=2)
                squares = fall.curvature * flat.square().sum(dim=2)
                return squares - along + fall.offset + fall.error * flat.norm(dim=2)

            assert bool((bound(after, moved) <= bound(before, d) + 1e-12).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_radius_is_between_its_lipschitz_bound_and_an_attack(
    body: dict[str, Any], dtype: torch.dtype
) -> None:
    """No gradient step within it finds another answer; just outside of twice some do. Rows as
    well."""
    for head in ("lipschitz", "rows"):
        model = potential(head=head, rows=3, **body)
        with torch.no_grad():
            model.classifier[-1].weight.mul_(10)
        x = (torch.rand(40, 2, 8, 8) - 0.5).to(dtype)
        model = model.to(dtype)
        certificate = certify(model)
        with torch.no_grad():
            labels = model(x).argmax(dim=1)
        answers = certified_answers(model, x, labels, certificate)
        assert bool((answers.radii <= answers.unrounded).all())
        quotients = _by_lipschitz_bounds(model, certificate, x, labels)
        assert bool((answers.unrounded >= quotients * (1 - 1e-6)).all())
        assert answers.unrounded.sum() > 1.05 * quotients.sum()
        for times, changes in ((0.999, False), (2.5, True)):
            found = attack(model, x, labels, times * answers.radii.clamp(min=0))
            assert bool(found[answers.radii > 0].any()) is changes


def _by_lipschitz_bounds(
    model: IResNet, certificate: Certificate, x: Tensor, labels: Tensor
) -> Tensor:
    """Radii of the logits alone, by the bounds of the certificate."""
    with torch.no_grad():
        logits = model(x).double()
    between = torch.tensor(certificate.logit_difference_bounds, dtype=torch.float64)[labels]
    margins = logits.gather(1, labels.unsqueeze(1)) - logits
    quotients = (margins / between).scatter(1, labels.unsqueeze(1), torch.inf)
    return quotients.amin(dim=1) / certificate.features_lipschitz_upper_bound


def test_of_two_pixels_the_radius_is_below_the_distance_of_the_nearest_other_answer() -> None:
    """Brute force over a fine grid."""
    torch.manual_seed(1)
    model = potential(
        in_shape=(2, 1, 1), blocks=(), dense_blocks=4, bottleneck=1, coeff=0.4, n_classes=3
    ).double()
    x = (torch.rand(30, 2, 1, 1, dtype=torch.float64) - 0.5) / 2
    with torch.no_grad():
        # All answers meet at the center of the images.
        model.classifier[-1].bias.sub_(model(torch.zeros_like(x[:1]))[0])
        labels = model(x).argmax(dim=1)
        radii = certified_radius(model, x, labels, certify(model))
        side = torch.linspace(-2, 2, 801, dtype=torch.float64)
        points = torch.cartesian_prod(side, side)
        answers = model(points.view(-1, 2, 1, 1)).argmax(dim=1)
    exact = torch.stack(
        [
            (points[answers != label] - image.flatten()).norm(dim=1).min()
            for image, label in zip(x, labels, strict=True)
        ]
    )
    assert bool((radii < exact).all())
    assert bool((radii > 0).all())
    assert (radii / exact).median() > 0.5


def test_elsewhere_than_in_potential_blocks_of_relu_nothing_more_is_known() -> None:
    x = torch.rand(2, 2, 8, 8)
    for other in ({"activation": "elu"}, {"block": "bottleneck", "dense_blocks": 0}):
        model = potential(**{"blocks": (1,), "block": "potential", "dense_blocks": 1, **other})
        assert Surroundings.of(model, x, certify(model).blocks) is None
