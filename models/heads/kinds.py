"""The kinds of heads, by the names that a network's `head` has for them."""

from torch import nn

from models.heads.flat import FlatHead
from models.heads.head import Head
from models.heads.pooled import PooledHead

HEADS: dict[str, Head] = {"batch_norm": PooledHead(), "lipschitz": FlatHead()}


def head_of(classifier: nn.Module) -> Head:
    """The kind of a classifier, which may have been changed since it was built. Raises ValueError
    if it is of none of HEADS."""
    if type(classifier) is not nn.Sequential:
        kind = type(classifier).__name__
        raise ValueError(f"the classifier must be a Sequential, but is a {kind}")
    for head in HEADS.values():
        if head.takes(classifier):
            return head
    last = [type(module).__name__ for module in (None, None, *classifier)][-2:]
    raise ValueError(
        "the classifier must end with a GlobalAveragePool or a Flatten, and a Linear, but ends "
        f"with {', '.join(last)}"
    )
