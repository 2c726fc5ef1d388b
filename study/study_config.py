"""A whole study, checked: frozen dataclasses, and the trial that a sample means.

Each checks itself, as those of study.trial_config do; study.config reads them from a file.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, ClassVar, Literal

from study.metrics import Direction
from study.search_space import Parameter, Value
from study.trial_config import (
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    TrainingConfig,
    TrialConfig,
    require,
)

# Settings that a network without spectral normalization does not look at.
_OF_SPECTRAL_NORM = ("coeff", "n_power_iterations")
# Where a number of rungs has to go down to, if the study does not vary the coefficient: the
# smallest of the paper's.
LOWEST_COEFF = 0.3


@dataclass(frozen=True)
class StopConfig:
    """When a study has found enough: the front no longer grows."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    hypervolume_gain: float = 0.005
    """Stop once the hypervolume has grown by less than this part of itself ..."""
    over_trials: int = 10
    """... over this many trials that completed last."""

    def __post_init__(self) -> None:
        require(
            0 < self.hypervolume_gain < 1,
            "0 < hypervolume_gain < 1",
            hypervolume_gain=self.hypervolume_gain,
        )
        require(self.over_trials >= 1, "over_trials >= 1", over_trials=self.over_trials)


@dataclass(frozen=True)
class SearchConfig:
    """Who proposes the samples, how many, and what is made of each."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    sampler: Literal["tpe", "nsga2", "gp", "random", "grid"] = "tpe"
    n_trials: int | None = None
    """How many samples. May be left out for a grid: its size."""
    seed: int = 0
    """Of the sampler, and, with the trial's number, of each trial."""
    n_startup_trials: int = 10
    """tpe and gp: random samples before the model of the objectives is used."""
    ladder: tuple[float, ...] | int = ()
    """Coefficients to which the network of each completed trial is projected, without training:
    further points of the front. A number means that many, from the largest coefficient of the
    study to its smallest by equal factors. Each trial takes those below its own."""
    fine_tune_steps: int = 0
    """Training steps at each coefficient of the ladder."""
    repeats: int = 1
    """Each sample is trained this many times, with different seeds. A sample that is dominated
    by more than its spread is not trained again."""
    stop: StopConfig | None = None
    """Propose no more once the front no longer grows; null proposes n_trials in any case."""
    max_hours: float | None = None
    """Propose no more after this many hours, a resumed study's earlier ones included; what runs
    then is trained to its end."""
    warm_start: tuple[str, ...] = ()
    """Names of earlier studies, whose completed trials the sampler, tpe or gp, learns from."""

    def __post_init__(self) -> None:
        rungs = self.ladder if isinstance(self.ladder, tuple) else ()
        require(
            all(0 < c < 1 for c in rungs) and list(rungs) == sorted(set(rungs), reverse=True),
            "a ladder of decreasing coefficients in (0, 1)",
            ladder=list(rungs),
        )
        require(
            isinstance(self.ladder, tuple) or self.ladder >= 0,
            "ladder >= 0",
            ladder=self.ladder,
        )
        require(
            self.fine_tune_steps >= 0, "fine_tune_steps >= 0", fine_tune_steps=self.fine_tune_steps
        )
        require(self.repeats >= 1, "repeats >= 1", repeats=self.repeats)
        require(
            len(set(self.warm_start)) == len(self.warm_start),
            "distinct studies in warm_start",
            warm_start=list(self.warm_start),
        )
        require(
            self.max_hours is None or self.max_hours > 0, "max_hours > 0", max_hours=self.max_hours
        )
        require(
            self.n_trials is None or self.n_trials >= 1, "n_trials >= 1", n_trials=self.n_trials
        )
        require(0 <= self.seed < 2**31, "0 <= seed < 2**31", seed=self.seed)
        require(
            self.n_startup_trials >= 1,
            "n_startup_trials >= 1",
            n_startup_trials=self.n_startup_trials,
        )


@dataclass(frozen=True)
class SchedulerConfig:
    """Which trials stop early: fifo stops none; mo_asha halves on all objectives and
    constraints, asha on one objective."""

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
        require(self.grace_period >= 1, "grace_period >= 1", grace_period=self.grace_period)
        require(
            self.reduction_factor >= 2,
            "reduction_factor >= 2",
            reduction_factor=self.reduction_factor,
        )
        require(self.brackets >= 1, "brackets >= 1", brackets=self.brackets)
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
        require(self.cpus > 0, "cpus > 0", cpus=self.cpus)
        require(self.gpus >= 0, "gpus >= 0", gpus=self.gpus)
        for name, amount in (("cpus", self.cpus), ("gpus", self.gpus)):
            whole = amount <= 1 or amount == int(amount)  # Ray's own rule
            require(whole, f"{name} <= 1 or a whole number", **{name: amount})


@dataclass(frozen=True)
class Objective:
    """A metric and which way is better; reference is its coordinate of the reference point."""

    metric: str
    direction: Direction
    reference: float


