"""The settings of one trial: plain frozen dataclasses, so that training needs no other library.

Each checks itself. Types and unknown keys of a study file are checked by study.config.parser.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from study.config.rules import check, require

COEFF = "coeff"
"""Name of the setting of a model that is the target of spectral normalization."""
MAX_EPOCHS = "max_epochs"
"""Name of the setting of training that is the budget of a trial."""

DataName = Literal["digits", "mnist", "fashion_mnist", "cifar10", "image_folder"]


@dataclass(frozen=True)
class DataConfig:
    """Which images, how they are split, and how they are augmented."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    name: DataName = "digits"
    root: str = "data"
    """Folder with the files, in torchvision's layout. For image_folder: train/ and, if there is
    one, test/ below it, each with a folder a class."""
    val_fraction: float = 0.1
    """Part of the training data that is held out for validation, in (0, 1)."""
    test_fraction: float = 0.2
    """Where a data set has no test set of its own: the part that becomes it, in (0, 1)."""
    split_seed: int = 0
    """The same for all trials of a study, whatever their seeds."""
    shift: int | None = None
    """Random shifts of up to this many pixels; null takes the data set's own."""
    flip: bool | None = None
    """Random horizontal flips; null takes the data set's own."""
    size: int | None = None
    """Images are resized to this many pixels a side; those of image_folder are cropped to a square
    first. null keeps them as they are, and takes 32 for image_folder."""
    max_train: int | None = None
    """Train on this many images at most, drawn with split_seed after validation is held out;
    null takes all."""
    download: bool = False
    """Fetch a torchvision data set that is not there."""

    def __post_init__(self) -> None:
        check(
            self,
            "0 < val_fraction < 1",
            "0 < test_fraction < 1",
            "split_seed >= 0",
            "shift >= 0",
            "size >= 1",
            "max_train >= 2",
        )


@dataclass(frozen=True)
class ModelConfig:
    """The network: the arguments of models.IResNet. Defaults: the paper's, for CIFAR-10."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    blocks: tuple[int, ...] = (18, 18, 19)
    bottleneck: int = 4
    channel_multiplier: int = 4
    norm: Literal["spectral", "batch", "none"] = "spectral"
    activation: Literal["relu", "elu", "softplus"] = "relu"
    coeff: float = 0.9
    budget: Literal["even", "last"] = "even"
    """Which of a block's three layers a small coeff makes small: every one, as in the paper, or the
    last one alone, so that the bound of the block is as small."""
    n_power_iterations: int = 1
    dropout: float = 0.1

    def __post_init__(self) -> None:
        require(
            len(self.blocks) >= 1 and all(n >= 1 for n in self.blocks),
            "one or more blocks, each >= 1,",
            blocks=list(self.blocks),
        )
        check(
            self,
            "bottleneck >= 1",
            "channel_multiplier >= 1",
            "0 < coeff < 1",
            "n_power_iterations >= 1",
            "0 <= dropout < 1",
        )


@dataclass(frozen=True)
class TrainingConfig:
    """How it is trained. Defaults: the paper's recipe (appendix A)."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    max_epochs: int = 200
    batch_size: int = 128
    optimizer: Literal["sgd", "muon"] = "sgd"
    """muon: for the kernels of the invertible part, with AdamW for all other parameters."""
    lr: float = 0.1
    """The largest learning rate of the schedule. With muon that of kernels: what a step changes a
    kernel by, as the spectral norm of (c_out, c_in k k)."""
    other_lr: float = 0.02
    """muon: the largest learning rate of AdamW. For biases of normalized layers it is smaller, by
    0.1 times the product of the block's targets up to the layer."""
    momentum: float = 0.9
    nesterov: bool | None = None
    """null: with muon yes, with sgd no."""
    weight_decay: float = 5e-4
    """With muon it is AdamW's, and kernels do not decay: under normalization they have no scale."""
    orthogonalization_steps: int = 3
    """muon: steps of Newton-Schulz iteration."""
    lr_schedule: Literal["step", "one_cycle"] = "step"
    """step: multiplied by lr_decay at each of the milestones. one_cycle: a linear warm-up over
    warmup_fraction, then cosine decay to zero, for short runs."""
    lr_milestones: tuple[float, ...] = (0.3, 0.6, 0.8)
    """Fractions of max_epochs, increasing, in (0, 1)."""
    lr_decay: float = 0.2
    warmup_fraction: float = 0.2
    report_every: int = 1
    """Epochs between two reports; the last epoch always reports."""
    deterministic: bool = True
    """The same seed gives the same numbers on the same hardware, bit for bit."""
    compile: bool = False
    """Train through torch.compile, which needs a C++ compiler and half a minute or more before
    the first step."""
    precision: Literal["float32", "bf16"] = "float32"
    """Of the forward and backward pass in training. Evaluation, certificate and inverse are in
    float32 or better in either case."""

    def __post_init__(self) -> None:
        check(self, "max_epochs >= 1", "batch_size >= 2", "lr > 0", "other_lr > 0")
        check(self, "0 <= momentum < 1", "orthogonalization_steps >= 1")
        require(
            not self.nesterov or self.momentum > 0,
            "nesterov with momentum > 0",
            momentum=self.momentum,
        )
        check(self, "weight_decay >= 0")
        require(
            all(0 < m < 1 for m in self.lr_milestones)
            and list(self.lr_milestones) == sorted(set(self.lr_milestones)),
            "increasing lr_milestones in (0, 1)",
            lr_milestones=list(self.lr_milestones),
        )
        check(self, "0 < lr_decay <= 1", "0 <= warmup_fraction < 1", "report_every >= 1")


@dataclass(frozen=True)
class EvaluationConfig:
    """How the inverse is measured; the same for all trials of a study, never searched."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    n_inverse_samples: int = 256
    """Images of the validation split that are inverted at each report: the first ones."""
    inverse_rtol: float = 1e-6
    inverse_max_steps: int = 100

    def __post_init__(self) -> None:
        check(self, "n_inverse_samples >= 1", "inverse_rtol > 0", "inverse_max_steps >= 1")


@dataclass(frozen=True)
class TrialConfig:
    """All that decides a trial's numbers, but for the hardware.

    Attributes:
        objectives: names of the metrics that must be finite in every report.
        ladder: coefficients, decreasing, to which the trained network is projected.
        fine_tune_steps: training steps at each of them, after which it is projected again.
    """

    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    objectives: tuple[str, ...] = ()
    ladder: tuple[float, ...] = ()
    fine_tune_steps: int = 0
