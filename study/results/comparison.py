"""Several studies side by side: whether they can be compared, their joint front, how far they lie
apart and how sure that is, and what differs in their settings."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from study.errors import UserError, quoted
from study.metrics.definitions import INVERSE_STEPS, RECONSTRUCTION_ERROR
from study.metrics.goals import Constraint, Objective
from study.metrics.reports import TrialStatus
from study.pareto import points
from study.pareto.dominance import hypervolume, nondominated
from study.results.differences import Differences, best_accuracy, differences
from study.results.front import Mark, Point
from study.results.report import Report, collect
from study.tracking.records import StudyRecord

# Settings that say where something is, and not what.
_LEFT_OUT = ("name", "data.root", "data.download")
# Of the data, those that decide which images are for validation, and what they look like. How
# images are augmented and how many a study trains on is part of what is compared.
_SPLIT = ("name", "val_fraction", "test_fraction", "split_seed", "size")
# What depends on how the inverse is measured.
_OF_THE_INVERSE = {INVERSE_STEPS, RECONSTRUCTION_ERROR}
# Its name says nothing of what is in its files.
_OF_FILES = "image_folder"


@dataclass(frozen=True)
class Compared:
    """One of the studies.

    Attributes:
        name: which tells it apart: that of the study, with a number where another has the same.
        report: by the objectives and constraints of all.
    """

    name: str
    report: Report

    @cached_property
    def best_accuracy(self) -> float | None:
        """The largest on the validation split of what its front admits, in [0, 1]; None without
        such a network."""
        return best_accuracy(self.report)


@dataclass(frozen=True)
class Member:
    """A network, and the study that it comes from."""

    study: Compared
    point: Point

    @property
    def handle(self) -> str:
        """The network by the study's name that tells it apart: "digits (2)/0004@0.5"."""
        return f"{self.study.name}/{self.point.label}"


@dataclass(frozen=True)
class Comparison:
    """Several studies by the objectives, the constraints and the reference point of the first.

    Attributes:
        joint_front: the networks that none of any study equals or beats, the best in the first
            objective first; of equal ones that of the first study.
        differences: of each study but the first.
        settings: key that differs -> its value in each study as JSON; None where a study lacks it.
    """

    studies: tuple[Compared, ...]
    joint_front: tuple[Member, ...]
    differences: Differences
    settings: Mapping[str, tuple[str | None, ...]]

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Of all of the studies."""
        return self.studies[0].report.objectives

    @cached_property
    def hypervolume(self) -> float | None:
        """Of the joint front, exact; None where an objective has no reference value."""
        if self.studies[0].report.hypervolume is None:
            return None
        losses = points.losses([m.point.metrics for m in self.joint_front], self.objectives)
        return hypervolume(losses, points.reference_losses(self.objectives))

    @cached_property
    def _joint(self) -> frozenset[int]:
        return frozenset(id(member.point) for member in self.joint_front)

    def is_joint(self, point: Point) -> bool:
        """Whether a point of one of the studies is on the front of all."""
        return id(point) in self._joint

    def mark(self, point: Point) -> Mark:
        """How a point of one of the studies stands among those of all."""
        is_beaten = point.mark is Mark.FRONT and not self.is_joint(point)
        return Mark.DOMINATED if is_beaten else point.mark

    def n_joint(self, study: Compared) -> int:
        """How many networks a study has on the joint front."""
        return sum(member.study is study for member in self.joint_front)

    def members(self, every: bool) -> list[Member]:
        """The joint front, and behind it, if `every` is set, all other networks, by study."""
        others = [
            Member(study, point)
            for study in self.studies
            for point in study.report.ranked(every=True)
            if not self.is_joint(point)
        ]
        return [*self.joint_front, *(others if every else ())]

    @property
    def n_servers(self) -> int:
        """From how many tracking servers or databases the studies come."""
        return len({study.report.files.client.tracking_uri for study in self.studies})


def compare(reports: Sequence[Report]) -> Comparison:
    """Compare studies by the objectives, the constraints and the reference point of the first.

    Args:
        reports: of two or more studies. What networks classify right is fetched where each of them
            was read, if intervals need it.

    Raises:
        UserError: if a study is there twice, their data, validation split or measurements differ,
            or one has not measured an objective.
    """
    first = reports[0]
    _check_settings([one.study for one in reports], first.objectives, first.constraints)
    names = _told_apart([one.study for one in reports])
    alike = [
        Compared(name, _by_goals_of(first, one)) for name, one in zip(names, reports, strict=True)
    ]
    _check_measured(alike)
    _check_files(alike)
    return Comparison(
        tuple(alike),
        tuple(_joint_front(alike)),
        differences([study.report for study in alike]),
        _settings([one.study.config.to_dict() for one in reports]),
    )


def _told_apart(studies: Sequence[StudyRecord]) -> list[str]:
    """Names, each with a number behind it that others had before."""
    names = [study.name for study in studies]
    return [
        name if (before := names[:index].count(name)) == 0 else f"{name} ({before + 1})"
        for index, name in enumerate(names)
    ]


def _by_goals_of(first: Report, report: Report) -> Report:
    """A report by the objectives and the constraints of the first study."""
    if (report.objectives, report.constraints) == (first.objectives, first.constraints):
        return report
    trials = [record for point in report.points for record in point.records]
    return collect(
        report.study, trials, first.objectives, first.constraints, report.where, report.records
    )


def _joint_front(studies: Sequence[Compared]) -> Iterator[Member]:
    """The front of all studies, the best in the first objective first."""
    fronts = [Member(study, point) for study in studies for point in study.report.front]
    losses = points.losses([m.point.metrics for m in fronts], studies[0].report.objectives)
    kept = np.flatnonzero(nondominated(losses))
    for row in sorted(kept, key=lambda row: (losses[row, 0], row)):
        yield fronts[row]


def _settings(configs: Sequence[dict[str, Any]]) -> dict[str, tuple[str | None, ...]]:
    """The keys that differ, in the order of a study file."""
    flat = [dict(_flattened(config)) for config in configs]
    values = {key: tuple(one.get(key) for one in flat) for of in flat for key in of}
    return {k: of for k, of in values.items() if k not in _LEFT_OUT and len(set(of)) > 1}


def _flattened(section: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """(key with those above it, value as JSON) of every value that is no section."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{above}{key}.")
        else:
            yield above + key, json.dumps(value)


