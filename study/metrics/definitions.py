"""The name, unit, direction and resolution of each metric.

Metric names stand as strings here and in study files, nowhere else.
"""

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

from study.metrics.rounding import Decimals, Digits, radius_text

VAL_LOSS = "val_loss"
VAL_ACCURACY = "val_accuracy"
CERTIFIED_ACCURACY = "certified_accuracy"
TRAIN_LOSS = "train_loss"
TEST_ACCURACY = "test_accuracy"
TEST_CERTIFIED_ACCURACY = "test_certified_accuracy"
ATTACKED_ACCURACY = "attacked_accuracy"
LOST_TO_ROUNDING = "lost_to_rounding"
INVERSE_STEPS = "inverse_steps"
RECONSTRUCTION_ERROR = "reconstruction_error"
BLOCK_LIPSCHITZ_UPPER_BOUND = "block_lipschitz_upper_bound"
INVERSE_LIPSCHITZ_UPPER_BOUND = "inverse_lipschitz_upper_bound"
LOGIT_LIPSCHITZ_UPPER_BOUND = "logit_lipschitz_upper_bound"
PROVEN_METRICS = {
    BLOCK_LIPSCHITZ_UPPER_BOUND: "lipschitz_upper_bound",
    INVERSE_LIPSCHITZ_UPPER_BOUND: INVERSE_LIPSCHITZ_UPPER_BOUND,
    LOGIT_LIPSCHITZ_UPPER_BOUND: LOGIT_LIPSCHITZ_UPPER_BOUND,
}
"""Metric that depends on a network's weights alone -> its key in the network's certificate."""
FORMER_NAMES = {"lipschitz_upper_bound": BLOCK_LIPSCHITZ_UPPER_BOUND}
"""Names in stored studies, and in study files written for them -> today's names."""
CPU_HOURS, GPU_HOURS = "cpu_hours", "gpu_hours"
"""Metrics of a trial and, summed over its trials, of a study."""

# Metrics of a study's own run, once the study has ended.
HYPERVOLUME = "hypervolume"
N_FRONT = "n_front"
N_COMPLETED = "n_completed"
"""Number of trials that trained for all of their epochs."""
HOURS = "hours"
"""Wall-clock time in which at least one trial ran."""
DEVICE_HOURS = "device_hours"
"""GPU hours if trials have GPUs, else core hours: number per trial times wall-clock time."""

PIXELS, FEATURES = "pixels from 0 to 1", "standardized features"
"""What radii are in, l2: those of images, and those of tables of numbers."""
_RADIUS = "evaluation.radius"  # in descriptions
_FOUR_DIGITS = Digits(4)
_OF_IMAGES = "pixels"  # the unit of radii in a heading
_T = TypeVar("_T")


class Direction(StrEnum):
    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"


