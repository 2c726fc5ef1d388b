"""The kinds of blocks, by the names that a network's `block` has for them."""

from models.blocks.bottleneck import ResidualBlock
from models.blocks.invertible_block import InvertibleBlock
from models.blocks.own import Block, block_class, path_of_class
from models.blocks.potential import PotentialBlock

KINDS: dict[str, type[InvertibleBlock]] = {
    "bottleneck": ResidualBlock,
    "potential": PotentialBlock,
}
"""The kinds of this package."""


def kind_of(block: str) -> type[InvertibleBlock]:
    """The class of the blocks of a network, by its name or import path. Raises ValueError if there
    is none."""
    return KINDS[block] if block in KINDS else block_class(block)


def is_known(module: object) -> bool:
    """Whether a module is a block of a class of KINDS itself, whose bounds this package proves, or
    one of another author. A subclass of the former may compute something else."""
    return type(module) in KINDS.values() or isinstance(module, Block)


def author_of(block: InvertibleBlock) -> str | None:
    """The import path of the class of a block by another author; None for a block of this package.
    Nothing that a block says of itself decides it. Raises ValueError if the path would be one of
    this package."""
    return None if type(block) in KINDS.values() else path_of_class(type(block))
