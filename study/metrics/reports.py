"""What a trial reports, and its status."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from study.metrics.definitions import METRICS


class TrialStatus(StrEnum):
    """The status of a trial.

    running -> completed       it trained for all of its epochs
            -> stopped_early   the scheduler ended it
            -> failed          it diverged, or its worker failed for good
            -> interrupted     the study ended before the trial did; --resume continues both
    """

    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED_EARLY = "stopped_early"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Measurements of a network in eval mode, without training. METRICS says what each is.

    Attributes:
        block_lipschitz_upper_bound: see models.proofs.certification.
        inverse_steps: to reach rtol, mean over blocks and the validation sample; max_steps counts
            where the inverse did not converge.
        reconstruction_error: over the validation sample (paper, Table 1); infinite where the
            inverse diverged.
        own: metrics of the user's own, by name.
    """

    val_loss: float
    val_accuracy: float
    certified_accuracy: float
    median_radius: float
    lost_to_rounding: float
    logit_lipschitz_upper_bound: float
    inverse_lipschitz_upper_bound: float
    block_lipschitz_upper_bound: float
    inverse_steps: float
    reconstruction_error: float
    noise_error: float
    own: Mapping[str, float] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """All measured metrics, by name."""
        values = ((name, getattr(self, name, None)) for name in METRICS)
        return {**{name: value for name, value in values if value is not None}, **self.own}


@dataclass(frozen=True, kw_only=True)
class EpochReport(Evaluation):
    """The report of a trial after a reporting epoch; it is complete, or not sent.

    Attributes:
        epoch: epochs trained so far, from 1.
        timestamp: when it was measured, seconds since 1970-01-01 UTC, on the worker.
        train_loss, train_accuracy: over the training steps of the epoch. These and epoch_seconds
            are None for a network that its user trained.
        epoch_seconds: wall-clock seconds of the training steps.
        test_accuracy, test_certified_accuracy, attacked_accuracy: only in the last report of a
            completed trial. Projections are not attacked: that would take longer than training a
            small network.
        peak_memory_bytes: peak GPU memory of tensors since the last report; None on a CPU.
        cpu_hours: CPU time of all threads of the worker since the trial began, including the proofs
            and projections of a last report. A restored trial continues cpu_hours and gpu_hours
            from its checkpoint: what was lost with its worker does not count.
        gpu_hours: wall-clock time since the trial began, times its part of a GPU; None on a CPU.
        device: name of the processor or GPU that trained.
        device_use: MLflow's system metrics of the GPU, sampled once, when the training steps of the
            epoch end; empty on a CPU.
    """

    epoch: int
    timestamp: float
    train_loss: float | None
    train_accuracy: float | None
    epoch_seconds: float | None
    test_accuracy: float | None = None
    test_certified_accuracy: float | None = None
    attacked_accuracy: float | None = None
    peak_memory_bytes: int | None = None
    cpu_hours: float | None = None
    gpu_hours: float | None = None
    device: str = ""
    device_use: Mapping[str, float] = field(default_factory=dict)


Variant = float | tuple[float, ...] | None
"""What tells the networks of one training apart: the bound of a projection, the conditions of a
member, or None for the trial's own network. A control that is a member has CONTROL before its
conditions."""
CONTROL = 0.0
"""The bound of a trial's control: a classifier alone, trained without blocks."""


def variant_of(projected_to: float | None, member: Sequence[float] | None) -> Variant:
    """The variant of the network with this bound and these conditions, None where it has none."""
    if member is None:
        return projected_to
    return tuple(member) if projected_to is None else (projected_to, *member)


def is_control(variant: Variant) -> bool:
    """Whether a variant is that of a control. No condition that members have is 0."""
    return (variant[0] if isinstance(variant, tuple) else variant) == CONTROL


@dataclass(frozen=True, kw_only=True)
class ProjectionReport(Evaluation):
    """Measurements of a further network of a completed trial: its own, projected to a smaller bound
    of its blocks; a member of the family that it trained; or its control.

    Attributes:
        projected_to: every block's proven bound of Lip(g) is at most this. CONTROL, 0, means the
            classifier alone, which has no blocks. None for a member that has some.
        member: its conditions, in the order of the study's; those of a control are without coeff.
        fine_tune_steps: the study's setting: training steps after each projection to a smaller
            bound, 0 or more. The control has none.
        timestamp: when it was measured, seconds since 1970-01-01 UTC, on the worker.
    """

    projected_to: float | None
    member: tuple[float, ...] | None = None
    fine_tune_steps: int
    timestamp: float
    test_accuracy: float
    test_certified_accuracy: float

    @property
    def variant(self) -> Variant:
        return variant_of(self.projected_to, self.member)


PROJECTED_METRICS = tuple(f.name for f in fields(ProjectionReport) if f.name in METRICS)


@dataclass(frozen=True)
class TrialReport:
    """One message of a trial: its status, with a complete epoch or the reason why there is none.

    Attributes:
        projections: reports of a completed trial's network projected to smaller bounds.
        is_repeated: whether the trial was restored, and sends its last report again.
        earlier: reports before `epoch`: those since the last message or, from a restored trial, all
            of them, since a restored driver may lack some.
    """

    status: TrialStatus
    epoch: EpochReport | None = None
    reason: str | None = None
    projections: tuple[ProjectionReport, ...] = ()
    is_repeated: bool = False
    earlier: tuple[EpochReport, ...] = ()

    @property
    def epochs(self) -> tuple[EpochReport, ...]:
        """The earlier reports and `epoch`, oldest first."""
        return self.earlier if self.epoch is None else (*self.earlier, self.epoch)

    def to_result(self) -> dict[str, Any]:
        """As a dict of plain values, for Ray."""
        return {
            "trial_status": self.status.value,
            "reason": self.reason,
            # In lists: Tune keeps statistics of numbers elsewhere, and saves them with its state.
            "epochs": [] if self.epoch is None else [asdict(self.epoch)],
            "projections": [asdict(projection) for projection in self.projections],
            "is_repeated": self.is_repeated,
            "earlier": [asdict(report) for report in self.earlier],
        }

    @classmethod
    def from_result(cls, result: Mapping[str, Any]) -> "TrialReport | None":
        """The report in a Ray result; None if the trial never reported."""
        if "trial_status" not in result:
            return None
        epochs, earlier = (
            tuple(EpochReport(**report) for report in result[key]) for key in ("epochs", "earlier")
        )
        return cls(
            TrialStatus(result["trial_status"]),
            epochs[0] if epochs else None,
            result["reason"],
            tuple(ProjectionReport(**report) for report in result["projections"]),
            result["is_repeated"],
            earlier,
        )
