"""The names, units and directions of everything that a trial reports.

Metric names stand as strings here and in study files, nowhere else.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context
from enum import StrEnum
from typing import Any


class Direction(StrEnum):
    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"


class TrialStatus(StrEnum):
    """Where a trial stands.

    running -> completed       it trained for all of its epochs
            -> stopped_early   the scheduler ended it
            -> failed          it diverged, or its worker failed for good
            -> interrupted     the study ended before the trial did; --resume goes on with both
    """

    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED_EARLY = "stopped_early"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Decimals:
    """Values are reported rounded to the nearest number with so many digits behind the point."""

    n: int

    def round(self, value: float) -> float:
        """A value as it is reported; what is not finite stays."""
        return round(value, self.n) if math.isfinite(value) else value

    def largest_change(self, value: float) -> float:
        """By how much a value that is reported so, or nearly, may have been changed at most."""
        return 10.0**-self.n


@dataclass(frozen=True)
class Digits:
    """Values are reported with so many significant digits, rounded to the nearest such number, or
    up: what is at least a bound is a bound."""

    n: int
    up: bool = False

    def round(self, value: float) -> float:
        """A value as it is reported; what is not finite stays."""
        if not math.isfinite(value):
            return value
        context = Context(prec=self.n, rounding=ROUND_CEILING if self.up else ROUND_HALF_EVEN)
        # Of the number as it reads: 0.1 stays, though its double is a little larger.
        return float(context.create_decimal(repr(value)))

    def largest_change(self, value: float) -> float:
        """By how much a value that is reported so, or nearly, may have been changed at most."""
        return 10.0 ** (1 - self.n) * abs(value)


@dataclass(frozen=True)
class Metric:
    """What one reported number means.

    Attributes:
        title: for people, in a few words.
        short: for the head of a narrow column.
        direction: which way is better.
        resolution: how values are rounded in all that is reported. Two networks are equal in a
            metric if their reported values are.
        indifference: the indifference threshold of decision analysis: two networks whose values
            differ by at most this part of the smaller one are the same to whoever chooses between
            them. 5 %: what another seed changes bounds and steps by (standard deviation 2 to 7 %
            on the digits); it changes losses more. 0 for fractions of images, whose noise follows
            from how many images there are.
        worst: the value that no useful trial is worse than, or None; the default coordinate of the
            hypervolume's reference point. For `inverse_steps` a study takes its own
            inverse_max_steps.
        steers: whether it may be an objective or a constraint.
        repeatable: whether training the same epoch again gives the same value.
    """

    description: str
    title: str
    short: str
    direction: Direction
    worst: float | None = None
    resolution: Decimals | Digits = Digits(4)
    indifference: float = 0.05
    steers: bool = True
    repeatable: bool = True

    @property
    def best(self) -> float:
        """The value that nothing is better than."""
        return self.limit(self.direction)

    def limit(self, direction: Direction) -> float:
        """The value that nothing is beyond: all that is maximized is a fraction, and nothing that
        is minimized is below 0."""
        if direction is Direction.MINIMIZE:
            return 0.0
        return 1.0 if self.direction is Direction.MAXIMIZE else math.inf

    def is_same(self, a: float, b: float) -> bool:
        """Whether two values differ by no more than `indifference`; NaN is the same as nothing."""
        factor = 1 + self.indifference
        return a <= b * factor and b <= a * factor


@dataclass(frozen=True)
class EpochReport:
    """What a trial reports after a reporting epoch; it is complete, or not sent.

    Attributes:
        epoch: epochs trained so far, from 1.
        timestamp: when it was measured, seconds since 1970-01-01 UTC, on the worker.
        train_loss: mean cross entropy over the epoch's training steps, in nats.
        train_accuracy: fraction in [0, 1], over the epoch's training steps.
        val_loss: mean cross entropy on the validation split, in nats, eval mode.
        val_accuracy: fraction in [0, 1] on the validation split, eval mode.
        lipschitz_upper_bound: proven, see models.certification; below 1: invertible.
        inverse_steps: evaluations of g per sample and block to reach rtol, mean over blocks
            and the validation sample; max_steps counts where it did not converge.
        reconstruction_error: mean over the validation sample of ||x - x_hat||_2 / ||x||_2
            (paper, Table 1); infinite where the inverse diverged.
        epoch_seconds: wall-clock seconds of the training steps of one epoch.
        test_accuracy: fraction in [0, 1]; only in the last report of a completed trial.
        peak_memory_bytes: the most that tensors took of the GPU's memory since the report before;
            None on a CPU.
        cpu_hours: CPU time of all threads of the worker, from the trial's beginning to this report,
            proofs and projections of a last one included. This and the two below go on from the
            checkpoint of a trial that was restored: what was lost with its worker is not in them.
            None in reports of earlier versions.
        gpu_hours: wall-clock time likewise, times the part of a GPU that the trial has; None on a
            CPU.
        energy_wh: watt hours likewise of the device that trains, the GPU or all processors of the
            machine with their memory, by its own meter. None where there is none, or where it
            measures more than this trial; NaN where the meter was lost on the way.
        device: name of the processor or GPU that trained.
        device_use: MLflow's system metrics of the GPU, means over the training steps since the
            report before; empty on a CPU.
    """

    epoch: int
    timestamp: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    lipschitz_upper_bound: float
    inverse_steps: float
    reconstruction_error: float
    epoch_seconds: float
    test_accuracy: float | None = None
    peak_memory_bytes: int | None = None
    cpu_hours: float | None = None
    gpu_hours: float | None = None
    energy_wh: float | None = None
    device: str = ""
    device_use: Mapping[str, float] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """Every reported metric by name, without epoch, timestamp and use of the device."""
        values = {name: value for name, value in asdict(self).items() if name in METRICS}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Evaluation:
    """What is measured of a network in eval mode without training it; see EpochReport."""

    val_loss: float
    val_accuracy: float
    lipschitz_upper_bound: float
    inverse_steps: float
    reconstruction_error: float


@dataclass(frozen=True)
class ProjectionReport:
    """What a completed trial's network measures once it is projected to a smaller coefficient.

    Attributes:
        coeff: every block's proven bound is at most its third power.
        fine_tune_steps: training steps after the projection above it, 0 or more.
        timestamp: when it was measured, seconds since 1970-01-01 UTC, on the worker.

    The others are those of EpochReport.
    """

    coeff: float
    fine_tune_steps: int
    timestamp: float
    val_loss: float
    val_accuracy: float
    lipschitz_upper_bound: float
    inverse_steps: float
    reconstruction_error: float
    test_accuracy: float

    def metrics(self) -> dict[str, float]:
        """Every reported metric by name."""
        return {name: value for name, value in asdict(self).items() if name in METRICS}


# As they are counted, of up to 100,000 images.
_FRACTION = Decimals(5)

METRICS: dict[str, Metric] = {
    "train_loss": Metric(
        "cross entropy on the training split, nats",
        "training loss",
        "train loss",
        Direction.MINIMIZE,
    ),
    "train_accuracy": Metric(
        "fraction right on the training split",
        "training accuracy",
        "train acc",
        Direction.MAXIMIZE,
        worst=0.0,
        resolution=_FRACTION,
        indifference=0.0,
    ),
    "val_loss": Metric(
        "cross entropy on the validation split, nats",
        "validation loss",
        "val loss",
        Direction.MINIMIZE,
    ),
    "val_accuracy": Metric(
        "fraction right on the validation split",
        "validation accuracy",
        "val acc",
        Direction.MAXIMIZE,
        worst=0.0,
        resolution=_FRACTION,
        indifference=0.0,
    ),
    "lipschitz_upper_bound": Metric(
        "proven bound of Lip(g), l2 to l2, the largest over blocks, rounded up",
        "proven bound of Lip(g)",
        "bound",
        Direction.MINIMIZE,
        worst=1.0,
        resolution=Digits(4, up=True),
    ),
    "inverse_steps": Metric(
        "evaluations of g per sample and block",
        "steps of the inverse",
        "steps",
        Direction.MINIMIZE,
        resolution=Decimals(2),
    ),
    "reconstruction_error": Metric(
        "||x - x_hat|| / ||x||, l2, mean",
        "reconstruction error",
        "rec error",
        Direction.MINIMIZE,
        worst=1.0,
        # It is rounding, and what the last step left: another seed changes it by up to a half.
        indifference=1.0,
    ),
    "epoch_seconds": Metric(
        "seconds of training an epoch",
        "seconds an epoch",
        "s/epoch",
        Direction.MINIMIZE,
        repeatable=False,
    ),
    "test_accuracy": Metric(
        "fraction right on the test set",
        "test accuracy",
        "test acc",
        Direction.MAXIMIZE,
        worst=0.0,
        steers=False,
        resolution=_FRACTION,
        indifference=0.0,
    ),
    "peak_memory_bytes": Metric(
        "the most memory of the GPU that was in use",
        "peak GPU memory, bytes",
        "GPU bytes",
        Direction.MINIMIZE,
        steers=False,
    ),
    "cpu_hours": Metric(
        "CPU time of the trial, hours",
        "CPU time, hours",
        "CPU h",
        Direction.MINIMIZE,
        steers=False,
        repeatable=False,
    ),
    "gpu_hours": Metric(
        "time for which the trial had its GPU, times its part of it, hours",
        "GPU time, hours",
        "GPU h",
        Direction.MINIMIZE,
        steers=False,
        repeatable=False,
    ),
    "energy_wh": Metric(
        "energy of the device that trained, by its own meter, watt hours",
        "energy, watt hours",
        "Wh",
        Direction.MINIMIZE,
        steers=False,
        repeatable=False,
    ),
}


def as_reported(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics by name, each rounded to its resolution."""
    return {name: METRICS[name].resolution.round(value) for name, value in metrics.items()}


