"""The settings of one trial: plain frozen dataclasses, so that training needs no other library.

A rule on one setting stands at its field; study.config.parser checks it, with types and unknown
keys, when a study file is read. Rules across fields are checked whenever a section is made.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from models import SLOPE_KNOWN, NetworkSettings, SettingError, Span, is_import_path, setting
from study.config.data import LARGEST, SPLIT, DataConfig
from study.config.imports import check_path
from study.errors import ConfigError, require

COEFF = "coeff"
"""Name of the model setting with the target of spectral normalization."""
MARGIN = "margin"
"""Name of the training setting with the radius that training aims at."""
MAX_EPOCHS = "max_epochs"
"""Name of the training setting with the budget of a trial."""

ALONE: Mapping[str, Any] = {
    "block": "bottleneck",
    "blocks": (),
    "dense_blocks": 0,
    "patch": 0,
    "channel_multiplier": 1,
    "head": "rows",
}
"""The model settings of a control: a classifier of rows on the image itself, the strongest that
needs no network."""

MEASURED, OBJECTIVES, GOALS = "measured", "objectives", "goals"
"""Keys in a stored network's description of its figures; see `TrialConfig.meaning`."""

Precision = Literal["float32", "float64"]


@dataclass(frozen=True)
class ModelConfig(NetworkSettings):
    """The settings of the network."""

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
    """How the network is trained. Defaults: the paper's recipe (appendix A)."""

    max_epochs: int = setting(200, ge=1, le=LARGEST)
    batch_size: int = setting(128, ge=2, le=LARGEST)
    optimizer: Literal["sgd", "muon"] = "sgd"
    """muon trains the kernels of the invertible part, and AdamW then all other parameters."""
    lr: float = setting(0.1, gt=0)
    """The peak learning rate. With muon it is for kernels alone: the spectral norm of the change
    that a step makes to a kernel, seen as a matrix (c_out, c_in k k)."""
    other_lr: float = setting(0.02, gt=0)
    """muon: the peak learning rate of AdamW. For biases of normalized layers it is multiplied by
    0.1 and by the product of the block's targets up to the layer."""
    momentum: float = setting(0.9, ge=0, lt=1)
    nesterov: bool | None = None
    """Nesterov momentum; null takes true with muon, false with sgd."""
    weight_decay: float = setting(5e-4, ge=0)
    """With muon it is AdamW's alone: normalized kernels have no scale, and do not decay."""
    orthogonalization_steps: int = setting(3, ge=1, le=1000)
    """muon: steps of Newton-Schulz iteration."""
    lr_schedule: Literal["step", "one_cycle"] = "step"
    """step: the rate is multiplied by lr_decay at each milestone. one_cycle: a linear warm-up over
    warmup_fraction, then cosine decay to zero, for short runs."""
    lr_milestones: tuple[float, ...] = (0.3, 0.6, 0.8)
    """Fractions of max_epochs, increasing, in (0, 1)."""
    lr_decay: float = setting(0.2, gt=0, le=1)
    warmup_fraction: float = setting(0.2, ge=0, lt=1)
    report_every: int = setting(1, ge=1, le=LARGEST)
    """Epochs between two reports; the last epoch always reports."""
    loss: Literal["cross_entropy", "margin"] = "cross_entropy"
    """margin: a soft penalty on how far the proven radius of an image falls short of `margin`;
    needs head: lipschitz or rows, and norm: spectral."""
    margin: float | None = setting(None, gt=0)
    """For loss: margin; l2, in data.unit. A small margin favors accuracy, a large one radii.
    null takes the radius of certified_accuracy."""
    temperature: float = setting(0.1, gt=0)
    """For loss: margin; about how far from the margin, in data.unit, radii still matter."""
    relative_temperature: bool = False
    """Whether temperature is a fraction of the margin instead, and so each margin has its own."""
    deterministic: bool = True
    """The same seed gives the same numbers on the same hardware, bit for bit."""
    compile: bool = False
    """Use torch.compile for training; needs a C++ compiler, and half a minute or more to start."""
    precision: Literal["float32", "bf16"] = "float32"
    """The precision of the training passes and of Muon's matrix products; evaluation, certificate
    and inverse use float32 or better."""

    reversible: Literal[False, True, "auto"] = False
    """Whether the backward pass computes the maps of blocks from those behind them, by the inverse,
    so that memory does not grow with depth: for blocks on patches and dense blocks, with norm:
    spectral. auto: where those maps would take more than a quarter of the memory of the GPU, or of
    the machine."""

    def __post_init__(self) -> None:
        rule = "must be false where compile is true"
        require(not (self.reversible and self.compile), rule, "reversible", self.reversible)
        can_be = not self.nesterov or self.momentum > 0
        require(can_be, "must not be true where momentum is 0", "nesterov", self.nesterov)
        milestones = list(self.lr_milestones)
        is_increasing = milestones == sorted({m for m in milestones if 0 < m < 1})
        require(is_increasing, "must be increasing numbers in (0, 1)", "lr_milestones", milestones)


