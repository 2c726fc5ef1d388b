"""What a trial reports, and where it stands."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from study.metrics.definitions import METRICS


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


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is measured of a network in eval mode without training it.

    Attributes:
        val_loss: mean cross entropy on the validation split, in nats.
        val_accuracy: fraction in [0, 1] on the validation split.
        lipschitz_upper_bound: proven, see models.certification; below 1: invertible.
        inverse_steps: evaluations of g per sample and block to reach rtol, mean over blocks
            and the validation sample; max_steps counts where it did not converge.
        reconstruction_error: mean over the validation sample of ||x - x_hat||_2 / ||x||_2
            (paper, Table 1); infinite where the inverse diverged.
    """

    val_loss: float
    val_accuracy: float
    lipschitz_upper_bound: float
    inverse_steps: float
    reconstruction_error: float

    def metrics(self) -> dict[str, float]:
        """Every metric that was measured, by name."""
        values = ((name, getattr(self, name, None)) for name in METRICS)
        return {name: value for name, value in values if value is not None}


@dataclass(frozen=True, kw_only=True)
class EpochReport(Evaluation):
    """What a trial reports after a reporting epoch; it is complete, or not sent.

    Attributes:
        epoch: epochs trained so far, from 1.
        timestamp: when it was measured, seconds since 1970-01-01 UTC, on the worker.
        train_loss: mean cross entropy over the epoch's training steps, in nats.
        train_accuracy: fraction in [0, 1], over the epoch's training steps.
        epoch_seconds: wall-clock seconds of the training steps of one epoch.
        test_accuracy: fraction in [0, 1]; only in the last report of a completed trial.
        peak_memory_bytes: the most that tensors took of the GPU's memory since the report before;
            None on a CPU.
        cpu_hours: CPU time of all threads of the worker, from the trial's beginning to this report,
            proofs and projections of a last one included. This and gpu_hours go on from the
            checkpoint of a trial that was restored: what was lost with its worker is not in them.
            None in reports of earlier versions.
        gpu_hours: wall-clock time likewise, times the part of a GPU that the trial has; None on a
            CPU.
        device: name of the processor or GPU that trained.
        device_use: MLflow's system metrics of the GPU, sampled once, when the training steps of the
            epoch end; empty on a CPU.
    """

    epoch: int
    timestamp: float
    train_loss: float
    train_accuracy: float
    epoch_seconds: float
    test_accuracy: float | None = None
    peak_memory_bytes: int | None = None
    cpu_hours: float | None = None
    gpu_hours: float | None = None
    device: str = ""
    device_use: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EpochReport":
        """The report that `asdict` made these values of. Values of metrics that only earlier
        versions measured are left out."""
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


@dataclass(frozen=True, kw_only=True)
class ProjectionReport(Evaluation):
    """What a completed trial's network measures once it is projected to a smaller coefficient.

    Attributes:
        coeff: every block's proven bound is at most its third power.
        fine_tune_steps: training steps after the projection above it, 0 or more.
        timestamp: when it was measured, seconds since 1970-01-01 UTC, on the worker.
        test_accuracy: fraction in [0, 1].
    """

    coeff: float
    fine_tune_steps: int
    timestamp: float
    test_accuracy: float


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
        epoch = next(map(EpochReport.from_dict, result["epochs"]), None)
        projections = tuple(ProjectionReport(**fields) for fields in result["projections"])
        return cls(
            TrialStatus(result["trial_status"]),
            epoch,
            result["reason"],
            projections,
            result["is_repeated"],
            tuple(map(EpochReport.from_dict, result["earlier"])),
        )