# Of a study's own run, once it has ended.
HYPERVOLUME = "hypervolume"
N_FRONT = "n_front"
N_COMPLETED = "n_completed"
"""Trials that trained for all of their epochs."""
HOURS = "hours"
"""Wall-clock time in which at least one trial ran."""
DEVICE_HOURS = "device_hours"
"""Of GPUs, where trials have any, else of CPU cores: those of a trial times its wall-clock time."""
CPU_HOURS, GPU_HOURS, ENERGY_WH = "cpu_hours", "gpu_hours", "energy_wh"
"""Metrics of a trial, and, as sums over its trials, of the study."""

INVERSE_STEPS = "inverse_steps"
LIPSCHITZ_UPPER_BOUND = "lipschitz_upper_bound"
RECONSTRUCTION_ERROR = "reconstruction_error"
TRAIN_LOSS = "train_loss"
VAL_LOSS = "val_loss"
VAL_ACCURACY = "val_accuracy"
TEST_ACCURACY = "test_accuracy"
REPORTED_METRICS = tuple(f.name for f in fields(EpochReport) if f.name in METRICS)
PROJECTED_METRICS = tuple(f.name for f in fields(ProjectionReport) if f.name in METRICS)


@dataclass(frozen=True)
class TrialReport:
    """One message of a trial: its status, and a complete epoch or the reason why there is none.

    Attributes:
        projections: of a completed trial, what its network is at smaller coefficients.
        is_repeated: the trial was restored, and sends its last report again.
        earlier: of such a trial, all reports before `epoch`. The driver may have been restored too,
            to a state that lacks them.
    """

    status: TrialStatus
    epoch: EpochReport | None = None
    reason: str | None = None
    projections: tuple[ProjectionReport, ...] = ()
    is_repeated: bool = False
    earlier: tuple[EpochReport, ...] = ()

    def to_result(self) -> dict[str, Any]:
        """As a dict of plain values, for Ray."""
        return {
            "trial_status": self.status.value,
            "reason": self.reason,
            # In lists: Tune keeps statistics of each number outside a list, and writes them with
            # its state. Nobody here reads them.
            "epochs": [] if self.epoch is None else [asdict(self.epoch)],
            "projections": [asdict(projection) for projection in self.projections],
            "is_repeated": self.is_repeated,
            "earlier": [asdict(report) for report in self.earlier],
        }

    @classmethod
    def from_result(cls, result: Mapping[str, Any]) -> "TrialReport | None":
        """The report in a Ray result; None where the trial never reported."""
        if "trial_status" not in result:
            return None
        epoch = next((EpochReport(**fields) for fields in result["epochs"]), None)
        projections = tuple(ProjectionReport(**fields) for fields in result["projections"])
        return cls(
            TrialStatus(result["trial_status"]),
            epoch,
            result["reason"],
            projections,
            result["is_repeated"],
            tuple(EpochReport(**fields) for fields in result["earlier"]),
        )


def first_non_finite(values: Mapping[str, float], names: tuple[str, ...]) -> str | None:
    """The first of the named metrics that is not finite, as 'name is value'; None if all are."""
    return next(
        (f"{name} is {values[name]}" for name in names if not math.isfinite(values[name])), None
    )