@dataclass(frozen=True)
class Metric:
    """What one reported number means.

    Attributes:
        title: for people, in a few words.
        short: for the head of a narrow column.
        direction: which way is better.
        resolution: rounding of all reported values; values equal after it count as equal.
        indifference: values that differ by at most this fraction of the smaller one are equally
            good. 5 %: the effect of another seed on bounds and steps (standard deviation 2 to 7 %
            on the digits). 0 for fractions of images, whose noise follows from their number.
        worst: no useful trial is worse; the default coordinate of the hypervolume's reference
            point, or None. For `inverse_steps` a study takes its own inverse_max_steps.
        least: no value is below it.
        steers: whether it may be an objective or a constraint.
        repeatable: whether training the same epoch again gives the same value.
        in_decades: whether its values, above 0, run over decades, so that ratios count and not
            differences: hypervolume, knee, sampler, scheduler and the spread of repeats see log10
            of it.
        is_within_radius: whether it counts what holds within evaluation.radius; see `at`.
        symbol: heading of a column in LaTeX, in math mode; empty to use `short`.
        unit: for the heading of a column in a paper; empty if it has none, or `short` names it.
    """

    description: str
    title: str
    short: str
    direction: Direction = Direction.MINIMIZE
    worst: float | None = None
    resolution: Decimals | Digits = _FOUR_DIGITS
    indifference: float = 0.05
    least: float = 0.0
    steers: bool = True
    repeatable: bool = True
    in_decades: bool = False
    is_within_radius: bool = False
    symbol: str = ""
    unit: str = ""

    def at(self, radius: float | None, unit: str = PIXELS) -> "Metric":
        """The metric with this evaluation.radius, l2, and the unit of radii named in its texts; for
        None, or if it counts nothing within a radius, with the unit alone."""
        if radius is None or not self.is_within_radius:
            own = unit if self.unit == _OF_IMAGES and unit != PIXELS else self.unit
            return replace(self, description=self.description.replace(PIXELS, unit), unit=own)
        text = radius_text(radius)
        return replace(
            self,
            description=self.description.replace(_RADIUS, f"{text} (l2, {unit})"),
            title=f"{self.title} at radius {text}",
            short=f"{self.short.removesuffix(' acc')}@{text}",
        )

    def limit(self, direction: Direction) -> float:
        """The limit of possible values: `least` to minimize; to maximize, 1 for fractions, else
        infinity."""
        if direction is Direction.MINIMIZE:
            return self.least
        is_fraction = self.direction is Direction.MAXIMIZE and isinstance(self.resolution, Decimals)
        return 1.0 if is_fraction else math.inf

    def is_possible(self, value: float) -> bool:
        """Whether a network may have this value. NaN is possible: the network may have diverged."""
        return math.isnan(value) or self.least <= value <= self.limit(Direction.MAXIMIZE)

    def scaled(self, value: float) -> float:
        """A value on the scale on which differences count: log10 if `in_decades`."""
        # No bound of an inverse is 0, but somebody may have written one into MLflow.
        return math.log10(max(value, sys.float_info.min)) if self.in_decades else value

    def unscaled_error(self, value: float, error: float) -> float:
        """Standard error of a value, to first order, from the error of `scaled(value)`."""
        return value * math.log(10) * error if self.in_decades else error

    def is_same(self, a: float, b: float) -> bool:
        """Whether two values differ by at most `indifference`; False if one is NaN."""
        factor = 1 + self.indifference
        return a <= b * factor and b <= a * factor


_UP = Digits(4, up=True)


def _accuracy(split: str, title: str, short: str, **others: Any) -> Metric:
    return Metric(
        f"fraction right on the {split}",
        title,
        short,
        Direction.MAXIMIZE,
        worst=0.0,
        # Enough to show one image in 100,000.
        resolution=Decimals(5),
        indifference=0.0,
        **others,
    )


