"""The settings of a network, each once: its name, type, default, rule and meaning. Needs no torch.

The rule of one setting stands at its field; rules across settings are checked whenever a
NetworkSettings or NetworkSpec is constructed.
"""

import math
import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    TypeGuard,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from models.arguments import check_kind, described, number, whole_number


@dataclass(frozen=True)
class KindOfBlock:
    """What the checks of settings need to know of a kind of block x + g(x).

    Attributes:
        power: the target of Lip(g), met if all layers meet theirs, is coeff to this power.
        patches: whether it can act on patches (the setting patch).
        batch_norm: whether it can stand in a network with norm="batch".
        divides: whether the setting bottleneck must divide its channels.
    """

    power: int = 1
    patches: bool = False
    batch_norm: bool = False
    divides: bool = False


BLOCKS = {
    "bottleneck": KindOfBlock(power=3, batch_norm=True, divides=True),
    "potential": KindOfBlock(patches=True),
}
"""The kinds of blocks of this package."""
_OF_OTHERS = KindOfBlock(batch_norm=True)
SLOPE_KNOWN = {"batch_norm": False, "lipschitz": True, "rows": True}
"""Kind of head -> whether its Lipschitz constant is known during training, which training on proven
radii and fitting to labels require."""
SHAPE_SETTINGS = ("block", "blocks", "patch", "bottleneck", "channel_multiplier")
"""The settings that decide whether a network fits its images."""
MOST_BLOCKS = 1000
"""The most blocks of all stages together, and the most dense blocks; a larger number is a typo."""
_MOST_FEATURES, _MOST_WEIGHTS = 10_000_000, 1_000_000_000
# Distances between all of them are held, in float64.
_MOST_ROWS = 10_000

if TYPE_CHECKING:
    _Head = str
else:
    _Head = Literal[tuple(SLOPE_KNOWN)]

_Value = TypeVar("_Value")


class SettingError(ValueError):
    """A setting breaks a rule. Attributes: the rule, the setting's name and its value."""

    def __init__(self, rule: str, name: str, value: object) -> None:
        super().__init__(f"{rule}, but got {value}")
        self.rule, self.name, self.value = rule, name, value


def setting(default: _Value, **rule: float) -> _Value:
    """A dataclass field whose value must be above gt, at least ge, below lt and at most le."""
    return field(default=default, metadata=rule)


@dataclass(frozen=True)
class Span:
    """The range of a condition of a `Family`, low < high; on a logarithmic scale where log is true,
    which takes low > 0. Raises SettingError otherwise."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise SettingError(f"must be below high, {self.high:g}", "low", self.low)
        if self.log and not self.low > 0:
            raise SettingError("must be above 0 where log is true", "low", self.low)

    def between(self, share: Any) -> Any:
        """What lies at this share, in [0, 1], of the way from low to high, for a float or for each
        entry of a tensor."""
        if self.log:
            return self.low * (self.high / self.low) ** share
        return self.low + (self.high - self.low) * share

    def value(self, share: float) -> float:
        """The same to three digits, in the range."""
        return min(max(float(f"{self.between(share):.3g}"), self.low), self.high)

    @property
    def middle(self) -> float:
        return self.value(0.5)


def is_import_path(name: object) -> TypeGuard[str]:
    """Whether a setting names a class of the user's own by its import path, `package.module:Class`.
    No name of this project's own contains a colon."""
    return isinstance(name, str) and ":" in name


