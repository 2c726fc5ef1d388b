"""The settings of one trial: plain frozen dataclasses, so that training needs no other library.

A rule on one setting stands at its field; study.config.parser checks it, with types and unknown
keys, when a study file is read. Rules across fields are checked whenever a section is made.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from models import SLOPE_KNOWN, NetworkSettings, SettingError, is_import_path, setting
from study.config.imports import check_path
from study.errors import ConfigError, require, unknown

COEFF = "coeff"
"""Model setting: the target of spectral normalization."""
MAX_EPOCHS = "max_epochs"
"""Training setting: the budget of a trial."""

IMAGE_FOLDER = "image_folder"
"""The data set of the images below a folder."""
_FOLDER_SIZE = 32
RADII = {
    "digits": 0.5,
    "mnist": 1.58,
    "fashion_mnist": 1.58,
    "cifar10": 36 / 255,
    IMAGE_FOLDER: 36 / 255,
}
"""The radius at which certified accuracy is usually given for each data set, or for those like it,
l2, in pixels of [0, 1]. Data of the user's own has the radius of cifar10."""

LARGEST = 1_000_000
"""The largest count that costs nothing by itself; a larger number is a slip of the pen."""

SPLIT = ("name", "val_fraction", "test_fraction", "split_seed", "size")
"""Settings of data that decide which images are for validation, and what they look like.
Augmentation and the number of training images are part of what studies compare."""

MEASURED, OBJECTIVES, GOALS = "measured", "objectives", "goals"
"""Keys of what stored networks state of their figures; see `TrialConfig.meaning`."""

Precision = Literal["float32", "float64"]


def default_radius(data_name: str) -> float:
    """The radius at which certified accuracy is given if a study asks for none, l2, in pixels of
    [0, 1]."""
    return RADII.get(data_name, RADII["cifar10"])


def is_address(root: str) -> bool:
    """Whether a root of data is an address of fsspec, such as s3://bucket/images, and no folder."""
    return "://" in root


@dataclass(frozen=True)
class DataConfig:
    """Which images, how they are split, and how they are augmented."""

    name: str = "digits"
    """digits, mnist, fashion_mnist, cifar10, image_folder, or the import path of a function of the
    user's own: root -> study.Dataset, or a map-style data set of torchvision's kind."""
    root: str = "data"
    """Folder with the files, in torchvision's layout; for image_folder with train/ and perhaps
    test/, which have a folder for each class. An address that fsspec reads, such as
    s3://bucket/images, is fetched once a node."""
    val_fraction: float = setting(0.1, gt=0, lt=1)
    """Part of the training data that is held out for validation, in (0, 1)."""
    test_fraction: float = setting(0.2, gt=0, lt=1)
    """Part that becomes the test set of a data set without its own, in (0, 1)."""
    split_seed: int = setting(0, ge=0, lt=2**63)
    """The same for all trials of a study, whatever their seeds."""
    shift: int | None = setting(None, ge=0, le=1000)
    """Random shifts of up to this many pixels; null takes the data set's own."""
    flip: bool | None = None
    """Random horizontal flips; null takes the data set's own."""
    size: int | None = setting(None, ge=0, le=10_000)
    """Pixels a side after resizing; image_folder crops images to a square first. 0, for which null
    stands in a study file, keeps images as they are, all of one size. None, which a study file has
    without this key, takes 32 for image_folder, and 0 for other data."""
    max_train: int | None = setting(None, ge=2, le=LARGEST)
    """Most training images, drawn with split_seed after validation is held out; null takes all."""
    download: bool = False
    """Fetch a torchvision data set that is not there."""

    def __post_init__(self) -> None:
        if is_import_path(self.name):
            check_path(self.name, "name")
        elif self.name not in RADII:
            raise ConfigError(unknown(self.name, tuple(RADII), "data set"), "name")
        require("\0" not in self.root, "must be a path, or an address", "root", self.root)
        if self.name == IMAGE_FOLDER and self.size is None:
            object.__setattr__(self, "size", _FOLDER_SIZE)


