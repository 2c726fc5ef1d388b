"""The head of several rows a class, and the network without blocks."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import (
    IResNet,
    certified_answers,
    certified_radius,
    certify,
    project,
    read_network,
    write_network,
)
from models.heads.rows import RowsHead, _distance_bounds, rows_of
from models.layers.rows import Rows
from models.norms.rounding import Running
from models.proofs import radius
from tests.support.networks import with_biases

N_CLASSES = 3


def network(n_rows: int = 4, **changes: Any) -> IResNet:
    """A network with random rows, by default without blocks."""
    settings: dict[str, Any] = {"in_shape": (2, 3, 3), "n_classes": N_CLASSES, "blocks": ()}
    settings |= {"channel_multiplier": 1, "head": "rows", "rows": n_rows, "dropout": 0.0}
    model = with_biases(IResNet(**{**settings, **changes}))
    nn.init.uniform_(rows_of(model.classifier).weight)
    return model.eval()


def images(n: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(n, 2, 3, 3, dtype=dtype)


def distances_by_hand(rows: Rows, x: Tensor, labels: Tensor) -> Tensor:
    """(B,): for each rival row the farthest of the planes between it and the own rows, of these
    the nearest."""
    by_class = rows.weight.detach().double().unflatten(0, (rows.n_classes, -1))
    found = []
    for image, label in zip(x.flatten(1).double(), labels.tolist(), strict=True):
        rivals = torch.cat([by_class[k] for k in range(rows.n_classes) if k != label])
        planes = [
            [((b - image).square().sum() - (a - image).square().sum()) / (2 * (a - b).norm())
             for a in by_class[label]]
            for b in rivals
        ]  # fmt: skip
        found.append(min(max(of_rival) for of_rival in planes))
    return torch.stack(found)


def test_the_nearest_row_decides() -> None:
    model, x = network(), images(50)
    rows = rows_of(model.classifier).weight.double()
    nearest = torch.cdist(x.flatten(1), rows).argmin(dim=1)
    logits = model.double()(x)
    assert torch.equal(logits.argmax(dim=1), nearest // 4)
    expected = x.flatten(1) @ rows.T - rows.square().sum(dim=1) / 2
    torch.testing.assert_close(logits, expected.view(50, N_CLASSES, 4).amax(dim=2))


@pytest.mark.parametrize("n_rivals", [100, 1])
def test_radii_are_distances_from_planes(n_rivals: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the best own row sought against each rival; else they may be smaller."""
    monkeypatch.setattr(radius, "_N_RIVALS", n_rivals)
    model, x = network(12), images(40)
    labels = model.double()(x).argmax(dim=1)
    labels[::4] = (labels[::4] + 1) % N_CLASSES
    answers = certified_answers(model, x, labels, certify(model))
    exact = distances_by_hand(rows_of(model.classifier), x, labels)
    assert bool((answers.radii <= exact)[exact > 0].all())
    assert bool((answers.radii <= answers.unrounded).all())
    is_near = (answers.radii - exact).abs() < 1e-6
    assert bool(is_near.all()) or n_rivals == 1
    assert is_near.double().mean() > 0.5
    assert answers.logits is not None
    torch.testing.assert_close(answers.logits, model(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "body", [{}, {"dense_blocks": 2, "coeff": 0.5}, {"blocks": (1,), "channel_multiplier": 2}]
)
def test_no_point_within_the_radius_has_another_answer(
    body: dict[str, Any], dtype: torch.dtype
) -> None:
    """Points towards all rows and at random; without blocks some points just outside have one."""
    torch.manual_seed(0)
    model, x = network(**body), images(30, dtype)
    labels = model.to(dtype)(x).argmax(dim=1)
    radii = certified_radius(model, x, labels, certify(model)).to(dtype)
    assert bool((radii > 0).all())
    shape = (-1, *x.shape[1:])
    towards = torch.randn(200, *x.shape[1:], dtype=dtype)
    if not body:
        a = rows_of(model.classifier).weight.detach().to(dtype)
        planes = (a.unsqueeze(1) - a).view(shape)
        towards = torch.cat([towards, planes[planes.flatten(1).any(dim=1)]])
    towards = towards / towards.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    changed = {}
    for times in (0.999, 1.05):
        at = x.unsqueeze(1) + times * radii.view(-1, 1, 1, 1, 1) * towards
        answers = model(at.view(shape)).argmax(dim=1).view(len(x), -1)
        changed[times] = (answers != labels.unsqueeze(1)).any(dim=1)
    assert not changed[0.999].any()
    assert bool(changed[1.05].any()) or bool(body)


def test_distances_of_rows_are_bounded_tightly() -> None:
    rows = torch.rand(20, 30, dtype=torch.float64) * 10
    rows[1] = rows[0] + 1e-3
    for scale in (1.0, 1e-150, 1e150):
        bounds = _distance_bounds(rows * scale)
        exact = (rows.unsqueeze(1) - rows).norm(dim=2) * scale
        assert bool((bounds >= exact).all())
        apart = ~torch.eye(20, dtype=torch.bool)
        torch.testing.assert_close(bounds[apart], exact[apart], rtol=1e-4, atol=0)


def test_the_rounding_of_scores_is_bounded() -> None:
    model, x = network(8), images(50, torch.float32)
    head, classifier = RowsHead(), model.classifier
    ball = Running(x, torch.zeros(50).double(), torch.zeros(50).double())
    bound = head.rounding(classifier, ball)
    in_full = head.scores(model.double().classifier, x.double())
    off = (head.scores(model.float().classifier, x).double() - in_full).abs()
    assert bool((off <= bound).all())
    assert off.max() > 1e-3 * bound.max()


def test_the_radii_of_training_are_those_that_are_proven() -> None:
    """Where all rows are among the largest scores; their gradients move the planes."""
    model, x = network(3).double(), images(20)
    head, classifier = model.head, model.classifier
    labels = torch.randint(0, N_CLASSES, (20,))
    scores = head.scores(classifier, x)
    of_training = head.radii(classifier, x, scores, labels, 2.0).squeeze(1)
    exact = distances_by_hand(rows_of(classifier), x, labels)
    torch.testing.assert_close(of_training, exact / 2)
    (slope,) = torch.autograd.grad(of_training.sum(), classifier.parameters())
    weight, step = rows_of(classifier).weight, 1e-6
    moved = weight.detach() + step * slope
    with torch.no_grad():
        weight.copy_(moved)
    gained = distances_by_hand(rows_of(classifier), x, labels) / 2 - exact / 2
    assert gained.sum().item() == pytest.approx(step * slope.square().sum().item(), rel=1e-3)


def test_rows_start_as_means_of_their_class() -> None:
    """Of three clusters a class the three centers, to which k-means must come."""
    generator = torch.Generator().manual_seed(0)
    centers = 10 * torch.rand(N_CLASSES * 3, 18, generator=generator)
    of_cluster = torch.arange(9).repeat(40)
    features = centers[of_cluster] + 0.01 * torch.randn(360, 18, generator=generator)
    model = network(6)
    model.head.start(model.classifier, features.view(-1, 2, 3, 3), of_cluster // 3, seed=0)
    rows = rows_of(model.classifier).weight.detach().view(N_CLASSES, 6, 18)
    for label in range(N_CLASSES):
        apart = torch.cdist(centers[3 * label : 3 * label + 3], rows[label]).amin(dim=1)
        assert apart.max() < 0.1


def test_a_network_without_blocks_is_the_image(tmp_path: Path) -> None:
    model, x = network(), images(5, torch.float32)
    certificate = certify(model)
    assert certificate.blocks == ()
    assert certificate.lipschitz_upper_bound == 0
    assert certificate.features_lipschitz_upper_bound == pytest.approx(1)
    assert certificate.invertible
    solution = model.inverse(model.features(x), certificate=certificate)
    assert torch.equal(solution.value, x)
    assert solution.error_bound is not None
    assert solution.error_bound.shape == (0, 5)
    assert solution.image_error_bound is not None
    assert solution.image_error_bound.tolist() == [0.0] * 5
    architecture: dict[str, Any] = {
        "in_shape": [2, 3, 3], "n_classes": 3, "blocks": [], "channel_multiplier": 1,
        "head": "rows", "rows": 4, "dropout": 0.0,
    }  # fmt: skip
    write_network(tmp_path, model, {"architecture": architecture})
    assert certify(read_network(tmp_path)) == certificate


def test_rows_are_fitted_to_labels_alone() -> None:
    model = network(3, dense_blocks=1, coeff=0.5)
    x = images(90, torch.float32)
    labels = torch.arange(90) % N_CLASSES
    x[:, 0] = 0.1 * x[:, 0] + labels.view(-1, 1, 1)
    with pytest.raises(ValueError, match="fitted to labels alone"):
        project(model, lipschitz=0.1, images=x)
    certificate = project(model, lipschitz=0.1, images=x, labels=labels, margin=0.5)
    assert certificate.lipschitz_upper_bound <= 0.1
    radii = certified_radius(model, x, labels, certificate, scale=3.0)
    assert (radii > 0).double().mean() > 0.95


def test_the_bound_of_two_classes_is_that_of_their_farthest_rows() -> None:
    model = network(5)
    rows = rows_of(model.classifier).weight.detach().double().view(N_CLASSES, 5, -1)
    bounds = certify(model).logit_difference_bounds
    for i, j in ((0, 1), (2, 1), (0, 2)):
        farthest = (rows[i].unsqueeze(1) - rows[j]).norm(dim=2).max().item()
        assert bounds[i][j] == pytest.approx(farthest, rel=1e-8)
        assert bounds[i][j] >= farthest