METRICS: dict[str, Metric] = {
    TRAIN_LOSS: Metric(
        "cross entropy on the training split, nats", "training loss", "train loss", unit="nats"
    ),
    "train_accuracy": _accuracy("training split", "training accuracy", "train acc"),
    VAL_LOSS: Metric(
        "cross entropy on the validation split, nats", "validation loss", "val loss", unit="nats"
    ),
    VAL_ACCURACY: _accuracy("validation split", "validation accuracy", "val acc"),
    CERTIFIED_ACCURACY: _accuracy(
        f"validation split, proven for all images within {_RADIUS}",
        "certified accuracy",
        "cert acc",
        is_within_radius=True,
    ),
    "median_radius": Metric(
        f"proven radius of the answer, l2, {PIXELS}, median; negative where it is wrong",
        "median radius",
        "radius",
        Direction.MAXIMIZE,
        worst=0.0,
        least=-math.inf,
        unit=_OF_IMAGES,
    ),
    LOST_TO_ROUNDING: Metric(
        "fraction of the validation split that would be certified in exact arithmetic, but is not",
        "lost to rounding",
        "lost",
        worst=1.0,
        resolution=Decimals(5),
        indifference=0.0,
    ),
    LOGIT_LIPSCHITZ_UPPER_BOUND: Metric(
        "proven bound on Lip(z_i - z_j) by the image, l2, the largest over classes, rounded up",
        "proven bound on the logits",
        "logits",
        resolution=_UP,
        symbol=r"\mathrm{Lip}(z_i - z_j) \leq",
    ),
    INVERSE_LIPSCHITZ_UPPER_BOUND: Metric(
        "proven bound on the Lipschitz constant of the inverse, l2 to l2, rounded up",
        "proven bound on the inverse",
        "inverse",
        resolution=_UP,
        in_decades=True,
        symbol=r"\mathrm{Lip}(F^{-1}) \leq",
    ),
    BLOCK_LIPSCHITZ_UPPER_BOUND: Metric(
        "proven bound on Lip(g), l2 to l2, the largest over blocks, rounded up",
        "proven bound on Lip(g)",
        "bound",
        worst=1.0,
        resolution=_UP,
        symbol=r"\mathrm{Lip}(g) \leq",
    ),
    INVERSE_STEPS: Metric(
        "evaluations of g, or of its scalar equations, per sample and block",
        "steps of the inverse",
        "steps",
        resolution=Decimals(2),
    ),
    # Another seed changes these two errors by up to a half: rounding, and what the last step left.
    RECONSTRUCTION_ERROR: Metric(
        "||x - x_hat|| / ||x||, l2, mean",
        "reconstruction error",
        "rec error",
        worst=1.0,
        indifference=1.0,
        symbol=r"\|x - \hat{x}\| / \|x\|",
    ),
    "noise_error": Metric(
        "||x - x_hat|| / ||x||, l2, mean, from features rounded to bfloat16",
        "error from rounded features",
        "noise error",
        worst=1.0,
        indifference=1.0,
    ),
    "epoch_seconds": Metric(
        "seconds of training an epoch", "seconds an epoch", "s/epoch", repeatable=False
    ),
    TEST_ACCURACY: _accuracy("test set", "test accuracy", "test acc", steers=False),
    TEST_CERTIFIED_ACCURACY: _accuracy(
        f"test set, proven for all images within {_RADIUS}",
        "certified test accuracy",
        "test cert",
        steers=False,
        is_within_radius=True,
    ),
    ATTACKED_ACCURACY: _accuracy(
        f"first test images, attacked within {_RADIUS}",
        "attacked accuracy",
        "attacked",
        steers=False,
        is_within_radius=True,
    ),
    "peak_memory_bytes": Metric(
        "the most memory of the GPU that was in use",
        "peak GPU memory, bytes",
        "GPU bytes",
        steers=False,
    ),
    CPU_HOURS: Metric(
        "CPU time of the trial, hours", "CPU time, hours", "CPU h", steers=False, repeatable=False
    ),
    GPU_HOURS: Metric(
        "time for which the trial had its GPU, times its part of it, hours",
        "GPU time, hours",
        "GPU h",
        steers=False,
        repeatable=False,
    ),
}


def meaning(name: str, direction: Direction = Direction.MAXIMIZE) -> Metric:
    """What a reported number means, with or without a radius after its name. A metric of the
    user's own is known by its name, has four significant digits, and goes in the `direction` given.
    Its noise is not known, so any difference counts."""
    return METRICS.get(name.partition("@")[0]) or Metric(
        "measured by the study's own function on the validation split",
        name,
        name,
        direction,
        indifference=0.0,
        least=-math.inf,
    )


def current_name(metric: _T) -> _T | str:
    """Today's name of a metric, given that or a former name; anything else is returned as it is."""
    return FORMER_NAMES.get(metric, metric) if isinstance(metric, str) else metric


def with_current_names(by_metric: Mapping[str, _T]) -> dict[str, _T]:
    """The mapping with each metric under today's name, in the same order. If it has a metric under
    the former name too, the value under today's name counts."""
    renamed = {current_name(name): value for name, value in by_metric.items()}
    return {name: by_metric.get(name, value) for name, value in renamed.items()}


def as_reported(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics by name, each rounded to its resolution."""
    return {name: meaning(name).resolution.round(value) for name, value in metrics.items()}


def diverged(values: Mapping[str, float], objectives: Iterable[str]) -> str | None:
    """The first of the validation loss and the objectives that is not finite, as 'name is value';
    None if all are. Infinite proven bounds do not count: they mean that nothing is proven."""
    measured = (VAL_LOSS, *(name for name in objectives if name not in PROVEN_METRICS))
    return next(
        (f"{name} is {values[name]}" for name in measured if not math.isfinite(values[name])), None
    )
