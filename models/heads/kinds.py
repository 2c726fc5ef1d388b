"""The kinds of heads, by their names in the setting `head`."""

from collections.abc import Iterable

from torch import nn

from models.heads.flat import FlatHead
from models.heads.head import Head
from models.heads.pooled import PooledHead
from models.heads.rows import RowsHead

HEADS: dict[str, Head] = {
    "batch_norm": PooledHead(),
    "lipschitz": FlatHead(),
    "rows": RowsHead(),
}


def head_of(classifier: nn.Module) -> Head:
    """The kind of a classifier, recognized by its last modules, since it may have been changed
    after it was built. Raises ValueError if it is none of HEADS."""
    if type(classifier) is not nn.Sequential:
        kind = type(classifier).__name__
        raise ValueError(f"the classifier must be a Sequential, but is a {kind}")
    for head in HEADS.values():
        if tuple(map(type, classifier))[-len(head.ending) :] == head.ending:
            return head
    known = " or ".join(_names(head.ending) for head in HEADS.values())
    last = _names([type(module) for module in classifier][-2:])
    raise ValueError(f"the classifier must end with {known}, but ends with {last or 'nothing'}")


def _names(classes: Iterable[type]) -> str:
    return ", ".join(kind.__name__ for kind in classes)
