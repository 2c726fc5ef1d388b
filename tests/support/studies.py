"""Small studies and reports with made-up figures."""

from collections.abc import Iterable
from typing import Any

from study.config.parser import parse
from study.config.study import StudyConfig
from study.metrics.reports import EpochReport, ProjectionReport, TrialReport, TrialStatus

ABSENT = "ABSENT"

RAW: dict[str, Any] = {
    "name": "tiny",
    "data": {"name": "digits", "val_fraction": 0.2, "shift": 0},
    "model": {"blocks": [1, 1], "channel_multiplier": 4},
    "training": {
        "max_epochs": 3,
        "batch_size": 128,
        "optimizer": "muon",
        "lr": 0.1,
        "lr_schedule": "one_cycle",
    },
    # Within a large radius every attack succeeds at once.
    "evaluation": {"n_inverse_samples": 32, "radius": 4.0},
    "space": {
        "coeff": {"type": "float", "low": 0.3, "high": 0.99},
        "n_power_iterations": {"type": "int", "low": 1, "high": 20, "log": True},
        "dropout": {"type": "float", "low": 0.0, "high": 0.5},
    },
    "objectives": {
        "val_accuracy": "maximize",
        "block_lipschitz_upper_bound": "minimize",
        "inverse_steps": "minimize",
    },
    "constraints": {"block_lipschitz_upper_bound": "< 1"},
    "search": {"sampler": "tpe", "n_trials": 3, "seed": 0},
}

# The same with the blocks and the goals of the shipped studies, in which answers are certified.
CERTIFIED: dict[str, Any] = {
    **RAW,
    "model": {
        "blocks": [],
        "dense_blocks": 16,
        "bottleneck": 2,
        "channel_multiplier": 1,
        "head": "rows",
        "rows": 3,
    },
    "training": {**RAW["training"], "lr": 0.05, "loss": "margin", "margin": 0.5},
    "evaluation": {"n_inverse_samples": 32, "precision": "float64"},
    "space": {**RAW["space"], "coeff": {"type": "float", "low": 0.3, "high": 0.6}},
    "objectives": {
        "val_accuracy": "maximize",
        "certified_accuracy": "maximize",
        "inverse_lipschitz_upper_bound": "minimize",
    },
    "constraints": {"invertible": True},
    "reference_point": {"inverse_lipschitz_upper_bound": 1e7},
    "search": {**RAW["search"], "control": True},
}


def changed(base: Any, change: Any) -> Any:
    """The content of a study file with other values of some keys, and without those that are
    ABSENT."""
    if not isinstance(base, dict) or not isinstance(change, dict):
        return change
    merged = {**base, **{key: changed(base.get(key), value) for key, value in change.items()}}
    return {key: value for key, value in merged.items() if value != ABSENT}


def tiny(**sections: dict[str, Any]) -> StudyConfig:
    """The small study, with some keys of its sections changed."""
    merged = {
        key: {**value, **sections.get(key, {})} if isinstance(value, dict) else value
        for key, value in {"scheduler": {}, "resources": {}, **RAW}.items()
    }
    return parse(merged, "tiny.yaml")


_OF_A_NETWORK = {
    "val_accuracy": 0.5,
    "reconstruction_error": 1e-7,
    "certified_accuracy": 0.1,
    "median_radius": 0.01,
    "logit_lipschitz_upper_bound": 100.0,
    "inverse_lipschitz_upper_bound": 5.0,
    "noise_error": 1e-3,
}


def epoch_report(epoch: int = 1, **changes: float) -> EpochReport:
    """A complete report of an epoch."""
    figures: dict[str, Any] = {
        **_OF_A_NETWORK,
        "epoch": epoch,
        "timestamp": 1_700_000_000.0 + epoch,
        "train_loss": 1.0 / epoch,
        "train_accuracy": 0.5,
        "val_loss": 1.1 / epoch,
        "block_lipschitz_upper_bound": 0.8,
        "inverse_steps": 4.0,
        "reconstruction_error": 1e-7,
        "certified_accuracy": 0.1,
        "median_radius": 0.01,
        "lost_to_rounding": 0.0,
        "logit_lipschitz_upper_bound": 100.0,
        "inverse_lipschitz_upper_bound": 5.0,
        "noise_error": 1e-3,
        "epoch_seconds": 2.0,
    }
    return EpochReport(**{**figures, **changes})


def projection_report(bound: float, **changes: float) -> ProjectionReport:
    """The report of a network projected to a bound."""
    figures: dict[str, Any] = {
        **_OF_A_NETWORK,
        "projected_to": bound,
        "fine_tune_steps": 0,
        "timestamp": 1_700_000_009.0,
        "val_loss": 1.2,
        "block_lipschitz_upper_bound": bound,
        "inverse_steps": 3.0,
        "reconstruction_error": 1e-7,
        "certified_accuracy": 0.1,
        "median_radius": 0.01,
        "lost_to_rounding": 0.0,
        "logit_lipschitz_upper_bound": 100.0,
        "inverse_lipschitz_upper_bound": 5.0,
        "noise_error": 1e-3,
        "test_accuracy": 0.5,
        "test_certified_accuracy": 0.1,
    }
    return ProjectionReport(**{**figures, **changes})


def completed(projections: Iterable[ProjectionReport] = (), **changes: float) -> dict[str, Any]:
    """The last Ray result of a completed trial."""
    report = epoch_report(3, **changes)
    return TrialReport(TrialStatus.COMPLETED, report, projections=tuple(projections)).to_result()


def running(**changes: float) -> dict[str, Any]:
    """A Ray result of a running trial."""
    return TrialReport(TrialStatus.RUNNING, epoch_report(1, **changes)).to_result()


def failed(reason: str) -> dict[str, Any]:
    """The last Ray result of a trial that diverged."""
    return TrialReport(TrialStatus.FAILED, reason=reason).to_result()
