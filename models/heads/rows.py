"""A head with several rows a class on all features, whose Lipschitz constant is known."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.floats.raised import LEAST, UP
from models.heads.flat import FlatHead
from models.heads.head import Loss
from models.heads.linear_last import rounding_of_sums
from models.isometries import Shape
from models.layers.rows import Rows
from models.norms.rounding import UNITS, Running
from models.spec import NetworkSpec

# Of how many own rows, and of how many rows of other classes, a step takes the pair that decides.
_N_OWN, _N_RIVALS = 4, 16
# The least square of the distance of two rows that training looks at.
_APART = 1e-6
# Steps of k-means, and the images of a class on which it runs, for each of its rows, at least.
_N_MEANS_STEPS, _N_PER_ROW, _N_IMAGES = 8, 10, 2000


class RowsHead(FlatHead):
    """The kind head="rows": all features, flattened, and `Rows`: the nearest of several prototypes
    of each class decides (Voracek and Hein 2022, "Provably adversarially robust nearest prototype
    classifiers"). Training starts from means of the features of each class."""

    ending = (nn.Flatten, Rows)

    def build(self, spec: NetworkSpec, shape: Shape) -> nn.Sequential:
        n_features = math.prod(shape)
        rows = Rows(n_features, spec.n_classes, spec.rows)
        nn.init.normal_(rows.weight, std=1 / math.sqrt(n_features))
        return nn.Sequential(nn.Flatten(), rows)

    @torch.no_grad()
    def difference_bounds(self, classifier: nn.Sequential, shape: Shape) -> Tensor:
        """The largest over the pairs of rows of two classes."""
        weight, _ = self.checked_weight(classifier, shape)
        n_classes = rows_of(classifier).n_classes
        of_rows = _distance_bounds(weight).unflatten(0, (n_classes, -1)).amax(dim=1)
        of_classes: Tensor = of_rows.unflatten(1, (n_classes, -1)).amax(dim=2)
        return of_classes.fill_diagonal_(0.0)

    @torch.no_grad()
    def score_bounds(self, classifier: nn.Sequential, of_logits: Tensor) -> Tensor:
        return _distance_bounds(rows_of(classifier).weight.to("cpu", torch.float64))

    def rounding(self, classifier: nn.Sequential, features: Running) -> Tensor:
        weight, x = rows_of(classifier).weight, features.value.flatten(1)
        of_terms = F.linear(x.abs(), weight.abs()) + 0.5 * weight.square().sum(dim=1)
        # The products of a.x and the squares of |a|^2.
        return rounding_of_sums(features, weight, of_terms, 2 * weight.shape[1] + 1)

    def check_fittable(self, classifier: nn.Sequential) -> None:
        raise ValueError("a classifier of rows is fitted to labels alone, but got none")

    def scores(self, classifier: nn.Sequential, features: Tensor) -> Tensor:
        return rows_of(classifier).scores(features.flatten(1))

    def logits(self, classifier: nn.Sequential, scores: Tensor) -> Tensor:
        return rows_of(classifier).largest(scores)

    @torch.no_grad()
    def start(self, classifier: nn.Sequential, features: Tensor, labels: Tensor, seed: int) -> None:
        """Rows start as the means of k-means among the features of their class."""
        rows, generator = rows_of(classifier), torch.Generator().manual_seed(seed)
        n_rows = len(rows.weight) // rows.n_classes
        for label, weight in enumerate(rows.weight.split(n_rows)):
            own = features[labels == label].flatten(1)
            if len(own) > 0:
                order = torch.randperm(len(own), generator=generator).to(own.device)
                weight.copy_(_means(own[order[: max(_N_IMAGES, _N_PER_ROW * n_rows)]], n_rows))

    def fit_to_labels(
        self, classifier: nn.Sequential, features: Tensor, labels: Tensor, loss: Loss, seed: int
    ) -> None:
        """Fit as a FlatHead is, from rows that start anew."""
        self.start(classifier, features, labels, seed)
        super().fit_to_labels(classifier, features, labels, loss, seed)

    def radii(
        self,
        classifier: nn.Sequential,
        features: Tensor,
        scores: Tensor,
        labels: Tensor,
        lipschitz: float,
    ) -> Tensor:
        """(B, 1): the radius against one rival row, the smallest of those that the own row gives
        which lasts longest against it; both are looked for among the rows of the largest scores."""
        rows, count = rows_of(classifier), torch.arange(len(labels), device=labels.device)
        n_rows = len(rows.weight) // rows.n_classes
        with torch.no_grad():
            weight, squared = rows.weight, rows.weight.square().sum(dim=1)
            by_class = scores.unflatten(1, (rows.n_classes, -1))
            of_label, own = by_class[count, labels].topk(min(_N_OWN, n_rows), dim=1)
            own = own + (labels * n_rows).unsqueeze(1)
            others = by_class.index_put((count, labels), scores.new_tensor(-math.inf)).flatten(1)
            of_others, rivals = others.topk(min(_N_RIVALS, others.shape[1] - n_rows), dim=1)
            products = weight[own] @ weight[rivals].mT
            apart = squared[own].unsqueeze(2) + squared[rivals].unsqueeze(1) - 2 * products
            margins = of_label.unsqueeze(2) - of_others.unsqueeze(1)
            longest, best = (margins / apart.clamp(min=_APART).sqrt()).max(dim=1)
            nearest = longest.argmin(dim=1, keepdim=True)
            own = own.gather(1, best.gather(1, nearest)).squeeze(1)
            rival = rivals.gather(1, nearest).squeeze(1)
        # The difference of two scores would lose what the rows have in common to rounding.
        a, b = rows.weight[own], rows.weight[rival]
        difference = a - b
        margin = (difference * (features.flatten(1) - 0.5 * (a + b))).sum(dim=1)
        slope = lipschitz * difference.square().sum(dim=1).clamp(min=_APART).sqrt()
        return (margin / slope).unsqueeze(1)


def rows_of(classifier: nn.Sequential) -> Rows:
    last = classifier[-1]
    assert isinstance(last, Rows)
    return last


def _means(features: Tensor, n_rows: int) -> Tensor:
    """(R, D): the means of k-means, from random ones of the features (N, D), in random order. If N
    is below R, some come twice."""
    means = features[torch.arange(n_rows, device=features.device) % len(features)]
    for _ in range(_N_MEANS_STEPS):
        nearest = (features @ means.T - 0.5 * means.square().sum(dim=1)).argmax(dim=1)
        counts = torch.bincount(nearest, minlength=n_rows).unsqueeze(1)
        sums = torch.zeros_like(means).index_add_(0, nearest, features)
        means = torch.where(counts > 0, sums / counts.clamp(min=1), means)
    return means


def _distance_bounds(weight: Tensor) -> Tensor:
    """(N, N): upper bounds of the l2 distances between rows of `weight`, float64 (N, D), from the
    matrix of their products, whose rounding is far below ROOM for rows that are not nearly equal.
    """
    unit, _ = UNITS[torch.float64]
    largest = weight.abs().amax().clamp(min=LEAST)
    scaled = weight / largest  # so that no square overflows
    products = scaled @ scaled.T
    squared = products.diagonal()
    sums = squared.unsqueeze(1) + squared
    n_features = weight.shape[1]
    # Sums of so many products, and of three numbers; squares that underflow are below the last.
    rounding = 4 * (n_features + 4) * unit * sums + n_features * LEAST
    squares = (sums - 2 * products).clamp(min=0) + rounding
    return (squares.sqrt() * largest * UP).clamp(min=LEAST)
