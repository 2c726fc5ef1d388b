"""The settings of the search, of the scheduler, and of a trial's share of the machine."""

from dataclasses import dataclass
from typing import Any, Literal

from study.config.trial import setting
from study.errors import ConfigError


@dataclass(frozen=True)
class StopConfig:
    """The stopping criterion: a study ends once its front no longer grows."""

    hypervolume_gain: float = setting(0.005, gt=0, lt=1)
    """Stop once the hypervolume has grown by less than this part of itself ..."""
    over_trials: int = setting(10, ge=1)
    """... over this many trials that completed last."""


@dataclass(frozen=True)
class SearchConfig:
    """Who proposes the samples, how many, and what is made of each."""

    sampler: Literal["tpe", "nsga2", "gp", "sobol", "random", "grid"] = "tpe"
    n_trials: int | None = setting(None, ge=1)
    """How many samples. May be left out for a grid: its size."""
    first: tuple[dict[str, Any], ...] = ()
    """Samples that come before the sampler's: parameter of the space -> value. They count among
    n_trials, and a grid does not repeat them."""
    seed: int = setting(0, ge=0, lt=2**31)
    """Of the sampler, and, with the trial's number, of each trial."""
    n_startup_trials: int = setting(10, ge=1)
    """tpe and gp: samples before the model of the objectives is used. Those of `first` count among
    them; the others are those of sobol."""
    ladder: tuple[float, ...] | int = ()
    """Coefficients to which the network of each completed trial is projected: further points of
    the front. A number means that many, from the largest coefficient of the study to its smallest
    by equal factors. Each trial takes those below its own."""
    fine_tune_steps: int = setting(0, ge=0)
    """Training steps at each coefficient of the ladder."""
    repeats: int = setting(1, ge=1)
    """Each sample is trained this many times, with different seeds. A sample that is dominated
    by more than its spread is not trained again."""
    stop: StopConfig | None = None
    """Propose no more once the front no longer grows; null proposes n_trials in any case."""
    max_hours: float | None = setting(None, gt=0)
    """Propose no more after this many hours, those before it was resumed included. Trials that run
    then are trained to their end."""

    def __post_init__(self) -> None:
        if isinstance(self.ladder, int):
            if self.ladder < 0:
                raise ConfigError("must be a list, or a number >= 0", "ladder", self.ladder)
        elif list(self.ladder) != sorted({c for c in self.ladder if 0 < c < 1}, reverse=True):
            rule = "must be decreasing coefficients in (0, 1)"
            raise ConfigError(rule, "ladder", list(self.ladder))


@dataclass(frozen=True)
class SchedulerConfig:
    """Which trials stop early: fifo stops none; asha halves on one objective; mo_asha on all of
    them, and, where there is no ladder, on the constraints."""

    name: Literal["fifo", "asha", "mo_asha"] = "fifo"
    metric: str | None = None
    """asha: the objective it looks at; the first one if left out."""
    grace_period: int = setting(1, ge=1)
    """Epochs before a trial may be stopped."""
    reduction_factor: int = setting(3, ge=2)
    """One trial in this many goes on from each rung; rungs are at epochs
    grace_period * reduction_factor^i."""
    brackets: int = setting(1, ge=1)
    """A trial skips the first s rungs, s its number modulo this: 0, 1, ... in turn."""

    def __post_init__(self) -> None:
        if self.metric is not None and self.name == "mo_asha":
            rule = "must be left out with mo_asha, which takes all objectives"
            raise ConfigError(rule, "metric", self.metric)


@dataclass(frozen=True)
class ResourcesConfig:
    """What each trial is given. A fraction of a GPU is shared with other trials."""

    cpus: float = setting(1, gt=0)
    """A part of one, or a whole number."""
    gpus: float = setting(0, ge=0, le=1)
    """At most 1: a trial trains on one GPU."""

    def __post_init__(self) -> None:
        if self.cpus > 1 and self.cpus != int(self.cpus):  # Ray's own rule
            raise ConfigError("must be at most 1, or a whole number", "cpus", self.cpus)
