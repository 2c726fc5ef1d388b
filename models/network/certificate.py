"""What is proven of a network: bounds of its layers, of its blocks, and what follows from them."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

from torch import nn

from models.blocks.invertible_block import BlockBound
from models.blocks.kinds import author_of
from models.floats.raised import ROOM, raised_product
from models.network.forward_pass import forward_sha256, refuse_more, refuse_other_network
from models.norms.layer_bounds import LayerBound

Effort = Literal["fast", "full"]
"""How long `certify` looks for small bounds."""


@dataclass(frozen=True)
class Certificate:
    """What is proven of a network, in eval mode unless stated otherwise.

    Attributes:
        lipschitz_upper_bound: the largest bound of Lip(g) over the residual blocks. Below 1 the
            network is invertible (paper, Theorem 1); see `invertible` for others.
        train_lipschitz_upper_bound: the same in training mode, for every dropout mask.
        in_shape: (C, H, W) of the images for which the certificate holds.
        blocks: a bound for each residual block, in order.
        layers: bounds for each layer that is no 1-Lipschitz activation, in order.
        logit_difference_bounds: K rows of K bounds, l2, of the Lipschitz constants of the
            differences of logits as functions of the features; empty if none are known.
        unknown_classifier: why no logit_difference_bounds are known; None if they are.
        sha256: `forward_sha256` of the body, the invertible part that this is proven of.
        classifier_sha256: `forward_sha256` of the classifier.
        effort: the effort with which `certify` looked for small bounds.
    """

    lipschitz_upper_bound: float
    train_lipschitz_upper_bound: float
    in_shape: tuple[int, int, int]
    blocks: tuple[BlockBound, ...]
    layers: tuple[LayerBound, ...]
    logit_difference_bounds: tuple[tuple[float, ...], ...]
    unknown_classifier: str | None
    sha256: str
    classifier_sha256: str
    effort: Effort

    @property
    def contraction(self) -> bool:
        """Whether every g is proven to contract. Then fixed-point iteration inverts the network."""
        return self.lipschitz_upper_bound < 1

    @property
    def invertible(self) -> bool:
        """Whether every residual block is proven to be invertible, whether g contracts or not."""
        return self.inverse_lipschitz_upper_bound < math.inf

    @property
    def others(self) -> tuple[str, ...]:
        """The import paths of the classes of blocks whose bounds other authors prove, each once."""
        return tuple(sorted({b.proven_by for b in self.blocks if b.proven_by is not None}))

    @property
    def block_bounds(self) -> tuple[float, ...]:
        """The bound of Lip(g) of each block, in order."""
        return tuple(block.upper_bound for block in self.blocks)

    @property
    def features_lipschitz_upper_bound(self) -> float:
        """The bound of the Lipschitz constant of `features`: the product of the blocks' bounds."""
        return raised_product(block.map_lipschitz_upper_bound for block in self.blocks)

    @property
    def inverse_lipschitz_upper_bound(self) -> float:
        """The bound of the Lipschitz constant of the inverse of `features`: the product of the
        bounds of the blocks' inverses; infinite without proof."""
        return raised_product(block.inverse_lipschitz_upper_bound for block in self.blocks)

    @property
    def logit_lipschitz_upper_bound(self) -> float:
        """The largest bound, over pairs of classes, of the Lipschitz constant of z_i - z_j as a
        function of the network's input; infinite for a classifier without known bounds."""
        bounds = [bound for row in self.logit_difference_bounds for bound in row]
        return raised_product([max(bounds, default=math.inf), self.features_lipschitz_upper_bound])

    def check(self, model: nn.Module, network: type[nn.Module]) -> None:
        """Raise ValueError unless this certificate is of the features of a model as it is now: the
        model runs as the class `network` does, its images have `in_shape`, and its body has the
        modules, settings and weights that were certified, and nothing else that runs."""
        refuse_other_network(model, network)
        if model.in_shape != self.in_shape:
            raise ValueError(
                f"the certificate must be that of a network for images of shape {model.in_shape}, "
                f"but is of one for {self.in_shape}: certify again"
            )
        _check_digest("network", model.get_submodule("body"), self.sha256)
        authors = [author_of(block) for block in cast(Any, model).blocks]
        if authors != [block.proven_by for block in self.blocks]:
            raise ValueError(
                "the certificate must have a proof by the author of each block, but these are "
                f"blocks of {authors}: certify again"
            )

    def check_classifier(self, model: nn.Module) -> None:
        """Raise ValueError unless this certificate is of the classifier of a model as it is now."""
        classifier = model.get_submodule("classifier")
        refuse_more(classifier, "classifier", model.training)
        _check_digest("classifier", classifier, self.classifier_sha256)

    def to_dict(self) -> dict[str, object]:
        """A dict of str, float, bool, lists and dicts, for JSON."""
        return {
            "lipschitz_upper_bound": self.lipschitz_upper_bound,
            "train_lipschitz_upper_bound": self.train_lipschitz_upper_bound,
            "features_lipschitz_upper_bound": self.features_lipschitz_upper_bound,
            "inverse_lipschitz_upper_bound": self.inverse_lipschitz_upper_bound,
            "logit_lipschitz_upper_bound": self.logit_lipschitz_upper_bound,
            "logit_difference_bounds": [list(row) for row in self.logit_difference_bounds],
            "unknown_classifier": self.unknown_classifier,
            "contraction": self.contraction,
            "invertible": self.invertible,
            "mode": "eval",
            "norm": "l2",
            "room": ROOM,
            "in_shape": list(self.in_shape),
            "sha256": self.sha256,
            "classifier_sha256": self.classifier_sha256,
            "effort": self.effort,
            "blocks": [asdict(block) for block in self.blocks],
            "layers": [asdict(layer) for layer in self.layers],
        }


def _check_digest(what: str, module: nn.Module, certified: str) -> None:
    """Raise ValueError unless the digest of a module as it is now is the certified one."""
    now = forward_sha256(module)
    if now != certified:
        raise ValueError(
            f"the certificate must be that of the {what} as it is, with the digest {now[:8]}, but "
            f"is of one with {certified[:8]}: certify again"
        )
