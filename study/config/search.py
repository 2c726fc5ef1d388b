"""The settings of the search, of the scheduler, and of a trial's share of the machine."""

import shlex
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from study.config.rules import check, require


def _is_command(text: str) -> bool:
    try:
        return bool(shlex.split(text))
    except ValueError:  # a quotation that does not end
        return False


@dataclass(frozen=True)
class StopConfig:
    """The stopping criterion: a study ends once its front no longer grows."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    hypervolume_gain: float = 0.005
    """Stop once the hypervolume has grown by less than this part of itself ..."""
    over_trials: int = 10
    """... over this many trials that completed last."""

    def __post_init__(self) -> None:
        check(self, "0 < hypervolume_gain < 1", "over_trials >= 1")


@dataclass(frozen=True)
class SearchConfig:
    """Who proposes the samples, how many, and what is made of each."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    sampler: Literal["tpe", "nsga2", "gp", "sobol", "random", "grid"] = "tpe"
    n_trials: int | None = None
    """How many samples. May be left out for a grid: its size."""
    first: tuple[dict[str, Any], ...] = ()
    """Samples that come before the sampler's: parameter of the space -> value. They count among
    n_trials, and a grid does not repeat them."""
    seed: int = 0
    """Of the sampler, and, with the trial's number, of each trial."""
    n_startup_trials: int = 10
    """tpe and gp: samples before the model of the objectives is used. Those of `first` and of
    earlier studies count among them; the others are those of sobol that no earlier study has."""
    ladder: tuple[float, ...] | int = ()
    """Coefficients to which the network of each completed trial is projected: further points of
    the front. A number means that many, from the largest coefficient of the study to its smallest
    by equal factors. Each trial takes those below its own."""
    fine_tune_steps: int = 0
    """Training steps at each coefficient of the ladder."""
    repeats: int = 1
    """Each sample is trained this many times, with different seeds. A sample that is dominated
    by more than its spread is not trained again."""
    stop: StopConfig | None = None
    """Propose no more once the front no longer grows; null proposes n_trials in any case."""
    max_hours: float | None = None
    """Propose no more after this many hours, those before a --resume included. Trials that run
    then are trained to their end."""
    warm_start: tuple[str, ...] = ()
    """Names of earlier studies, whose completed trials the sampler, tpe or gp, learns from."""
    notify: str | None = None
    """A program and its arguments, run when the study has ended, was interrupted or failed, with
    STUDY_NAME, STUDY_STATE and STUDY_FRONT in its environment; by no shell."""

    def __post_init__(self) -> None:
        rungs = self.ladder if isinstance(self.ladder, tuple) else ()
        require(
            all(0 < c < 1 for c in rungs) and list(rungs) == sorted(set(rungs), reverse=True),
            "a ladder of decreasing coefficients in (0, 1)",
            ladder=list(rungs),
        )
        if isinstance(self.ladder, int):
            check(self, "ladder >= 0")
        check(self, "fine_tune_steps >= 0", "repeats >= 1")
        require(
            len(set(self.warm_start)) == len(self.warm_start),
            "distinct studies in warm_start",
            warm_start=list(self.warm_start),
        )
        require(
            self.notify is None or _is_command(self.notify),
            "a program and its arguments, quoted as for a shell, in notify",
            notify=self.notify,
        )
        check(self, "max_hours > 0", "n_trials >= 1", "0 <= seed < 2**31", "n_startup_trials >= 1")


@dataclass(frozen=True)
class SchedulerConfig:
    """Which trials stop early: fifo stops none; asha halves on one objective; mo_asha on all of
    them, and, where there is no ladder, on the constraints."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    name: Literal["fifo", "asha", "mo_asha"] = "fifo"
    metric: str | None = None
    """asha: the objective it looks at; the first one if left out."""
    grace_period: int = 1
    """Epochs before a trial may be stopped."""
    reduction_factor: int = 3
    """One trial in this many goes on from each rung; rungs are at epochs
    grace_period * reduction_factor^i."""
    brackets: int = 1
    """A trial skips the first s rungs, s its number modulo this: 0, 1, ... in turn."""

    def __post_init__(self) -> None:
        check(self, "grace_period >= 1", "reduction_factor >= 2", "brackets >= 1")
        require(
            self.metric is None or self.name != "mo_asha",
            "no metric for mo_asha, which takes all objectives,",
            metric=self.metric,
            name=self.name,
        )


@dataclass(frozen=True)
class ResourcesConfig:
    """What each trial is given. A fraction of a GPU is shared with other trials."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    cpus: float = 1
    gpus: float = 0

    def __post_init__(self) -> None:
        check(self, "cpus > 0", "gpus >= 0")
        require(self.gpus <= 1, "gpus <= 1, since a trial trains on one GPU,", gpus=self.gpus)
        for name, amount in (("cpus", self.cpus), ("gpus", self.gpus)):
            whole = amount <= 1 or amount == int(amount)  # Ray's own rule
            require(whole, f"{name} <= 1 or a whole number", **{name: amount})
