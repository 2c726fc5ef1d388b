"""The kinds of blocks, by their names in the setting `block`."""

from models.blocks.bottleneck import ResidualBlock
from models.blocks.invertible_block import InvertibleBlock
from models.blocks.own import Block, block_class, path_of_class
from models.blocks.potential import PotentialBlock

KINDS: dict[str, type[InvertibleBlock]] = {
    "bottleneck": ResidualBlock,
    "potential": PotentialBlock,
}
"""Name -> class of the blocks of this package."""


def kind_of(block: str) -> type[InvertibleBlock]:
    """The class of blocks by its name in KINDS or import path. Raises ValueError if there is
    none."""
    return KINDS[block] if block in KINDS else block_class(block)


def is_known(module: object) -> bool:
    """Whether bounds of a module are known: its class is one of KINDS, whose bounds this package
    proves, or derives from `Block`. A subclass of a class in KINDS may compute something else."""
    return type(module) in KINDS.values() or isinstance(module, Block)


def author_of(block: InvertibleBlock) -> str | None:
    """The import path of the class of a block by another author, None for a block of this package;
    the class alone decides. Raises ValueError if the path would be in this package."""
    return None if type(block) in KINDS.values() else path_of_class(type(block))