@dataclass(frozen=True)
class NetworkSettings:
    """The settings of a network, apart from its images and classes. The defaults are the paper's,
    for CIFAR-10.

    Raises:
        TypeError: if a setting is of the wrong type.
        SettingError: a ValueError, if a setting is out of range or does not fit the others.
    """

    blocks: tuple[int, ...] = (18, 18, 19)
    """Residual blocks in each stage, with squeezes between. With none, and no dense_blocks, the
    features are the image."""
    block: str = "bottleneck"
    """bottleneck: the paper's block; potential: a block that moves no two points apart; or the
    import path of a subclass of models.Block, package.module:Class."""
    patch: int = setting(0, ge=0)
    """For potential blocks: 0 for 3 x 3 convolutions; otherwise the edge in pixels of the patches
    on which the blocks of the first stage act, each patch by itself, with the same weights. Every
    second block acts on patches that are moved by half an edge. Each further stage doubles the
    edge."""
    dense_blocks: int = setting(0, ge=0, le=MOST_BLOCKS)
    """Potential blocks after the stages, on maps of one pixel with all features as channels."""
    head: _Head = "batch_norm"
    """batch_norm: BatchNorm, activation, mean over pixels, linear, as in the paper; lipschitz: one
    linear layer on all features, whose Lipschitz constant is known during training; rows: the same
    with several rows a class, the largest of which is its logit."""
    rows: int = setting(10, ge=1, le=_MOST_ROWS)
    """For head: rows, the rows of each class; in a study also those of its controls."""
    bottleneck: int = setting(4, ge=1, le=1000)
    """The ratio of a block's channels to its inner channels."""
    dense_bottleneck: int = setting(0, ge=0, le=1000)
    """The same ratio for dense blocks; 0 stands for the value of bottleneck."""
    channel_multiplier: int = setting(4, ge=1, le=1000)
    """Channels of zeros are appended to the input until it has this many times its channels."""
    norm: Literal["spectral", "batch", "none"] = "spectral"
    """spectral: the invertible network; or the paper's baselines, batch (BatchNorm before every
    activation) and none (the plain ResNet)."""
    activation: Literal["relu", "elu", "softplus"] = "relu"
    """Each has the Lipschitz constant 1."""
    coeff: float = setting(0.9, gt=0, lt=2)
    """Target c of every layer's spectral norm, l2 to l2; in potential blocks, target of Lip(g).
    Below 1 blocks contract; above, `certify` may still prove that bottlenecks are invertible."""
    budget: Literal["even", "last"] = "even"
    """How a bottleneck block distributes its target c**3 over its layers. even: every layer has the
    target c, as in the paper; last: a small c makes the target of the last layer alone small."""
    n_power_iterations: int = setting(1, ge=1, le=1000)
    """Steps of power iteration for every layer per optimizer step; for potential blocks on patches
    and dense blocks, steps towards orthonormal rows."""
    dropout: float = setting(0.1, ge=0, lt=1)
    """Probability that an entry is zeroed, in each block."""

    def __post_init__(self) -> None:
        _check_fields(self)
        if self.block not in BLOCKS and not is_import_path(self.block):
            rule = f"block must be one of {', '.join(BLOCKS)}, or package.module:Class"
            raise SettingError(rule, "block", self.block)
        if not all(n >= 1 for n in self.blocks):
            raise SettingError("blocks must be counts >= 1", "blocks", list(self.blocks))
        if sum(self.blocks) > MOST_BLOCKS:
            rule = f"blocks must be at most {MOST_BLOCKS} blocks together"
            raise SettingError(rule, "blocks", list(self.blocks))
        if self.patch > 0 and not self._kind.patches:
            able = " or ".join(block for block, kind in BLOCKS.items() if kind.patches)
            raise SettingError(f"patch must be 0 without {able} blocks", "patch", self.patch)
        for block in (self.block, *["potential"] * (self.dense_blocks > 0)):
            if self.norm == "batch" and not BLOCKS.get(block, _OF_OTHERS).batch_norm:
                rule = f"norm must be spectral or none with {block} blocks"
                raise SettingError(rule, "norm", self.norm)

    @property
    def _kind(self) -> KindOfBlock:
        return BLOCKS.get(self.block, _OF_OTHERS)

    @property
    def kernel_size(self) -> int:
        """The kernel size of the convolutions of potential blocks."""
        return 3 if self.patch == 0 else 1

    @property
    def is_reversible(self) -> bool:
        """Whether a reversible training inverts every block."""
        on_patches = not self.blocks or (self._kind.patches and self.kernel_size == 1)
        return on_patches and self.norm == "spectral"

    @property
    def shares_weights(self) -> bool:
        """Whether networks that differ in coeff can be members of one family."""
        bottlenecks = self.block == "bottleneck" and self.budget == "even" and not self.dense_blocks
        return self.is_reversible or (bottlenecks and self.norm == "spectral")

    def inner_channels(self, channels: int, *, dense: bool = False) -> int:
        """The inner channels of a block, or of a dense block, that has so many channels."""
        return max(1, channels // ((self.dense_bottleneck if dense else 0) or self.bottleneck))

    @property
    def target(self) -> float:
        """The target of Lip(g) in each block, which it meets if its layers meet theirs: coeff, or
        coeff**3 for the three layers of bottlenecks without dense_blocks. Without spectral
        normalization there is no target; 1 then stands for "any rung is smaller"."""
        if self.norm != "spectral":
            return 1.0
        return self.coeff**self._kind.power if self.dense_blocks == 0 else self.coeff


@dataclass(frozen=True, kw_only=True)
class NetworkSpec(NetworkSettings):
    """Everything that determines a network, apart from its weights.

    Raises:
        TypeError, SettingError: as NetworkSettings; also if the images do not fit the stages.
    """

    in_shape: tuple[int, int, int]
    """(C, H, W) of an image."""
    n_classes: int = field(metadata={"ge": 1})
    classifier_eps: float = setting(1e-10, gt=0, lt=1)
    """Added to a variance by the classifier's BatchNorm. The appended channels, which the blocks
    alone fill, have standard deviations as small as the blocks' bounds: with torch's default eps of
    1e-5 the classifier would lose those below 0.003. A smaller eps than 1e-10 would blow up the
    rounding of float32 maps near 1, which has a standard deviation below 1e-5."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.in_shape) != 3 or not all(size >= 1 for size in self.in_shape):
            rule = "in_shape must be three whole numbers >= 1"
            raise SettingError(rule, "in_shape", self.in_shape)
        channels, height, width = self.in_shape
        factor = 2 ** max(len(self.blocks) - 1, 0)
        edge = self.patch * factor
        if edge > 0 and self.blocks and (height % edge or width % edge):
            rule = f"patches of {edge} pixels, those of the last stage, must divide the image"
            raise SettingError(rule, "patch", f"{height} x {width}")
        if height % factor or width % factor:
            raise SettingError(
                f"the {len(self.blocks) - 1} squeezes between {len(self.blocks)} stages must "
                f"divide the image: height and width must be multiples of {factor}",
                "blocks",
                f"{height} x {width}",
            )
        padded = channels * self.channel_multiplier
        if self._kind.divides and self.blocks and padded % self.bottleneck:
            raise SettingError(
                "bottleneck must divide the channels of the first stage",
                "bottleneck",
                f"bottleneck={self.bottleneck} and {channels} * channel_multiplier="
                f"{padded} channels",
            )

    def check_size(self) -> None:
        """Raise SettingError if the features of an image, or the weights of dense blocks, are so
        many that building the network would fill the memory."""
        n_features = math.prod(self.in_shape) * self.channel_multiplier
        if n_features > _MOST_FEATURES:
            rule = f"features of an image must be at most {_MOST_FEATURES} numbers"
            raise SettingError(rule, "channel_multiplier", n_features)
        inner = self.inner_channels(n_features, dense=True)
        n_weights = self.dense_blocks * n_features * inner
        if n_weights > _MOST_WEIGHTS:
            rule = f"dense blocks must have at most {_MOST_WEIGHTS} weights together"
            raise SettingError(rule, "dense_blocks", n_weights)
        if self.head == "rows" and self.rows * self.n_classes > _MOST_ROWS:
            rule = f"rows of all classes must be at most {_MOST_ROWS} together"
            raise SettingError(rule, "rows", self.rows * self.n_classes)


def _check_fields(spec: NetworkSettings) -> None:
    """Check the type and the rule of each field. Numbers of numpy and torch are replaced by
    Python's own, since `certify` accepts no others."""
    # mypy mistakes the __hash__ of a dataclass's instances for that of the class.
    hints = _hints(type(spec))  # type: ignore[arg-type]
    for one in fields(spec):
        name, value = one.name, getattr(spec, one.name)
        given = _checked(name, value, hints[name])
        object.__setattr__(spec, name, given)
        _check_range(name, given, one.metadata)


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Field name -> type. Cached, since a study constructs a description for each sample."""
    return get_type_hints(kind)


def _check_range(name: str, value: Any, rule: Mapping[str, float]) -> None:
    if all(getattr(operator, kind)(value, bound) for kind, bound in rule.items()):
        return
    low, high = rule.get("ge", rule.get("gt")), rule.get("le", rule.get("lt"))
    if high is None:
        rule_in_words = f"{name} {'>=' if 'ge' in rule else '>'} {low:g} must hold"
    else:
        left, right = "<=" if "ge" in rule else "<", "<=" if "le" in rule else "<"
        rule_in_words = f"{low:g} {left} {name} {right} {high:g} must hold"
    raise SettingError(rule_in_words, name, value)


def _checked(name: str, value: object, hint: Any) -> object:
    """The value as Python's own type. Raises TypeError if it is not of the type `hint`,
    SettingError if it is none of the values that a Literal allows."""
    if hint is int:
        return whole_number(name, value)
    if hint is float:
        return number(name, value)
    if get_origin(hint) is tuple:
        if isinstance(value, str) or not isinstance(value, Collection):
            raise TypeError(f"{name} must be whole numbers, but got {described(value)}")
        return tuple(whole_number(f"{name}[{index}]", entry) for index, entry in enumerate(value))
    check_kind(name, value, str)
    if get_origin(hint) is Literal and value not in get_args(hint):
        raise SettingError(f"{name} must be one of {', '.join(get_args(hint))}", name, value)
    return value
