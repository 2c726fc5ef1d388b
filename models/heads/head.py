"""The interface of every kind of head: it builds a classifier of features, proves bounds of it and
of its rounding, and fits it to given features."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from models.isometries import Shape
from models.norms.rounding import Running
from models.spec import NetworkSpec

Loss = Callable[[Callable[[], Tensor], Tensor, Tensor], Tensor]
"""A function (slopes, logits, labels) -> the mean of a loss over images. slopes is a function that
returns a head's `slopes` (K, K); logits are (B, K) in float32, labels (B,)."""


class Head(ABC):
    """A kind of classifier, without a state of its own. A classifier is an nn.Sequential from
    features (B, C, H, W) to logits (B, K)."""

    ending: tuple[type[nn.Module], ...]
    """The classes of a classifier's last modules, by which its kind is recognized."""

    @property
    def fits_labels(self) -> bool:
        """Whether a classifier of this kind can be fitted to labels by the loss of its training."""
        return type(self).fit_to_labels is not Head.fit_to_labels

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
        """Bounds (B, K), float64, of the rounding of each logit, for all features in a ball."""

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

    def slopes(self, classifier: nn.Sequential) -> Tensor:
        """(K, K), with gradients: estimates of the Lipschitz constants of z_i - z_j as functions of
        the features. Only where `fits_labels`."""
        raise NotImplementedError(
            f"the slopes of a {type(self).__name__} are not known in training"
        )

    def units(self, classifier: nn.Sequential) -> dict[Tensor, float]:
        """Parameter -> its initial standard deviation, for those parameters whose steps should be
        in proportion to it, under an optimizer that otherwise takes steps of a fixed size."""
        return {}
