"""A whole study: its sections, the rules between them, and the trial that a sample means."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from operator import gt, lt
from typing import Any

from models import Span, is_import_path
from study.config.data import DataConfig
from study.config.search import ResourcesConfig, SchedulerConfig, SearchConfig
from study.config.space import MOST_VALUES, FloatParameter, Parameter, Value, is_active
from study.config.trial import (
    COEFF,
    EvaluationConfig,
    ModelConfig,
    OwnMetric,
    TrainingConfig,
    TrialConfig,
)
from study.errors import ConfigError, require, unknown
from study.metrics.definitions import METRICS, Direction, Metric, meaning
from study.metrics.goals import Constraint, Objective, as_in_a_file
from study.metrics.reports import PROJECTED_METRICS

# Settings that have no effect without spectral normalization.
_OF_SPECTRAL_NORM = (COEFF, "n_power_iterations", "budget")
# Last rung of a ladder of n rungs if the study fixes the coefficient: the paper's smallest.
_LOWEST_COEFF = 0.3


@dataclass(frozen=True)
class StudyConfig:
    """A study. `completed` checks the rules across its sections."""

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
    metrics: tuple[tuple[str, OwnMetric], ...] = ()
    callbacks: tuple[str, ...] = ()
    family: tuple[tuple[str, Span], ...] = ()

    @property
    def gives_several(self) -> bool:
        """Whether a training gives further networks for the front, besides its own."""
        return bool(self.search.ladder or self.family)

    @property
    def known_metrics(self) -> dict[str, Metric]:
        """Name -> meaning of each metric, at the study's radius; the user's own come last."""
        radius, unit = self.evaluation.radius, self.data.unit
        known = {name: metric.at(radius, unit) for name, metric in METRICS.items()}
        own = {name: meaning(name, Direction(of.direction)) for name, of in self.metrics}
        return {**known, **own}

    @property
    def import_paths(self) -> tuple[tuple[str, str], ...]:
        """(key of the study file, import path) for each piece of the user's own code."""
        named = (
            ("data.name", self.data.name),
            ("model.block", self.model.block),
            *((f"{SECTION_OF[key]}.{key}", v) for key, p in self.space for v in p.extremes()),
            *((f"metrics.{name}.of", of.of) for name, of in self.metrics),
            *(("callbacks", path) for path in self.callbacks),
            ("search.sampler", self.search.sampler),
        )
        return tuple((key, at) for key, at in named if is_import_path(at))

    @property
    def proven_by(self) -> tuple[str, ...]:
        """Import paths of blocks whose bounds their author states, and nothing here proves."""
        return tuple(path for key, path in self.import_paths if key == "model.block")

    @property
    def to_verify(self) -> tuple[str, ...]:
        """The options that study.verify needs for this study's networks."""
        return ("--trust",) if self.proven_by else ()

    @property
    def goals(self) -> tuple[Objective | Constraint, ...]:
        """The objectives, followed by the constraints."""
        return (*self.objectives, *self.constraints)

    @property
    def n_trials(self) -> int:
        """The number of samples."""
        assert self.search.n_trials is not None
        return self.search.n_trials

    @property
    def n_trainings(self) -> int:
        """The largest possible number of trials: samples times repeats."""
        return self.n_trials * self.search.repeats

    @property
    def ladder(self) -> tuple[float, ...]:
        """The bounds to which trained networks are projected, decreasing."""
        if isinstance(self.search.ladder, tuple):
            return self.search.ladder
        searched = dict(self.space).get(COEFF)
        values = [self.model.coeff] if searched is None else searched.extremes()
        coeffs = [float(value) for value in values if isinstance(value, int | float)]
        high, low = max(coeffs), min(coeffs)
        if low == high:
            low = min(high, _LOWEST_COEFF)
        high, low = (replace(self.model, coeff=coeff).target for coeff in (high, low))
        n = self.search.ladder
        steps = (high * (low / high) ** (i / n) for i in range(1, n + 1))
        return tuple(dict.fromkeys(float(f"{bound:.4g}") for bound in steps if bound < high))

    def active(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """The sample made of these values, without parameters whose `when` does not hold."""
        sample: dict[str, Value] = {}
        for key, parameter in self.space:
            if is_active(parameter, sample):
                sample[key] = values[key]
        return sample

    def grid(self) -> list[dict[str, Value]]:
        """Every sample of a grid: search.first, then the others in order. Of samples that mean the
        same network, only the first is kept: without spectral normalization, for one, the
        coefficient has no effect."""
        keys = [key for key, _ in self.space]
        given = ({key: one[key] for key in keys if key in one} for one in self.search.first)
        points = product(*(parameter.grid() or [] for _, parameter in self.space))
        whole = (self.active(dict(zip(keys, point, strict=True))) for point in points)
        samples: dict[str, dict[str, Value]] = {}
        for sample in (*given, *whole):
            meaning = sample
            if sample.get("norm", self.model.norm) != "spectral":
                meaning = {k: v for k, v in sample.items() if k not in _OF_SPECTRAL_NORM}
            samples.setdefault(json.dumps(meaning), sample)
        return list(samples.values())

    def resolve(self, sample: Mapping[str, Value], seed: int) -> TrialConfig:
        """The settings of the trial that trains a sample of the space with a seed."""
        sections = {name: getattr(self, name) for name in SEARCHABLE}
        for key, value in sample.items():
            section = SECTION_OF[key]
            frozen = tuple(value) if isinstance(value, list) else value
            sections[section] = replace(sections[section], **{key: frozen})
        for key, span in self.family:
            section = SECTION_OF[key]
            sections[section] = replace(sections[section], **{key: span.middle})
        top = sections["model"].target
        # Metric -> the direction of its objective and its constraint, or one of them.
        goals: dict[str, list[str]] = {}
        for goal in self.goals:
            goals.setdefault(goal.metric, []).append(str(goal))
        return TrialConfig(
            seed=seed,
            ladder=tuple(bound for bound in self.ladder if bound < top),
            fine_tune_steps=self.search.fine_tune_steps,
            family=self.family,
            members=self.search.members if self.family else 0,
            control=self.search.control,
            evaluation=self.evaluation,
            objectives=tuple(objective.metric for objective in self.objectives),
            goals=tuple((metric, ", ".join(texts)) for metric, texts in goals.items()),
            metrics=tuple((name, of.of) for name, of in self.metrics),
            **sections,
        )

    def to_dict(self) -> dict[str, Any]:
        """The content of a study file with all defaults; `parse` turns it into the same study."""
        searched = {(SECTION_OF[key], key) for key, _ in (*self.space, *self.family)}
        sections = {
            name: {
                k: v for k, v in asdict(getattr(self, name)).items() if (name, k) not in searched
            }
            for name in SECTIONS
        }
        whole: dict[str, Any] = {
            "name": self.name,
            **sections,
            "metrics": {name: asdict(of) for name, of in self.metrics},
            "callbacks": list(self.callbacks),
            "space": {
                key: {k: v for k, v in asdict(p).items() if v is not None} for key, p in self.space
            },
            "family": {key: asdict(span) for key, span in self.family},
            "objectives": {o.metric: o.direction.value for o in self.objectives},
            "constraints": as_in_a_file(self.constraints),
            "reference_point": {o.metric: o.reference for o in self.objectives},
        }
        return {key: _plain(value) for key, value in whole.items()}

    def to_short_dict(self) -> dict[str, Any]:
        """The content of a study file without defaults; `parse` turns it into the same study."""
        whole = self.to_dict()
        for name, kind in SECTIONS.items():
            defaults = _plain(asdict(kind()))
            section = whole.pop(name).items()
            whole[name] = {key: value for key, value in section if value != defaults[key]}
        return {key: value for key, value in whole.items() if value not in ({}, [])}

    def completed(self) -> "StudyConfig":
        """The study, checked across its sections, with the settings filled in that depend on
        others: n_trials of a grid, the metric of asha, the radius, and exact values of the space in
        search.first. Raises ConfigError for the first setting that breaks a rule."""
        self._check_ladder()
        self._check_further_networks()
        self._check_sampler()
        scheduler = replace(self.scheduler, metric=self._resolved_scheduler_metric())
        search = replace(self.search, first=tuple(map(self._resolved_first, self.search.first)))
        evaluation = self.evaluation
        if evaluation.radius is None:
            evaluation = replace(evaluation, radius=self.data.radius)
        study = replace(self, search=search, scheduler=scheduler, evaluation=evaluation)
        study = replace(study, search=replace(search, n_trials=study._resolved_n_trials()))
        study._check_goals()
        return study

    def _check_ladder(self) -> None:
        """Check that a ladder stands alone and has rungs."""
        key, rungs = "search.ladder", _plain(self.search.ladder)
        if not rungs:
            return
        require(not self.family, "must be left out with a family", key, rungs)
        is_batch = self.model.norm == "batch" and "norm" not in dict(self.space)
        rule = "must be left out with norm 'batch', whose factors follow the data"
        require(not is_batch, rule, key, rungs)
        rule = (
            "must have room for rungs between the largest coefficient of the study and the "
            f"smallest, or {_LOWEST_COEFF:g}"
        )
        require(bool(self.ladder), rule, key, rungs)

    def _check_further_networks(self) -> None:
        """Check that projections and members, which are points of the front like the networks of
        trials, have every metric of the goals."""
        if self.family:
            key, given = "family", [name for name, _ in self.family]
        elif self.search.ladder:
            key, given = "search.ladder", _plain(self.search.ladder)
        else:
            return
        measured = {*PROJECTED_METRICS, *(name for name, _ in self.metrics)}
        for metric in sorted({goal.metric for goal in self.goals}):
            rule = (
                f"must be left out with objective or constraint '{metric}', which a network that "
                "is projected without training does not have"
            )
            require(metric in measured, rule, key, given)

    def _check_sampler(self) -> None:
        name = self.scheduler.name
        rule = (
            f"must be another with scheduler '{name}': gp does not learn from trials that were "
            "stopped, and proposes their samples again"
        )
        require(self.search.sampler != "gp" or name == "fifo", rule, "search.sampler", "gp")
        same_up_to = self.search.same_up_to
        rule = f"must be left out with scheduler '{name}', which stops trials as results come in"
        require(same_up_to is None or name == "fifo", rule, "search.same_up_to", same_up_to)

    def _check_goals(self) -> None:
        """Check that a network can meet each constraint and be better than the reference point."""
        known = self.known_metrics
        for constraint in self.constraints:
            metric, best = constraint.metric, known[constraint.metric].limit(constraint.direction)
            side = "least" if constraint.direction is Direction.MINIMIZE else "most"
            rule = f"must be one that a network can meet: {metric} is at {side} {best:g}"
            require(constraint.holds(best), rule, f"constraints.{metric}", str(constraint))
        for objective in self.objectives:
            known_as, reference = known[objective.metric], objective.reference
            key = f"reference_point.{objective.metric}"
            rule = "must be above 0, since the hypervolume takes its logarithm"
            require(reference > 0 or not known_as.in_decades, rule, key, reference)
            best = known_as.limit(objective.direction)
            is_minimized = objective.direction is Direction.MINIMIZE
            side, is_worse = ("above", gt) if is_minimized else ("below", lt)
            rule = f"must be {side} {best:g}, since no network is better than that"
            require(is_worse(reference, best), rule, key, reference)

    def _resolved_first(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """Check a sample of search.first; returns it with floats as the space has them: 1 becomes
        1.0, and with a step the value on the grid."""
        place, space = "search.first", dict(self.space)
        for key in sample:
            if key not in space:
                raise ConfigError(unknown(key, tuple(space), "parameter"), place)
        for key, parameter in self.space:
            if is_active(parameter, sample):
                require(key in sample, f"must have a value of {key}", place, sample)
                is_inside = parameter.contains(sample[key])
                require(is_inside, f"{key} must be in space.{key}", place, sample[key])
            else:
                rule = f"must have no value of {key}, by its when"
                require(key not in sample, rule, place, sample)
        floats = {key: p for key, p in self.space if isinstance(p, FloatParameter)}
        return {k: floats[k].nearest(v) if k in floats else v for k, v in sample.items()}

    def _resolved_n_trials(self) -> int | None:
        n_trials, key = self.search.n_trials, "search.n_trials"
        if self.search.sampler != "grid":
            require(n_trials is not None, "this key is required", key)
            return n_trials
        size = 1
        for name, parameter in self.space:
            rule = f"for sampler grid it must have at most {MOST_VALUES} values"
            if isinstance(parameter, FloatParameter) and parameter.step is None:
                rule = "for sampler grid a float parameter must have a step, or be categorical"
            values = parameter.grid()
            require(values is not None, rule, f"space.{name}")
            size *= len(values or [])
        rule = f"for sampler grid it must have at most {MOST_VALUES} samples"
        require(size <= MOST_VALUES, rule, "space")
        size = len(self.grid())
        rule = f"must be at most the size of the grid, {size}"
        require(n_trials is None or n_trials <= size, rule, key, n_trials)
        return n_trials or size

    def _resolved_scheduler_metric(self) -> str | None:
        names = tuple(objective.metric for objective in self.objectives)
        metric = self.scheduler.metric
        rule = f"must be one of {', '.join(names)}"
        require(metric is None or metric in names, rule, "scheduler.metric", metric)
        return metric or names[0] if self.scheduler.name == "asha" else metric


def _plain(content: Any) -> Any:
    """The content as a study file has it, with lists for tuples."""
    return json.loads(json.dumps(content))


SEARCHABLE: dict[str, Any] = {
    "data": DataConfig,
    "model": ModelConfig,
    "training": TrainingConfig,
}
"""Section -> its class, for the sections whose keys may be searched, in `space`."""
SECTIONS: dict[str, Any] = {
    **SEARCHABLE,
    "evaluation": EvaluationConfig,
    "search": SearchConfig,
    "scheduler": SchedulerConfig,
    "resources": ResourcesConfig,
}
SECTION_OF = {field.name: section for section, kind in SEARCHABLE.items() for field in fields(kind)}
"""Key of a searchable section -> the section."""