@dataclass(frozen=True)
class ModelConfig(NetworkSettings):
    """The network."""

    def __post_init__(self) -> None:
        try:
            super().__post_init__()
        except SettingError as error:
            rule = error.rule.removeprefix(f"{error.name} ")
            raise ConfigError(rule, error.name, error.value) from None
        if is_import_path(self.block):
            check_path(self.block, "block")


@dataclass(frozen=True)
class TrainingConfig:
    """How it is trained. Defaults: the paper's recipe (appendix A)."""

    max_epochs: int = setting(200, ge=1, le=LARGEST)
    batch_size: int = setting(128, ge=2, le=LARGEST)
    optimizer: Literal["sgd", "muon"] = "sgd"
    """muon: for the kernels of the invertible part, with AdamW for all other parameters."""
    lr: float = setting(0.1, gt=0)
    """The peak learning rate. With muon it is for kernels: the spectral norm by which a step
    changes a kernel, as a matrix (c_out, c_in k k)."""
    other_lr: float = setting(0.02, gt=0)
    """muon: the peak learning rate of AdamW. For biases of normalized layers it is multiplied by
    0.1 and by the product of the block's targets up to the layer."""
    momentum: float = setting(0.9, ge=0, lt=1)
    nesterov: bool | None = None
    """null: with muon yes, with sgd no."""
    weight_decay: float = setting(5e-4, ge=0)
    """With muon, AdamW's only: under normalization kernels have no scale, and do not decay."""
    orthogonalization_steps: int = setting(3, ge=1, le=1000)
    """muon: steps of Newton-Schulz iteration."""
    lr_schedule: Literal["step", "one_cycle"] = "step"
    """step: multiplied by lr_decay at each milestone. one_cycle: a linear warm-up over
    warmup_fraction, then cosine decay to zero, for short runs."""
    lr_milestones: tuple[float, ...] = (0.3, 0.6, 0.8)
    """Fractions of max_epochs, increasing, in (0, 1)."""
    lr_decay: float = setting(0.2, gt=0, le=1)
    warmup_fraction: float = setting(0.2, ge=0, lt=1)
    report_every: int = setting(1, ge=1, le=LARGEST)
    """Epochs between two reports; the last epoch always reports."""
    loss: Literal["cross_entropy", "margin"] = "cross_entropy"
    """margin: by how much the proven radius of an image falls short of `margin`, softly; needs
    head: lipschitz and norm: spectral."""
    margin: float | None = setting(None, gt=0)
    """For loss: margin; l2, in pixels of [0, 1]. A small margin favors accuracy, a large one radii.
    null takes the radius of certified_accuracy."""
    temperature: float = setting(0.1, gt=0)
    """For loss: margin; in pixels of [0, 1]: how far from the margin radii still count."""
    deterministic: bool = True
    """The same seed gives the same numbers on the same hardware, bit for bit."""
    compile: bool = False
    """Use torch.compile for training; needs a C++ compiler, and half a minute or more to start."""
    precision: Literal["float32", "bf16"] = "float32"
    """The precision of the training passes and of Muon's matrix products; evaluation, certificate
    and inverse use float32 or better."""

    def __post_init__(self) -> None:
        can_be = not self.nesterov or self.momentum > 0
        require(can_be, "must not be true where momentum is 0", "nesterov", self.nesterov)
        milestones = list(self.lr_milestones)
        is_increasing = milestones == sorted({m for m in milestones if 0 < m < 1})
        require(is_increasing, "must be increasing numbers in (0, 1)", "lr_milestones", milestones)


