"""Several studies side by side: their joint front, how far they lie apart and how sure that is, how
each front grew, and what differs in their settings."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from study.metrics.goals import Constraint, Objective
from study.pareto import points
from study.pareto.dominance import hypervolume, nondominated
from study.results.certainty import with_certainty
from study.results.comparable import check_files, check_measured, check_settings
from study.results.differences import Differences, best_accuracy, differences
from study.results.front import Point, Results, collect
from study.results.growth import Growth, growth
from study.results.read import find_study, parse_objectives, read
from study.tracking.records import Records

# Settings that say where something is, and not what.
_LEFT_OUT = ("name", "data.root", "data.download")


@dataclass(frozen=True)
class Compared:
    """One of the studies.

    Attributes:
        name: which tells it apart: that of the study, with a number where another has the same.
        results: by the objectives and constraints of all.
        records: where it was read.
        growth: of its hypervolume; None where that is not defined, or no trial has ended.
        n_joint: networks that it has on the joint front.
        best_accuracy: the largest on the validation split of what its front admits, in [0, 1]; None
            without such a network.
    """

    name: str
    results: Results
    records: Records
    growth: Growth | None
    n_joint: int
    best_accuracy: float | None


@dataclass(frozen=True)
class Member:
    """A network of the joint front, and the study that it comes from."""

    study: Compared
    point: Point

    @property
    def handle(self) -> str:
        """The network by the study's name that tells it apart: "digits (2)/0004@0.5"."""
        return f"{self.study.name}/{self.point.label}"


@dataclass(frozen=True)
class Setting:
    """A key that differs, and its value in each study as JSON; None where a study lacks it."""

    key: str
    values: tuple[str | None, ...]


@dataclass(frozen=True)
class Comparison:
    """Several studies by the objectives, the constraints and the reference point of the first.

    Attributes:
        joint_front: the networks that none of any study equals or beats, the best in the first
            objective first; of equal ones that of the first study.
        hypervolume: of the joint front, exact; None where an objective has no reference value.
        differences: of each study but the first.
        settings: that differ, by key.
    """

    studies: tuple[Compared, ...]
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    joint_front: tuple[Member, ...]
    hypervolume: float | None
    differences: Differences
    settings: tuple[Setting, ...]

    def is_on_joint_front(self, point: Point) -> bool:
        """Whether a point of one of the studies is on the front of all."""
        return id(point) in self._on_joint_front

    @cached_property
    def _on_joint_front(self) -> frozenset[int]:
        return frozenset(id(member.point) for member in self.joint_front)

    @property
    def n_servers(self) -> int:
        """From how many tracking servers or databases the studies come."""
        return len({study.records.client.tracking_uri for study in self.studies})


def read_comparison(
    named: Sequence[tuple[Records, str]], where: str = "", objectives: Sequence[str] = ()
) -> Comparison:
    """The comparison of studies in MLflow, each with its name and where it is.

    Args:
        where, objectives: as of `read`, for all studies.

    Raises:
        UserError: as `read` and `compare`; before trials are read, where settings are the reason.
    """
    studies = [find_study(records, name) for records, name in named]
    goals = parse_objectives(objectives, studies[0]) or studies[0].config.objectives
    names = _told_apart([study.name for study in studies])
    check_settings(studies, names, goals, studies[0].config.constraints)
    results = [read(records, name, where, objectives) for records, name in named]
    return compare(results, [records for records, _ in named])


def compare(results: Sequence[Results], records: Sequence[Records]) -> Comparison:
    """Compare studies by the objectives, the constraints and the reference point of the first.

    Args:
        results: of two or more studies.
        records: where each of them was read, in their order; what networks classify right is
            fetched there, if intervals need it.

    Raises:
        UserError: if a study is there twice, their data, validation split or measurements differ,
            or one has not measured an objective.
    """
    names = _told_apart([one.study.name for one in results])
    check_settings(
        [one.study for one in results], names, results[0].objectives, results[0].constraints
    )
    check_measured(results, names, results[0].objectives)
    check_files(results, records, names)
    alike = [
        _by_goals_of(results[0], one, where) for one, where in zip(results, records, strict=True)
    ]
    joint = list(_joint_front(alike))
    studies = tuple(
        Compared(
            name,
            one,
            where,
            growth(one),
            n_joint=sum(index == number for number, _ in joint),
            best_accuracy=best_accuracy(one),
        )
        for index, (name, one, where) in enumerate(zip(names, alike, records, strict=True))
    )
    objectives, volume = results[0].objectives, None
    if results[0].hypervolume is not None:
        losses = points.losses([point.metrics for _, point in joint], objectives)
        volume = hypervolume(losses, points.reference_losses(objectives))
    return Comparison(
        studies,
        objectives,
        results[0].constraints,
        tuple(Member(studies[index], point) for index, point in joint),
        volume,
        differences(alike, records),
        tuple(_settings([one.study.config.to_dict() for one in results])),
    )


def _told_apart(names: Sequence[str]) -> list[str]:
    """Names, each with a number behind it that others had before."""
    return [
        name if (before := names[:index].count(name)) == 0 else f"{name} ({before + 1})"
        for index, name in enumerate(names)
    ]


def _by_goals_of(first: Results, results: Results, records: Records) -> Results:
    """Results with the objectives and the constraints of the first study."""
    if (results.objectives, results.constraints) == (first.objectives, first.constraints):
        return results
    of_study = [record for point in results.points for record in point.records]
    collected = collect(results.study, of_study, first.objectives, first.constraints, results.where)
    return with_certainty(collected, records)


def _joint_front(results: Sequence[Results]) -> Iterator[tuple[int, Point]]:
    """(number of the study, point) of the front of all, the best in the first objective first."""
    objectives = results[0].objectives
    fronts = [(index, point) for index, one in enumerate(results) for point in one.front]
    losses = points.losses([point.metrics for _, point in fronts], objectives)
    kept = np.flatnonzero(nondominated(losses))
    for row in sorted(kept, key=lambda row: (losses[row, 0], row)):
        yield fronts[row]


def _settings(configs: Sequence[dict[str, Any]]) -> Iterator[Setting]:
    """The keys that differ, in the order of a study file."""
    flat = [dict(_flattened(config)) for config in configs]
    for key in dict.fromkeys(key for one in flat for key in one):
        values = tuple(one.get(key) for one in flat)
        if key not in _LEFT_OUT and len(set(values)) > 1:
            yield Setting(key, values)


def _flattened(section: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """(key with those above it, value as JSON) of every value that is no section."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{above}{key}.")
        else:
            yield above + key, json.dumps(value)
