from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import (
    Family,
    IResNet,
    NetworkSpec,
    Span,
    attacked,
    certified_radius,
    certify,
    deployed,
    project,
)
from models.proofs import attack


def linear(seed: int = 0) -> IResNet:
    """Three logits of 16 pixels, without blocks."""
    torch.manual_seed(seed)
    model = IResNet((1, 4, 4), 3, (), channel_multiplier=1, head="lipschitz").eval()
    for parameter in model.classifier.parameters():
        nn.init.normal_(parameter)
    return model.requires_grad_(False)


def exact_radii(model: IResNet, images: Tensor, labels: Tensor) -> Tensor:
    """Of a linear network, (B,): the distance to the nearest hyperplane where two logits meet."""
    zero = torch.zeros(1, *images.shape[1:])
    units = torch.eye(zero.numel()).view(-1, *images.shape[1:])
    weight = (model(units) - model(zero)).T
    logits = model(images)
    margin = logits.gather(1, labels.unsqueeze(1)) - logits
    distance = margin / (weight[labels].unsqueeze(1) - weight).norm(dim=2)
    return distance.nan_to_num(nan=torch.inf).amin(dim=1)


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_of_a_linear_network_it_finds_what_is_nearer_than_the_radius(scale: float) -> None:
    """With distances in pixels, of which images are `scale` times."""
    model = linear()
    images = scale * (torch.rand(40, 1, 4, 4) - 0.5)
    labels = model(images).argmax(1)
    exact = exact_radii(model, images, labels) / scale
    radius = exact.median().item()
    is_clear = (exact - radius).abs() > 1e-3 * radius
    found, points = attacked(model, images, labels, radius, scale=scale)
    assert torch.equal(found[is_clear], (exact < radius)[is_clear])
    assert torch.equal(model(points).argmax(1) != labels, found)
    assert torch.equal(points[~found], images[~found])
    distance = (points.double() - images.double()).flatten(1).norm(dim=1)
    assert distance.max() <= scale * radius
    assert distance[found].min() > 0
    wrong = (labels + 1) % 3
    found, points = attacked(model, images, wrong, 1e-6, scale=scale)
    assert found.all()
    assert torch.equal(points, images)


def test_every_point_that_is_tried_is_within_the_radius_and_the_box() -> None:
    model, asked = linear(), list[Tensor]()
    images = torch.rand(2, 1, 4, 4).round() - 0.5
    labels = model(images).argmax(1)
    radius = 0.9 * exact_radii(model, images, labels).min().item()
    model.register_forward_pre_hook(lambda module, given: asked.append(given[0].detach()))
    limits = torch.tensor([0.5, torch.inf])
    assert not attacked(model, images, labels, radius, box=(-limits, limits)).found.any()
    tried = torch.stack(asked)
    assert len(tried) > 100
    assert tried[:, 0].abs().max() <= 0.5
    assert tried[:, 1].abs().max() > 0.5
    distance = (tried.double() - images.double()).flatten(2).norm(dim=2)
    assert 0.9 * radius < distance.max() <= radius


def test_batches_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = linear()
    images = torch.rand(20, 1, 4, 4) - 0.5
    labels = model(images).argmax(1)
    exact = exact_radii(model, images, labels)
    radius = exact.sort().values[9:11].mean().item()
    whole = attacked(model, images, labels, radius)
    monkeypatch.setattr(attack, "_AT_ONCE", 7)
    parts = attacked(model, images, labels, radius)
    assert whole.found.sum() == 10
    assert torch.equal(whole.found, parts.found)


SPEC = NetworkSpec(
    in_shape=(1, 4, 4),
    n_classes=3,
    blocks=(),
    dense_blocks=2,
    bottleneck=1,
    channel_multiplier=1,
    head="rows",
    rows=2,
)


def networks() -> dict[str, IResNet]:
    """One of every kind that a study stores."""
    torch.manual_seed(0)
    paper = IResNet((1, 4, 4), 3, (1, 1), channel_multiplier=4).eval()
    family = Family(SPEC, {"margin": Span(0.1, 1.0)})
    scaled = deployed(IResNet(SPEC)).eval()
    project(
        scaled, lipschitz=0.1, images=[torch.rand(8, 1, 4, 4) - 0.5], labels=torch.arange(8) % 3
    )
    return {
        "bottleneck": paper,
        "potential": IResNet(SPEC).eval(),
        "member": family.at(margin=0.3).eval(),
        "scaled": scaled,
    }