@dataclass(frozen=True)
class EvaluationConfig:
    """How networks are measured; the same for all trials of a study, never searched."""

    radius: float | None = setting(None, gt=0)
    """The radius of certified_accuracy: l2, in data.unit. null takes the data's default."""

    precision: Precision | None = None
    """The precision in which images are classified for accuracies, certified radii and attacks; its
    rounding lowers the radii. null: float32 with head: batch_norm, else float64. float64 takes two
    to five times as long on a CPU. The inverse is measured in float32."""
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
    """The default coordinate of the reference point: no useful network is worse."""

    def __post_init__(self) -> None:
        check_path(self.of, "of")


def with_settings(config: "TrialConfig", values: Mapping[str, Any]) -> "TrialConfig":
    """The trial with other values of settings of its model or training."""
    of_model = {key: value for key, value in values.items() if hasattr(config.model, key)}
    of_training = {key: value for key, value in values.items() if key not in of_model}
    return replace(
        config,
        model=replace(config.model, **of_model),
        training=replace(config.training, **of_training),
    )


@dataclass(frozen=True)
class TrialConfig:
    """All that decides a trial's numbers, but for the hardware.

    Attributes:
        objectives: names of the metrics that must be finite in every report.
        goals: what its study seeks: metric -> "minimize", "< 1", or both with a comma between.
        ladder: bounds of Lip(g), decreasing, to which the trained network is projected.
        fine_tune_steps: training steps at each bound of the ladder, before the projection.
        family: conditions, settings in which the members of a family differ, with their ranges; the
            settings themselves have the values in the middle, those of the trial's own network.
            Empty: a trial trains one network.
        members: how many further members of the family are made.
        control: whether a classifier of rows is also trained alone, without a body.
        metrics: the user's own metrics: name -> import path.
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
    family: tuple[tuple[str, Span], ...] = ()
    members: int = 0
    control: bool = False
    metrics: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        model, loss = self.model, self.training.loss
        able = " or ".join(head for head, is_known in SLOPE_KNOWN.items() if is_known)
        needed = f"without model.head: {able}"
        if loss == "margin" and not (SLOPE_KNOWN[model.head] and model.norm == "spectral"):
            rule = f"must be another {needed} and model.norm: spectral"
            raise ConfigError(rule, "training.loss", loss)
        if self.training.reversible is True and not model.is_reversible:
            rule = (
                "must be false or auto unless model has norm: spectral, and blocks: [], or "
                "block: potential and a patch"
            )
            raise ConfigError(rule, "training.reversible", True)
        conditions = [name for name, _ in self.family]
        if conditions and model.norm != "spectral":
            raise ConfigError("must be left out without model.norm: spectral", "family", conditions)
        if COEFF in conditions and not model.shares_weights:
            rule = (
                "must be left out unless model has blocks: [], or block: potential and a patch, or "
                "block: bottleneck with budget: even and without dense_blocks"
            )
            raise ConfigError(rule, f"family.{COEFF}")
        if COEFF in conditions and loss == MARGIN and not model.is_reversible:
            rule = "must be left out with loss: margin and bottlenecks, whose bounds it changes"
            raise ConfigError(rule, f"family.{COEFF}")
        if MARGIN in conditions and loss != MARGIN:
            raise ConfigError("must be left out without loss: margin", f"family.{MARGIN}")
        if conditions and self.training.compile:
            raise ConfigError("must be false with a family", "training.compile", True)

    @property
    def alone(self) -> "TrialConfig":
        """The same trial of a classifier alone, on images in place of features; of a family of
        them, where conditions have a meaning without blocks."""
        return replace(
            self,
            model=replace(self.model, **ALONE),
            training=replace(self.training, compile=False, reversible=False),
            ladder=(),
            family=tuple((name, span) for name, span in self.family if name != COEFF),
            control=False,
        )

    @property
    def proven_by(self) -> tuple[str, ...]:
        """The import path of the user's own blocks, whose bounds are not proven here, if any."""
        return (self.model.block,) if is_import_path(self.model.block) else ()

    @property
    def radius(self) -> float:
        """The radius of certified_accuracy: l2, in data.unit."""
        return self.evaluation.radius or self.data.radius

    @property
    def precision(self) -> Precision:
        """The precision in which images are classified, certified and attacked."""
        return self.evaluation.precision_with(self.model.head)

    @property
    def split(self) -> dict[str, Any]:
        """The settings that decide which images are for validation, and what they look like."""
        return {key: getattr(self.data, key) for key in SPLIT}

    @property
    def meaning(self) -> dict[str, Any]:
        """What the figures of the trial's networks mean: the settings that decide them, apart from
        the network and the images. Plain values, as they are written into stored networks."""
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
