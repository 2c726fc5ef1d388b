"""The interface of every kind of head: it builds a classifier of features, proves bounds of it and
of its rounding, and fits it to given features."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from models.isometries import Shape
from models.norms.rounding import Running
from models.spec import NetworkSpec

Loss = Callable[[Callable[[float], Tensor], Tensor, Tensor], Tensor]
"""A function (radii, logits, labels) -> the mean of a loss over images. radii is a function that
gives the head's `radii` for a bound of the features; logits are (B, K) in float32, labels (B,)."""


class Head(ABC):
    """A kind of classifier, without a state of its own. A classifier is an nn.Sequential from
    features (B, C, H, W) to logits (B, K). The logit of a class is the largest of the scores of its
    rows: there are N scores, as many for each class, in the order of the classes. In most kinds a
    class has one row, and scores are logits."""

    ending: tuple[type[nn.Module], ...]
    """The classes of a classifier's last modules, by which its kind is recognized."""

    @property
    def fits_labels(self) -> bool:
        """Whether a classifier of this kind can be fitted to labels by the loss of its training."""
        return type(self).fit_to_labels is not Head.fit_to_labels

    @property
    def starts_from_images(self) -> bool:
        """Whether training starts from features of images, and not from random weights alone."""
        return type(self).start is not Head.start

    @abstractmethod
    def build(self, spec: NetworkSpec, shape: Shape) -> nn.Sequential:
        """A new classifier for features of `shape` (C, H, W)."""

    @abstractmethod
    def difference_bounds(self, classifier: nn.Sequential, shape: Shape) -> Tensor:
        """Proven bounds (K, K), float64, l2, of the Lipschitz constants of z_i - z_j as functions
        of features of `shape`, for the logits z of a classifier in eval mode; zero for i = j.

        Raises:
            ValueError: with the reason, if no bound is known or numbers are not finite.
        """

    @abstractmethod
    def rounding(self, classifier: nn.Sequential, features: Running) -> Tensor:
        """Bounds (B, N), float64, of the rounding of each score, for all features in a ball."""

    @abstractmethod
    def check_fittable(self, classifier: nn.Sequential) -> None:
        """Raise ValueError unless the classifier can be fitted to logits."""

    @abstractmethod
    def fit_to_logits(
        self, classifier: nn.Sequential, features: Sequence[Tensor], logits: Sequence[Tensor]
    ) -> None:
        """Fit a classifier in eval mode, in place, to the logits (B, K) that it should give for
        batches of features (B, C, H, W)."""

    def fit_to_labels(
        self, classifier: nn.Sequential, features: Tensor, labels: Tensor, loss: Loss, seed: int
    ) -> None:
        """Fit a classifier, in place, to labels int64 (N,) of features (N, C, H, W), in a random
        order from the seed. Only where `fits_labels`."""
        raise NotImplementedError(f"a {type(self).__name__} is not fitted to labels")

    def scores(self, classifier: nn.Sequential, features: Tensor) -> Tensor:
        """The scores (B, N) of features (B, C, H, W)."""
        scores: Tensor = classifier(features)
        return scores

    def logits(self, classifier: nn.Sequential, scores: Tensor) -> Tensor:
        """The logits (B, K) of scores (B, N)."""
        return scores

    def score_bounds(self, classifier: nn.Sequential, of_logits: Tensor) -> Tensor:
        """Proven bounds (N, N), float64, l2, of the Lipschitz constants of differences of scores as
        functions of the features, given those of logits, `difference_bounds` (K, K)."""
        return of_logits

    def mixture_slopes(
        self, classifier: nn.Sequential, own: Tensor, rivals: Tensor, shares: Tensor
    ) -> tuple[Tensor, float]:
        """Returns (slopes, off): the gradients (B, P, D), float64, by features (B, D), of mixtures
        s_j - sum_i shares_i s_i of scores, and a bound of their error, l2. Mixed are rows i of
        `own` (B, Q), with `shares` (B, P, Q), float64, >= 0 and summing to 1 up to rounding, and a
        row j of `rivals` (B, P). Only for heads that are linear in the features but for the choice
        of the largest score."""
        raise NotImplementedError(f"the scores of a {type(self).__name__} are not linear")

    def start(self, classifier: nn.Sequential, features: Tensor, labels: Tensor, seed: int) -> None:
        """Set a new classifier, in place, to what its training starts with, given features
        (N, C, H, W) and labels (N,) of training images. Only where `starts_from_images`."""
        raise NotImplementedError(f"a {type(self).__name__} starts from random weights")

    def radii(
        self,
        classifier: nn.Sequential,
        features: Tensor,
        scores: Tensor,
        labels: Tensor,
        lipschitz: float,
    ) -> Tensor:
        """(B, P), with gradients: a distance, l2, in pixels of [0, 1], for each rival of the label,
        within which the rival does not reach the label's score; negative where it has. An estimate
        in real arithmetic, for features that have the Lipschitz constant `lipschitz`; scores (B, N)
        in float32. Only where `fits_labels`."""
        raise NotImplementedError(f"the radii of a {type(self).__name__} are not known in training")

    def units(self, classifier: nn.Sequential) -> dict[Tensor, float]:
        """Parameter -> its initial standard deviation, for those parameters whose steps should be
        in proportion to it, under an optimizer that otherwise takes steps of a fixed size."""
        return {}