def _refusal(rule: str) -> UserError:
    return UserError(rule, "study")


def _check_settings(
    studies: Sequence[StudyRecord],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
) -> None:
    """Whether studies are different ones that are measured alike, by their settings."""
    if len(studies) < 2:
        raise _refusal(f"two studies or more must be named, but got {len(studies)}")
    run_ids = [study.run_id for study in studies]
    for study in studies:
        if run_ids.count(study.run_id) > 1:
            raise _refusal(f"each study must be named once, but got {quoted(study.name)} twice")
    for key in _SPLIT:
        _check_same(studies, "data", key, "studies must have the same data and split")
    measured = {o.metric for o in objectives} | {c.metric for c in constraints}
    for metric in sorted(measured & _OF_THE_INVERSE):
        for key in studies[0].config.to_dict()["evaluation"]:
            _check_same(studies, "evaluation", key, f"studies must measure {metric} alike")


def _check_same(studies: Sequence[StudyRecord], section: str, key: str, rule: str) -> None:
    """Whether a setting is the same in all studies, and varied in none."""
    names = _told_apart(studies)
    values = [
        "varied"
        if key in dict(study.config.space)
        else quoted(study.config.to_dict()[section][key])
        for study in studies
    ]
    for name, one in zip(names, values, strict=True):
        if one != values[0] or one == "varied":
            in_first = f"{values[0]} in {names[0]} and " if name != names[0] else ""
            raise _refusal(f"{rule}, but {section}.{key} is {in_first}{one} in {name}")


def _check_measured(studies: Sequence[Compared]) -> None:
    """Whether trials of each study that has completed ones have the metrics of the objectives."""
    for study in studies:
        of_study = study.report.points
        completed = [p for p in of_study if p.first.state is TrialStatus.COMPLETED]
        for objective in study.report.objectives:
            if completed and not any(objective.metric in p.metrics for p in completed):
                raise _refusal(
                    f"every study must have measured the objectives, but no trial of {study.name} "
                    f"has {objective.metric}"
                )


def _check_files(studies: Sequence[Compared]) -> None:
    """Whether images that were read from folders are the same, where settings do not say so, and
    networks of the fronts do."""
    if studies[0].report.study.config.data.name != _OF_FILES:
        return
    # It waits for torch, which nothing else here does.
    from study.tracking.stored_model import data_digest

    # Of training images too, of which a study may take a part.
    known = dict[int | None, tuple[str, str]]()
    for study in studies:
        report = study.report
        run_id = report.front[0].first.run_id if report.front else None
        digest = data_digest(report.files, run_id) if run_id else None
        if digest is None or "max_train" in dict(report.study.config.space):
            continue
        seen = (study.name, digest)
        other, same = known.setdefault(report.study.config.data.max_train, seen)
        if digest != same:
            raise _refusal(
                "studies must have the same data and split, but the SHA-256 of the images is "
                f"{same[:12]} in {other} and {digest[:12]} in {study.name}"
            )