@dataclass(frozen=True)
class EvaluationConfig:
    """How networks are measured; the same for all trials of a study, never searched."""

    radius: float | None = setting(None, gt=0)
    """The radius of certified_accuracy: l2, in pixels of [0, 1]. null takes the data set's own."""

    precision: Precision | None = None
    """In which networks answer, where answers are counted, certified or attacked: proven radii have
    its rounding in them. null: float64 with head: lipschitz, else float32. float64 takes two to
    five times as long on a CPU. The inverse is measured in float32."""
    n_inverse_samples: int = setting(256, ge=1, le=LARGEST)
    """Images of the validation split that are inverted at each report: the first ones."""
    inverse_rtol: float = setting(1e-6, gt=0)
    inverse_max_steps: int = setting(100, ge=1, le=10_000)

    def precision_with(self, head: str) -> Precision:
        """The precision in which networks with this head answer. float32's rounding takes most of
        the radii that a lipschitz head proves, and hardly any of the far smaller ones behind a
        batch_norm head."""
        return self.precision or ("float64" if SLOPE_KNOWN[head] else "float32")


@dataclass(frozen=True)
class OwnMetric:
    """A metric of the user's own: a number that a function gives for a network."""

    of: str
    """Import path of the function: (network, images, labels, certificate) -> number. See
    study/README.md."""
    direction: Literal["maximize", "minimize"]
    """Which way is better."""
    worst: float | None = None
    """No useful network is worse: its default coordinate of the reference point."""

    def __post_init__(self) -> None:
        check_path(self.of, "of")


@dataclass(frozen=True)
class TrialConfig:
    """All that decides a trial's numbers, but for the hardware.

    Attributes:
        objectives: names of the metrics that must be finite in every report.
        goals: what its study seeks: metric -> "minimize", "< 1", or both with a comma between.
        ladder: bounds of Lip(g), decreasing, to which the trained network is projected.
        fine_tune_steps: training steps at each of them, before it is projected again.
        control: whether the classifier is fitted alone, too.
        metrics: of the user's own: name -> import path.
    """

    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    objectives: tuple[str, ...] = ()
    goals: tuple[tuple[str, str], ...] = ()
    ladder: tuple[float, ...] = ()
    fine_tune_steps: int = 0
    control: bool = False
    metrics: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        model, loss = self.model, self.training.loss
        able = " or ".join(head for head, is_known in SLOPE_KNOWN.items() if is_known)
        needed = f"without model.head: {able}"
        if self.control and not SLOPE_KNOWN[model.head]:
            raise ConfigError(f"must be false {needed}", "search.control", True)
        if loss == "margin" and not (SLOPE_KNOWN[model.head] and model.norm == "spectral"):
            rule = f"must be another {needed} and model.norm: spectral"
            raise ConfigError(rule, "training.loss", loss)

    @property
    def proven_by(self) -> tuple[str, ...]:
        """The import path of blocks whose bounds are the word of their author, if it has any."""
        return (self.model.block,) if is_import_path(self.model.block) else ()

    @property
    def radius(self) -> float:
        """The radius of certified_accuracy: l2, in pixels of [0, 1]."""
        return self.evaluation.radius or default_radius(self.data.name)

    @property
    def precision(self) -> Precision:
        """In which the network answers where answers are counted, certified or attacked."""
        return self.evaluation.precision_with(self.model.head)

    @property
    def split(self) -> dict[str, Any]:
        """The settings that decide which images are for validation, and what they look like."""
        return {key: getattr(self.data, key) for key in SPLIT}

    @property
    def meaning(self) -> dict[str, Any]:
        """What the figures of its networks mean: the settings that decide them, beside the network
        and the images. Plain values, as stored networks state them."""
        evaluation = self.evaluation
        return {
            "precision": self.precision,
            MEASURED: {
                "radius": self.radius,
                "split": self.split,
                OBJECTIVES: self.objectives,
                GOALS: dict(self.goals),
                "metrics": dict(self.metrics),
                "n_inverse_samples": evaluation.n_inverse_samples,
                "inverse_rtol": evaluation.inverse_rtol,
                "inverse_max_steps": evaluation.inverse_max_steps,
            },
        }
