"""The rules of IResNet's arguments."""

from collections.abc import Collection, Mapping, Sequence

from models.inputs import check_kind, described, number, whole_number
from models.layers.activations import ACTIVATIONS

NORMS = ("spectral", "batch", "none")
BUDGETS = ("even", "last")
BLOCKS = ("bottleneck", "potential")
HEADS = ("batch_norm", "lipschitz")
MOST_BLOCKS = 10_000
# A standard deviation of 1e-5: below it the rounding of float32 maps near 1 would be blown up.
CLASSIFIER_EPS = 1e-10


def is_import_path(block: object) -> bool:
    """Whether a kind of block is that of another author, `package.module:Class`."""
    return isinstance(block, str) and ":" in block


def check_arguments(
    in_shape: tuple[int, int, int],
    n_classes: int,
    blocks: Sequence[int],
    *,
    block: str = "bottleneck",
    patch: int = 0,
    dense_blocks: int = 0,
    bottleneck: int,
    dense_bottleneck: int = 0,
    channel_multiplier: int,
    norm: str,
    activation: str,
    head: str = "batch_norm",
    coeff: float,
    budget: str = "even",
    n_power_iterations: int,
    dropout: float,
    classifier_eps: float = CLASSIFIER_EPS,
) -> None:
    """Check IResNet's arguments without building one. Raises TypeError or ValueError with rule and
    value."""
    _check_kinds(
        whole={
            "n_classes": n_classes,
            "patch": patch,
            "dense_blocks": dense_blocks,
            "bottleneck": bottleneck,
            "dense_bottleneck": dense_bottleneck,
            "channel_multiplier": channel_multiplier,
            "n_power_iterations": n_power_iterations,
        },
        real={"coeff": coeff, "dropout": dropout, "classifier_eps": classifier_eps},
        text={
            "block": block,
            "norm": norm,
            "activation": activation,
            "head": head,
            "budget": budget,
        },
        sequences={"in_shape": in_shape, "blocks": blocks},
    )
    are_counts = len(blocks) + dense_blocks >= 1 and all(n >= 1 for n in blocks)
    is_potential = block == "potential" or dense_blocks > 0
    rules: list[tuple[bool, str, object]] = [
        (n_classes >= 1, "n_classes >= 1 must hold", n_classes),
        (patch >= 0, "patch >= 0 must hold", patch),
        (patch == 0 or block == "potential", "patch must be 0 without potential blocks", patch),
        (dense_blocks >= 0, "dense_blocks >= 0 must hold", dense_blocks),
        (
            are_counts,
            "blocks must be one or more counts >= 1, or none with dense_blocks",
            list(blocks),
        ),
        (
            sum(blocks) + dense_blocks <= MOST_BLOCKS,
            f"there must be at most {MOST_BLOCKS} blocks together",
            sum(blocks) + dense_blocks,
        ),
        (
            block in BLOCKS or is_import_path(block),
            f"block must be one of {', '.join(BLOCKS)}, or package.module:Class",
            block,
        ),
        (head in HEADS, f"head must be one of {', '.join(HEADS)}", head),
        (
            norm != "batch" or not is_potential,
            "norm must be spectral or none with potential blocks",
            norm,
        ),
        (bottleneck >= 1, "bottleneck >= 1 must hold", bottleneck),
        (dense_bottleneck >= 0, "dense_bottleneck >= 0 must hold", dense_bottleneck),
        (channel_multiplier >= 1, "channel_multiplier >= 1 must hold", channel_multiplier),
        (norm in NORMS, f"norm must be one of {', '.join(NORMS)}", norm),
        (
            activation in ACTIVATIONS,
            f"activation must be one of {', '.join(ACTIVATIONS)}",
            activation,
        ),
        (0 < coeff < 2, "0 < coeff < 2 must hold", coeff),
        (budget in BUDGETS, f"budget must be one of {', '.join(BUDGETS)}", budget),
        (n_power_iterations >= 1, "n_power_iterations >= 1 must hold", n_power_iterations),
        (0 <= dropout < 1, "0 <= dropout < 1 must hold", dropout),
        (0 < classifier_eps < 1, "0 < classifier_eps < 1 must hold", classifier_eps),
    ]
    for holds, rule, value in rules:
        if not holds:
            raise ValueError(f"{rule}, but got {value}")
    if len(in_shape) != 3 or not all(type(size) is int and size >= 1 for size in in_shape):
        raise ValueError(f"in_shape must be three whole numbers >= 1, but got {in_shape}")
    channels, height, width = in_shape
    factor = 2 ** max(len(blocks) - 1, 0)
    if patch > 0 and blocks and (height % (patch * factor) or width % (patch * factor)):
        raise ValueError(
            f"patches of {patch * factor} pixels, those of the last stage, must divide the image, "
            f"but got {height} x {width}"
        )
    if height % factor or width % factor:
        raise ValueError(
            f"the {len(blocks) - 1} squeezes between {len(blocks)} stages must divide the "
            f"image: height and width must be multiples of {factor}, but got {height} x {width}"
        )
    if block == "bottleneck" and blocks and (channels * channel_multiplier) % bottleneck:
        raise ValueError(
            "bottleneck must divide the channels of the first stage, but got "
            f"bottleneck={bottleneck} and {channels} * channel_multiplier="
            f"{channels * channel_multiplier} channels"
        )


def _check_kinds(
    whole: Mapping[str, object],
    real: Mapping[str, object],
    text: Mapping[str, object],
    sequences: Mapping[str, object],
) -> None:
    """Refuse arguments, by name, that are not whole numbers, real numbers, text, or sequences of
    whole numbers."""
    for name, value in whole.items():
        whole_number(name, value)
    for name, value in real.items():
        number(name, value)
    for name, value in text.items():
        check_kind(name, value, str)
    for name, value in sequences.items():
        if isinstance(value, str) or not isinstance(value, Collection):
            raise TypeError(f"{name} must be whole numbers, but got {described(value)}")
        for index, entry in enumerate(value):
            whole_number(f"{name}[{index}]", entry)