@dataclass(frozen=True)
class Constraint:
    """A metric that a trial must keep on one side of a bound to be on the front."""

    metric: str
    operator: Literal["<", "<=", ">", ">="]
    bound: float

    def holds(self, value: float) -> bool:
        """Whether a value meets it; NaN meets none."""
        return {
            "<": value < self.bound,
            "<=": value <= self.bound,
            ">": value > self.bound,
            ">=": value >= self.bound,
        }[self.operator]

    def violation(self, value: float) -> float:
        """Above 0 by how much the bound is missed; at most 0 where it is met."""
        return value - self.bound if self.operator in ("<", "<=") else self.bound - value

    def __str__(self) -> str:
        return f"{self.operator} {self.bound:g}"


@dataclass(frozen=True)
class StudyConfig:
    """A whole study, checked."""

    name: str
    space: tuple[tuple[str, Parameter], ...]
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    data: DataConfig
    model: ModelConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    search: SearchConfig
    scheduler: SchedulerConfig
    resources: ResourcesConfig

    @property
    def n_trials(self) -> int:
        """How many samples are asked for."""
        assert self.search.n_trials is not None
        return self.search.n_trials

    @property
    def n_trainings(self) -> int:
        """How many trials there are at most: samples, and their repeats."""
        return self.n_trials * self.search.repeats

    @property
    def ladder(self) -> tuple[float, ...]:
        """The coefficients to which trained networks are projected, decreasing."""
        if isinstance(self.search.ladder, tuple):
            return self.search.ladder
        searched = dict(self.space).get("coeff")
        values = [self.model.coeff] if searched is None else searched.extremes()
        coeffs = [float(value) for value in values if isinstance(value, int | float)]
        high, low = max(coeffs), min(coeffs)
        if low == high:
            low = min(high, LOWEST_COEFF)
        n = self.search.ladder
        steps = (high * (low / high) ** (i / n) for i in range(1, n + 1))
        return tuple(dict.fromkeys(float(f"{coeff:.4g}") for coeff in steps if coeff < high))

    def grid(self) -> list[dict[str, Value]] | None:
        """Every sample of the space, in its order; None where a parameter has too many values to
        list. Of samples that mean the same network, one with norm none at two coefficients say,
        the first."""
        values = [parameter.grid() for _, parameter in self.space]
        if None in values:
            return None
        keys = [key for key, _ in self.space]
        samples: dict[str, dict[str, Value]] = {}
        for point in product(*(choices or [] for choices in values)):
            sample = dict(zip(keys, point, strict=True))
            meaning = sample
            if sample.get("norm", self.model.norm) != "spectral":
                meaning = {k: v for k, v in sample.items() if k not in _OF_SPECTRAL_NORM}
            samples.setdefault(json.dumps(meaning), sample)
        return list(samples.values())

    def settle(self, sample: Mapping[str, Value], seed: int) -> TrialConfig:
        """The trial that a sample of the space means."""
        sections = {name: getattr(self, name) for name in SEARCHABLE}
        for key, value in sample.items():
            section = SECTION_OF[key]
            settled = tuple(value) if isinstance(value, list) else value
            sections[section] = replace(sections[section], **{key: settled})
        model = sections["model"]
        # Where no norm is enforced, every rung is below what the layers have.
        top = model.coeff if model.norm == "spectral" else 1.0
        return TrialConfig(
            seed=seed,
            ladder=tuple(coeff for coeff in self.ladder if coeff < top),
            fine_tune_steps=self.search.fine_tune_steps,
            evaluation=self.evaluation,
            objectives=tuple(objective.metric for objective in self.objectives),
            **sections,
        )

    def to_dict(self) -> dict[str, Any]:
        """As a study file says it, every default spelled out; config.parse of it is the same."""
        searched = {key for key, _ in self.space}
        sections = {
            name: {k: v for k, v in asdict(getattr(self, name)).items() if k not in searched}
            for name in (*SEARCHABLE, "evaluation", "search", "scheduler", "resources")
        }
        plain = {
            "name": self.name,
            **sections,
            "space": {key: asdict(parameter) for key, parameter in self.space},
            "objectives": {o.metric: o.direction.value for o in self.objectives},
            "constraints": {c.metric: str(c) for c in self.constraints},
            "reference_point": {o.metric: o.reference for o in self.objectives},
        }
        as_json: dict[str, Any] = json.loads(json.dumps(plain))  # tuples become lists
        return as_json


SEARCHABLE: dict[str, Any] = {
    "data": DataConfig,
    "model": ModelConfig,
    "training": TrainingConfig,
}
"""Sections whose keys may stand in `space` instead."""
FIXED: dict[str, Any] = {
    "evaluation": EvaluationConfig,
    "search": SearchConfig,
    "scheduler": SchedulerConfig,
    "resources": ResourcesConfig,
}
SECTION_OF = {
    key: section for section, kind in SEARCHABLE.items() for key in kind.__dataclass_fields__
}
"""Key of a searchable section -> the section."""
