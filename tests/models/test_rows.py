"""The head of several rows a class, and the network without blocks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
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
from models.proofs import rivals
from tests.support.networks import with_biases

N_CLASSES = 3


def network(n_rows: int = 4, **changes: Any) -> IResNet:
    """A network with random rows, by default without blocks."""
    settings: dict[str, Any] = {"in_shape": (2, 3, 3), "n_classes": N_CLASSES, "blocks": ()}
    settings |= {"channel_multiplier": 1, "head": "rows", "rows": n_rows, "dropout": 0.0}
    model = with_biases(IResNet(**{**settings, **changes}))
    nn.init.uniform_(model.classifier[-1].weight)
    return model.eval()


def images(n: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(n, 2, 3, 3, dtype=dtype)


def planes_of(rows: Rows, x: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each of B images, (normals, offsets): of the planes between each of P rival rows and each
    of Q own rows, (P, Q, D), and by how much the score of the own row is larger, (P, Q)."""
    by_class = rows.weight.detach().double().unflatten(0, (rows.n_classes, -1))
    found = []
    for image, label in zip(x.flatten(1).double(), labels.tolist(), strict=True):
        own = by_class[label]
        rivals = torch.cat([by_class[k] for k in range(rows.n_classes) if k != label])
        scores = [part @ image - part.square().sum(dim=1) / 2 for part in (own, rivals)]
        found.append((own - rivals.unsqueeze(1), scores[0] - scores[1].unsqueeze(1)))
    return found


def of_single_rows(rows: Rows, x: Tensor, labels: Tensor) -> Tensor:
    """(B,): for each rival row the farthest of the planes between it and the own rows, of these
    the nearest."""
    planes = planes_of(rows, x, labels)
    return torch.stack([(m / n.norm(dim=2)).amax(dim=1).amin() for n, m in planes])


def exact_distance(rows: Rows, image: Tensor, label: Tensor) -> float:
    """The distance of the nearest point at which some rival row reaches all own rows: a least
    distance problem for each rival (Lawson and Hanson, chapter 23)."""
    ((normals, offsets),) = planes_of(rows, image.unsqueeze(0), label.unsqueeze(0))
    found = []
    for normal, offset in zip(-normals, offsets, strict=True):
        left = torch.cat([normal.T, offset.unsqueeze(0)]).numpy()
        right = np.append(np.zeros(normal.shape[1]), 1.0)
        *point, last = left @ nnls(left, right)[0] - right
        found.append(np.linalg.norm(point) / abs(last))
    return float(min(found))


def test_the_nearest_row_decides() -> None:
    model, x = network(), images(50)
    rows = rows_of(model.classifier).weight.double()
    nearest = torch.cdist(x.flatten(1), rows).argmin(dim=1)
    logits = model.double()(x)
    assert torch.equal(logits.argmax(dim=1), nearest // 4)
    expected = x.flatten(1) @ rows.T - rows.square().sum(dim=1) / 2
    torch.testing.assert_close(logits, expected.view(50, N_CLASSES, 4).amax(dim=2))


@pytest.mark.parametrize(("n_rivals", "n_own", "n_near"), [(100, 12, 40), (1, 3, 20)])
def test_radii_are_distances_to_where_a_rival_reaches_all_own_rows(
    n_rivals: int, n_own: int, n_near: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If mixtures of all own rows are sought against all rivals; else some are smaller."""
    monkeypatch.setattr(rivals, "_N_RIVALS", n_rivals)
    monkeypatch.setattr(rivals, "_N_OWN", n_own)
    model, x = network(12), images(40)
    rows, labels = rows_of(model.double().classifier), model(x).argmax(dim=1)
    answers = certified_answers(model, x, labels, certify(model))
    exact = torch.tensor([exact_distance(rows, *pair) for pair in zip(x, labels, strict=True)])
    # Of a solver of its own tolerance.
    assert bool((answers.radii <= exact * (1 + 1e-7)).all())
    assert bool((answers.radii <= answers.unrounded).all())
    assert int((answers.radii > 0.999 * exact).sum()) >= n_near
    assert bool((answers.radii >= of_single_rows(rows, x, labels) * 0.999).all()) or n_rivals == 1
    assert answers.logits is not None
    torch.testing.assert_close(answers.logits, model(x))
    wrong = (labels + 1) % N_CLASSES
    assert bool((certified_radius(model, x, wrong, certify(model)) < 0).all())


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
    exact = of_single_rows(rows_of(classifier), x, labels)
    torch.testing.assert_close(of_training, exact / 2)
    (slope,) = torch.autograd.grad(of_training.sum(), classifier.parameters())
    weight, step = rows_of(classifier).weight, 1e-6
    moved = weight.detach() + step * slope
    with torch.no_grad():
        weight.copy_(moved)
    gained = of_single_rows(rows_of(classifier), x, labels) / 2 - exact / 2
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
