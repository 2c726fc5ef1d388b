"""A whole study: its sections, the rules between them, and the trial that a sample means."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from typing import Any

from models import is_import_path
from study.config.search import ResourcesConfig, SchedulerConfig, SearchConfig
from study.config.space import MOST_VALUES, FloatParameter, Parameter, Value, is_active
from study.config.trial import (
    COEFF,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OwnMetric,
    TrainingConfig,
    TrialConfig,
    default_radius,
)
from study.errors import ConfigError, unknown
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

    @property
    def known_metrics(self) -> dict[str, Metric]:
        """What each metric of the study means, with its radius, those of the user's own last."""
        known = {name: metric.at(self.evaluation.radius) for name, metric in METRICS.items()}
        own = {name: meaning(name, Direction(of.direction)) for name, of in self.metrics}
        return {**known, **own}

    @property
    def import_paths(self) -> tuple[tuple[str, str], ...]:
        """(key of the study file, import path), of all code of the user's own."""
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
        """The import paths of blocks whose bounds are the word of their author."""
        return tuple(path for key, path in self.import_paths if key == "model.block")

    @property
    def to_verify(self) -> tuple[str, ...]:
        """The options of study.verify that its networks need."""
        return ("--trust",) if self.proven_by else ()

    @property
    def n_trials(self) -> int:
        """The number of samples."""
        assert self.search.n_trials is not None
        return self.search.n_trials

    @property
    def n_trainings(self) -> int:
        """The most trials: samples and their repeats."""
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
        """A sample with a value of each parameter, without those whose `when` it does not meet."""
        sample: dict[str, Value] = {}
        for key, parameter in self.space:
            if is_active(parameter, sample):
                sample[key] = values[key]
        return sample

    def grid(self) -> list[dict[str, Value]] | None:
        """Every sample of the space: those of search.first, then the others in order; None if a
        parameter has too many values to list. Of samples that mean the same network, only the
        first: without spectral normalization the coefficient has no effect."""
        values = [parameter.grid() for _, parameter in self.space]
        if None in values:
            return None
        keys = [key for key, _ in self.space]
        points = product(*(choices or [] for choices in values))
        given = (
            {key: sample[key] for key in keys if key in sample} for sample in self.search.first
        )
        samples: dict[str, dict[str, Value]] = {}
        whole = (self.active(dict(zip(keys, point, strict=True))) for point in points)
        for sample in (*given, *whole):
            meaning = sample
            if sample.get("norm", self.model.norm) != "spectral":
                meaning = {k: v for k, v in sample.items() if k not in _OF_SPECTRAL_NORM}
            samples.setdefault(json.dumps(meaning), sample)
        return list(samples.values())

    @property
    def _goals(self) -> dict[str, list[str]]:
        """Metric -> the direction of its objective and its constraint, or one of them."""
        goals: dict[str, list[str]] = {}
        for objective in self.objectives:
            goals.setdefault(objective.metric, []).append(objective.direction.value)
        for constraint in self.constraints:
            goals.setdefault(constraint.metric, []).append(str(constraint))
        return goals

    def resolve(self, sample: Mapping[str, Value], seed: int) -> TrialConfig:
        """The trial that a sample of the space means."""
        sections = {name: getattr(self, name) for name in SEARCHABLE}
        for key, value in sample.items():
            section = SECTION_OF[key]
            frozen = tuple(value) if isinstance(value, list) else value
            sections[section] = replace(sections[section], **{key: frozen})
        top = sections["model"].target
        return TrialConfig(
            seed=seed,
            ladder=tuple(bound for bound in self.ladder if bound < top),
            fine_tune_steps=self.search.fine_tune_steps,
            control=self.search.control,
            evaluation=self.evaluation,
            objectives=tuple(objective.metric for objective in self.objectives),
            goals=tuple((metric, ", ".join(goals)) for metric, goals in self._goals.items()),
            metrics=tuple((name, of.of) for name, of in self.metrics),
            **sections,
        )

    def to_dict(self) -> dict[str, Any]:
        """The content of a study file with all defaults; `parse` turns it into the same study."""
        searched = {(SECTION_OF[key], key) for key, _ in self.space}
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
            "objectives": {o.metric: o.direction.value for o in self.objectives},
            "constraints": as_in_a_file(self.constraints),
            "reference_point": {o.metric: o.reference for o in self.objectives},
        }
        return {key: _plain(value) for key, value in whole.items()}

    def to_short_dict(self) -> dict[str, Any]:
        """As to_dict, without defaults; `parse` turns it into the same study."""
        whole = self.to_dict()
        for name, kind in SECTIONS.items():
            defaults = _plain(asdict(kind()))
            section = whole.pop(name).items()
            whole[name] = {key: value for key, value in section if value != defaults[key]}
        return {key: value for key, value in whole.items() if value not in ({}, [])}

    def completed(self) -> "StudyConfig":
        """The study after the checks across sections, with settings filled in that depend on
        others: n_trials of a grid, the metric of asha, the radius, and search.first with the values
        of the space. Raises ConfigError for the first setting that breaks a rule."""
        self._check_ladder()
        self._check_sampler()
        scheduler = replace(self.scheduler, metric=self._resolved_scheduler_metric())
        search = replace(self.search, first=tuple(map(self._resolved_first, self.search.first)))
        evaluation = self.evaluation
        if evaluation.radius is None and "name" not in dict(self.space):
            evaluation = replace(evaluation, radius=default_radius(self.data.name))
        study = replace(self, search=search, scheduler=scheduler, evaluation=evaluation)
        return replace(study, search=replace(search, n_trials=study._resolved_n_trials()))

    def check_goals(self) -> None:
        """Raise ConfigError for the first goal that no network can reach: to meet a constraint, or
        to be better than the reference point. Not part of `completed`, since studies that were
        stored before this rule must still be read."""
        for constraint in self.constraints:
            metric, is_least = constraint.metric, constraint.operator in ("<", "<=")
            best = self.known_metrics[metric].limit(
                Direction.MINIMIZE if is_least else Direction.MAXIMIZE
            )
            if not constraint.holds(best):
                limit = f"{metric} is at {'least' if is_least else 'most'} {best:g}"
                rule = f"must be one that a network can meet: {limit}"
                raise ConfigError(rule, f"constraints.{metric}", str(constraint))
        for objective in self.objectives:
            known = self.known_metrics[objective.metric]
            best = known.limit(objective.direction)
            if known.in_decades and objective.reference <= 0:
                rule = "must be above 0, since the hypervolume takes its logarithm"
                key = f"reference_point.{objective.metric}"
                raise ConfigError(rule, key, objective.reference)
            is_minimized = objective.direction is Direction.MINIMIZE
            if objective.reference <= best if is_minimized else objective.reference >= best:
                side = "above" if is_minimized else "below"
                rule = f"must be {side} {best:g}, since no network is better than that"
                key = f"reference_point.{objective.metric}"
                raise ConfigError(rule, key, objective.reference)

    def _check_ladder(self) -> None:
        """A projection is a point of the front, and needs every metric of the front."""
        key, rungs = "search.ladder", _plain(self.search.ladder)
        if not rungs:
            return
        varied = {name for name, _ in self.space}
        if self.model.norm == "batch" and "norm" not in varied:
            rule = "must be left out with norm 'batch', whose factors follow the data"
            raise ConfigError(rule, key, rungs)
        if not self.ladder:
            raise ConfigError(
                "must have room for rungs between the largest coefficient of the study and the "
                f"smallest, or {_LOWEST_COEFF:g}",
                key,
                rungs,
            )
        steering = {o.metric for o in self.objectives} | {c.metric for c in self.constraints}
        own = {name for name, _ in self.metrics}
        for metric in sorted(steering - own - set(PROJECTED_METRICS)):
            raise ConfigError(
                f"must be left out with objective or constraint '{metric}', which a network that "
                "is projected without training does not have",
                key,
                rungs,
            )

    def _check_sampler(self) -> None:
        if self.search.sampler == "gp" and self.scheduler.name != "fifo":
            raise ConfigError(
                f"must be another with scheduler '{self.scheduler.name}': gp does not learn from "
                "trials that were stopped, and proposes their samples again",
                "search.sampler",
                "gp",
            )

    def _resolved_first(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """A sample of search.first with the values of the space."""
        place, space = "search.first", dict(self.space)
        for key in sample:
            if key not in space:
                raise ConfigError(unknown(key, tuple(space), "parameter"), place)
        for key, parameter in self.space:
            if not is_active(parameter, sample):
                if key in sample:
                    raise ConfigError(f"must have no value of {key}, by its when", place, sample)
                continue
            if key not in sample:
                raise ConfigError(f"must have a value of {key}", place, sample)
            if not parameter.contains(sample[key]):
                raise ConfigError(f"{key} must be in space.{key}", place, sample[key])
        floats = {key: p for key, p in self.space if isinstance(p, FloatParameter)}
        return {k: floats[k].nearest(v) if k in floats else v for k, v in sample.items()}

    def _resolved_n_trials(self) -> int:
        n_trials = self.search.n_trials
        if self.search.sampler != "grid":
            if n_trials is None:
                raise ConfigError("this key is required", "search.n_trials")
            return n_trials
        for key, parameter in self.space:
            if parameter.grid() is None:
                rule = "for sampler grid a float parameter must have a step, or be categorical"
                if not isinstance(parameter, FloatParameter) or parameter.step is not None:
                    rule = f"for sampler grid it must have at most {MOST_VALUES} values"
                raise ConfigError(rule, f"space.{key}")
        if math.prod(len(parameter.grid() or []) for _, parameter in self.space) > MOST_VALUES:
            rule = f"for sampler grid it must have at most {MOST_VALUES} samples"
            raise ConfigError(rule, "space")
        size = len(self.grid() or [])
        if n_trials is not None and n_trials > size:
            rule = f"must be at most the size of the grid, {size}"
            raise ConfigError(rule, "search.n_trials", n_trials)
        return n_trials or size

    def _resolved_scheduler_metric(self) -> str | None:
        names = tuple(objective.metric for objective in self.objectives)
        metric = self.scheduler.metric
        if metric is not None and metric not in names:
            raise ConfigError(f"must be one of {', '.join(names)}", "scheduler.metric", metric)
        if self.scheduler.name != "asha":
            return metric
        return metric or names[0]


def _plain(content: Any) -> Any:
    """The content as a study file has it, with lists for tuples."""
    return json.loads(json.dumps(content))


SEARCHABLE: dict[str, Any] = {
    "data": DataConfig,
    "model": ModelConfig,
    "training": TrainingConfig,
}
"""Sections whose keys may stand in `space` instead."""
SECTIONS: dict[str, Any] = {
    **SEARCHABLE,
    "evaluation": EvaluationConfig,
    "search": SearchConfig,
    "scheduler": SchedulerConfig,
    "resources": ResourcesConfig,
}
SECTION_OF = {field.name: section for section, kind in SEARCHABLE.items() for field in fields(kind)}
"""Key of a searchable section -> the section."""
