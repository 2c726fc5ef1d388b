"""Distances of planes within a box, against bisection, and radii of images in it."""

import math

import pytest
import torch
from torch import Tensor

from models import IResNet, certified_radius, certify
from models.proofs.box import distances_within
from tests.models.test_rows import images, network

BOX = (-0.5, 0.5)


def by_bisection(x: Tensor, slope: Tensor, margin: Tensor) -> float:
    """The length of the shortest d with slope . d >= margin and x + d in the box."""

    def at(t: float) -> Tensor:
        return (x + t * slope).clamp(*BOX) - x

    if float(slope @ at(1e9)) < margin:
        return math.inf
    low, high = 0.0, 1e9
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if float(slope @ at(middle)) < margin else (low, middle)
    return at(high).norm().item()


def test_distances_are_those_of_bisection_and_never_larger() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(12, 9, dtype=torch.float64, generator=generator) - 0.5
    x[:, :4] = -0.5  # as the background of digits
    slopes = torch.randn(12, 7, 9, dtype=torch.float64, generator=generator)
    margins = 4 * torch.rand(12, 7, dtype=torch.float64, generator=generator)
    margins[0, 0] = 0
    found = distances_within(x, BOX, slopes, margins)
    exact = torch.tensor([
        [by_bisection(image, *pair) for pair in zip(of_image, of_margins, strict=True)]
        for image, of_image, of_margins in zip(x, slopes, margins, strict=True)
    ], dtype=torch.float64)  # fmt: skip
    assert 5 < int(exact.isinf().sum()) < 60
    # Of bisection, and of the room that a proof keeps.
    assert bool((found <= exact * (1 + 1e-9)).all())
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-9)
    unboxed = margins / slopes.norm(dim=2)
    assert bool((found >= unboxed * (1 - 1e-6)).all())


@pytest.mark.parametrize("head", ["rows", "lipschitz"])
def test_radii_within_the_box_are_larger_and_hold(head: str) -> None:
    """Against points of the box within the radius, at random and towards all rows."""
    model = network(head=head)
    x = (1.5 * images(30) - 1).clamp(*BOX)  # a third of the pixels are black
    model = model.double()
    labels = model(x).argmax(dim=1)
    certificate = certify(model)
    radii = certified_radius(model, x, labels, certificate)
    within = certified_radius(model, x, labels, certificate, box=BOX)
    assert bool((within >= radii).all())
    assert (within > 1.05 * radii).double().mean() > 0.2
    rows = model.classifier[1].weight.detach()
    towards = torch.cat([(rows.unsqueeze(1) - rows).flatten(0, 1), torch.randn(100, 18)])
    changed = {}
    for times in (0.999, 1.2):
        ball = times * within.clamp(min=0).view(-1, 1, 1)
        step = ball * towards / towards.norm(dim=1, keepdim=True).clamp(min=1e-9)
        for _ in range(60):  # onto box and ball by turns
            step = (x.flatten(1).unsqueeze(1) + step).clamp(*BOX) - x.flatten(1).unsqueeze(1)
            length = step.norm(dim=2, keepdim=True).clamp(min=1e-12)
            step = step * (ball / length).clamp(min=1.0)
        step = (x.flatten(1).unsqueeze(1) + step).clamp(*BOX) - x.flatten(1).unsqueeze(1)
        length = step.norm(dim=2, keepdim=True).clamp(min=1e-12)
        at = (x.flatten(1).unsqueeze(1) + step * (ball / length).clamp(max=1.0)).view(-1, 2, 3, 3)
        answers = model(at).argmax(dim=1).view(len(x), -1)
        changed[times] = (answers != labels.unsqueeze(1)).any(dim=1) & (within > 0)
    assert not changed[0.999].any()
    assert changed[1.2].any()


@pytest.mark.parametrize(
    ("model", "box", "message"),
    [
        (network(dense_blocks=1), BOX, "box must be None unless the network has no blocks"),
        (network(head="batch_norm"), BOX, "box must be None unless .* a linear head"),
        (network(), (0.5, -0.5), "images must lie in the box, but got box=0.5 to -0.5"),
        (network(), (0.0, 0.5), "images must lie in the box, but got box=0 to 0.5 and images"),
    ],
)
def test_a_box_that_does_not_count_is_refused(
    model: IResNet, box: tuple[float, float], message: str
) -> None:
    x = images(4, torch.float32) - 0.5
    labels = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match=message):
        certified_radius(model, x, labels, certify(model), box=box)
