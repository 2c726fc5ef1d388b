"""The settings of the search, the scheduler, and the resources of a trial."""

from dataclasses import dataclass
from typing import Any, Literal

from models import is_import_path, setting
from study.config.data import LARGEST
from study.config.imports import check_path
from study.errors import ConfigError, require, unknown

MOST_RUNGS = 100
SHARE = 0.0001
"""The smallest share of a CPU or a GPU that a trial can ask for: Ray counts no smaller ones."""
SAMPLERS = ("tpe", "nsga2", "gp", "sobol", "random", "grid")


@dataclass(frozen=True)
class StopConfig:
    """The stopping criterion: a study ends once its front no longer grows."""

    hypervolume_gain: float = setting(0.005, gt=0, lt=1)
    """Stop once the hypervolume has grown, over `over_trials`, by less than this part of itself."""
    over_trials: int = setting(10, ge=1, le=LARGEST)
    """How many of the latest completed trials the growth of the hypervolume is measured over."""


@dataclass(frozen=True)
class SearchConfig:
    """The sampler, the number of samples, and what is done with each."""

    sampler: str = "tpe"
    """tpe, nsga2, gp, sobol, random, grid, or the import path of a function of the user's own that
    takes a seed and returns an Optuna sampler that can be pickled."""
    n_trials: int | None = setting(None, ge=1, le=LARGEST)
    """Number of samples. With sampler grid it may be left out, and is the size of the grid."""
    first: tuple[dict[str, Any], ...] = ()
    """Samples to train before any of the sampler's: each a mapping, parameter of the space ->
    value. They count among n_trials, and a grid does not repeat them."""
    seed: int = setting(0, ge=0, lt=2**31)
    """Seed of the sampler and, with the trial's number, of each trial."""
    n_startup_trials: int = setting(10, ge=1, le=LARGEST)
    """tpe and gp: samples before the model is used: `first`, then a Sobol sequence."""
    ladder: tuple[float, ...] | int = ()
    """Bounds of each block's Lip(g) to which the network of each completed trial is projected, for
    further points of the front. A number n means n bounds, spaced by equal factors from the largest
    target of the study to the smallest. Each trial uses those below its own target."""
    fine_tune_steps: int = setting(0, ge=0, le=LARGEST)
    """Training steps at each rung of the ladder, before the projection."""
    members: int = setting(23, ge=1, le=1000)
    """With a family: how many members of it each completed trial gives besides its own network, at
    conditions that cover their ranges evenly."""
    control: bool = False
    """Also train a classifier alone for each completed trial: the head rows, with model.rows, on
    images in place of features, with the trial's settings. It shows what the blocks contribute, and
    is never on the front."""
    repeats: int = setting(1, ge=1, le=1000)
    """How often each sample is trained, with different seeds. It is not trained again once it is
    dominated by more than the spread of its trainings."""
    same_up_to: int | None = setting(None, ge=1, le=LARGEST)
    """The study is the same with so many trials at a time as with one: in the order of their
    numbers, a sample is proposed from the results of all samples before it but the last
    same_up_to - 1. A trial that would start sooner waits for them. Needs the scheduler fifo and no
    repeats. null proposes each sample from all results that are there."""
    stop: StopConfig | None = None
    """Stop proposing once the front no longer grows; null always proposes n_trials."""
    max_hours: float | None = setting(None, gt=0, le=LARGEST)
    """Start no trial after this many hours of all launches together; running trials finish."""

    def __post_init__(self) -> None:
        if is_import_path(self.sampler):
            check_path(self.sampler, "sampler")
        elif self.sampler not in SAMPLERS:
            raise ConfigError(unknown(self.sampler, SAMPLERS, "sampler"), "sampler")
        given = self.ladder if isinstance(self.ladder, int) else list(self.ladder)
        if isinstance(given, int):
            n_rungs = given
            require(n_rungs >= 0, "must be a list, or a number >= 0", "ladder", given)
        else:
            n_rungs = len(given)
            are_bounds = given == sorted({c for c in given if 0 < c < 1}, reverse=True)
            require(are_bounds, "must be decreasing bounds in (0, 1)", "ladder", given)
        require(n_rungs <= MOST_RUNGS, f"must be at most {MOST_RUNGS} bounds", "ladder", given)
        once = self.same_up_to is None or self.repeats == 1
        require(once, "must be left out with search.repeats", "same_up_to", self.same_up_to)


@dataclass(frozen=True)
class SchedulerConfig:
    """Which trials stop early. fifo stops none; asha halves by one objective; mo_asha by all
    objectives and, without a ladder, the constraints."""

    name: Literal["fifo", "asha", "mo_asha"] = "fifo"
    metric: str | None = None
    """asha: the objective to compare; the first by default."""
    grace_period: int = setting(1, ge=1, le=LARGEST)
    """Epochs before a trial may be stopped."""
    reduction_factor: int = setting(3, ge=2, le=LARGEST)
    """One trial in this many goes on from each rung, at epoch grace_period * reduction_factor^i."""
    brackets: int = setting(1, ge=1, le=1000)
    """Trial number t skips the first t mod brackets rungs: 0, 1, ... in turn."""

    def __post_init__(self) -> None:
        rule = "must be left out with mo_asha, which takes all objectives"
        require(self.metric is None or self.name != "mo_asha", rule, "metric", self.metric)


@dataclass(frozen=True)
class ResourcesConfig:
    """The resources of each trial. Trials with fractions of a GPU share it."""

    cpus: float = setting(1, ge=SHARE, le=10_000)
    """A fraction of one CPU, or a whole number of CPUs."""
    gpus: float = setting(0, ge=0, le=1)
    """Number or fraction of GPUs, at most 1: a trial trains on one GPU."""

    def __post_init__(self) -> None:
        rule = f"must be 0, or at least {SHARE:g}"
        require(self.gpus == 0 or self.gpus >= SHARE, rule, "gpus", self.gpus)
        is_possible = self.cpus <= 1 or self.cpus == int(self.cpus)  # Ray's own rule
        require(is_possible, "must be at most 1, or a whole number", "cpus", self.cpus)