@pytest.mark.parametrize("name", ["bottleneck", "potential", "member", "scaled"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_image_is_found_within_a_proven_radius(name: str, dtype: torch.dtype) -> None:
    """And at most images one within a few times as far."""
    model = networks()[name].requires_grad_(False)
    images = (torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(1)) - 0.5).to(dtype)
    exact = model if dtype == torch.float32 else deployed(model).double()
    labels = exact(images).argmax(1)
    radii = certified_radius(model, images, labels, certify(model))
    assert (radii > 0).float().mean() > 0.9
    radius = radii.median().item()
    found = attacked(model, images, labels, radius).found
    assert not (found & (radii >= radius)).any()
    found, points = attacked(model, images, labels, 100 * radius)
    assert found.float().mean() > 0.5
    assert (exact(points).argmax(1) != labels)[found].all()


def test_a_target_is_found_where_the_likeliest_class_is_out_of_reach() -> None:
    """Class 1, the likeliest wrong one, is at its largest in the corner of the box where the image
    is; in the opposite corner, class 2 is larger than the label's."""
    model = linear()
    images, labels = torch.full((1, 1, 4, 4), 0.5), torch.tensor([0])
    layer = next(module for module in model.modules() if isinstance(module, nn.Linear))
    layer.weight.copy_(torch.tensor([0.0, 0.1, -0.2]).view(3, 1).expand(3, 16))
    layer.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    assert model(images).argsort(descending=True).tolist() == [[0, 1, 2]]
    found = [
        attacked(
            model, images, labels, 4.0, box=(-0.5, 0.5), n_restarts=0, n_targets=n
        ).found.item()
        for n in (0, 1, 2, 9)
    ]
    assert found == [False, False, True, True]


def test_the_seed_alone_decides_and_no_gradient_is_left() -> None:
    model = networks()["bottleneck"].requires_grad_(True)
    images = torch.rand(10, 1, 4, 4) - 0.5
    with torch.no_grad():
        labels = model(images).argmax(1)
        first, again, other = (attacked(model, images, labels, 0.5, seed=s) for s in (1, 1, 2))
    assert torch.equal(first.images, again.images)
    assert first.found.sum() == other.found.sum()
    assert not first.images.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"radius": 0.0}, ValueError, "must be positive and finite, but got radius=0"),
        ({"radius": "1"}, TypeError, "radius must be a number"),
        ({"scale": -1.0}, ValueError, "must be positive and finite"),
        ({"radius": -1.0, "scale": -1.0}, ValueError, "must be positive and finite"),
        ({"radius": float("nan")}, ValueError, "must be positive and finite"),
        ({"box": (0.0, 0.5)}, ValueError, "images must lie in the box"),
        ({"labels": torch.tensor([3, 0])}, ValueError, "labels must be from 0 to 2, but got 3"),
        ({"images": torch.zeros(2, 1, 4, 5)}, ValueError, r"images must have the shape"),
        ({"images": torch.zeros(2, 1, 4, 4).half()}, ValueError, "images must be torch.float32"),
        ({"n_restarts": -1}, ValueError, "n_restarts >= 0 must hold"),
        ({"n_targets": 1.5}, TypeError, "n_targets must be a whole number"),
        ({"n_steps": 0}, ValueError, "n_steps >= 1 must hold"),
        ({"model": nn.Identity()}, TypeError, "model must be of type IResNet"),
        ({"model": linear().train()}, RuntimeError, "needs eval mode"),
    ],
)
def test_what_breaks_a_rule_is_refused_in_a_line(
    given: dict[str, Any], error: type[Exception], message: str
) -> None:
    images = torch.linspace(-0.5, 0.5, 32).view(2, 1, 4, 4)
    whole = {
        "model": linear(), "images": images, "labels": torch.zeros(2, dtype=torch.int64),
        "radius": 1.0, **given,
    }  # fmt: skip
    with pytest.raises(error, match=message) as raised:
        attacked(**whole)
    assert "\n" not in str(raised.value)
