"""Comparison of studies: their joint front, how far they lie apart, and settings that differ."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from study.config.data import SPLIT
from study.errors import UserError, quoted
from study.metrics.definitions import INVERSE_STEPS, RECONSTRUCTION_ERROR, VAL_ACCURACY, Metric
from study.metrics.reports import TrialStatus
from study.results.differences import Differences, best_accuracy, differences
from study.results.front import Mark, Point, Ranking, undominated
from study.results.report import Report, collect, goals, point_content
from study.tracking.pages import run_page, server_address

if TYPE_CHECKING:
    import pandas as pd

BEST = f"best_{VAL_ACCURACY}"  # of a study, in JSON
# Settings that say where something is, not what.
_LEFT_OUT = ("name", "data.root", "data.download")
# Metrics that depend on how the inverse is measured.
_OF_THE_INVERSE = {INVERSE_STEPS, RECONSTRUCTION_ERROR}
_RADIUS, _PRECISION = "radius", "precision"  # of `evaluation`
_OF_FILES = "image_folder"  # a name that says nothing about the images


@dataclass(frozen=True)
class Comparison(Ranking):
    """Several studies, by the objectives, constraints and reference point of the first. The points
    of all studies are marked together: on the joint front are the networks that no other equals or
    beats, and among equal networks the one of the earliest study.

    Attributes:
        reports: name of a study -> its report, by the objectives and constraints of the first
            study. Studies that share a name get a number, except the first: "digits (2)".
        differences: of each study from the first.
        settings: key that differs -> its value in each study as JSON; None if a study lacks it.
    """

    reports: Mapping[str, Report]
    differences: Differences
    settings: Mapping[str, tuple[str | None, ...]]

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """What each metric means; without those that count within a radius if radii differ."""
        known = {name: m for one in self.reports.values() for name, m in one.metrics.items()}
        return {
            name: metric
            for name, metric in known.items()
            if len(self.radii) == 1 or not metric.is_within_radius
        }

    @property
    def radii(self) -> dict[float, str]:
        """evaluation.radius -> the first study with it."""
        found = dict[float, str]()
        for name, report in self.reports.items():
            radius = report.study.config.evaluation.radius
            assert radius is not None, "a study that was read states its radius"
            found.setdefault(radius, name)
        return found

    def typed(self, point: Point) -> str:
        """The handle of a network for a command, with its study's own name."""
        return f"{self.reports[point.study].study.name}/{point.label}"

    def place(self, name: str) -> str:
        """Where a study was read, without a password."""
        uri = self.reports[name].files.client.tracking_uri
        return server_address(uri) or uri

    @property
    def is_of_several_places(self) -> bool:
        """Whether the studies come from several tracking servers or databases."""
        return len({one.files.client.tracking_uri for one in self.reports.values()}) > 1

    def place_to_type(self, point: Point) -> str | None:
        """The tracking URI that a command needs for a network; None if it needs none."""
        uri = self.reports[point.study].files.client.tracking_uri
        is_needed = self.is_of_several_places or server_address(uri) is not None
        return self.place(point.study) if is_needed else None

    def run_page(self, point: Point) -> str | None:
        """MLflow's page of a network; None without a server."""
        report = self.reports[point.study]
        page = run_page(report.files.client.tracking_uri, report.study.experiment_id)
        return page and page.replace("{run_id}", point.first.run_id)

    def content(self, every: bool) -> dict[str, Any]:
        apart = self.differences
        return {
            "studies": self.studies_content(),
            **goals(self),
            "hypervolume": self.hypervolume,
            "points": [
                {"study": point.study, **point_content(point), "network": self.typed(point)}
                for point in self.ranked(every)
            ],
            "differences": self.differences_content(),
            "noise": None if apart.unsure is not None else apart.noise,
            "note": apart.note,
            "settings": {
                key: [None if value is None else json.loads(value) for value in values]
                for key, values in self.settings.items()
            },
        }

    def studies_content(self) -> list[dict[str, Any]]:
        """A summary of each study, for JSON."""
        return [
            {
                "name": name,
                "study": report.study.name,
                "tracking_uri": self.place(name),
                "radius": report.study.config.evaluation.radius,
                "n_networks": len(report.points),
                "n_front": len(report.front),
                "n_joint_front": sum(point.study == name for point in self.front),
                "hypervolume": report.hypervolume,
                BEST: best_accuracy(report),
                "recommended": report.handles,
                "growth": report.growth,
            }
            for name, report in self.reports.items()
        ]

    def differences_content(self) -> list[dict[str, Any]]:
        """How far each study but the first lies from the first, for JSON."""
        apart, (first, *others) = self.differences, self.reports
        return [
            {"study": name, "minus": first, "hypervolume": volume, BEST: accuracy}
            for name, volume, accuracy in zip(
                others, apart.hypervolume, apart.best_accuracy, strict=True
            )
        ]

    def selected(self, every: bool) -> "pd.DataFrame":
        """A row per network: the study, the mark among all studies, and the columns of a report."""
        import pandas as pd

        marks = {point.handle: point.mark.value for point in self.points}
        frames = {
            name: report.frame.assign(
                mark=[marks[f"{name}/{point.label}"] for point in report.ranked(every=True)]
            )
            for name, report in self.reports.items()
        }
        joined = pd.concat(frames, names=["study"]).reset_index("study")
        chosen = joined if every else joined[joined["mark"] == Mark.FRONT.value]
        return chosen.reset_index(drop=True)


def compare(reports: Sequence[Report]) -> Comparison:
    """Compare two or more studies by the objectives, constraints and reference point of the first.

    Where studies have no repeats, confidence intervals of differences are over the validation
    images: which of them each network classifies right is then read from MLflow.

    Raises:
        UserError: if a study is given twice; if data, validation splits or settings by which goals
            are measured differ; if a study has not measured an objective.
    """
    if len(reports) < 2:
        raise _refusal(f"two studies or more must be named, but got {len(reports)}")
    first = reports[0]
    by_name = dict(zip(_unique([one.study.name for one in reports]), reports, strict=True))
    _check_settings(by_name)
    alike = {name: _by_goals_of(first, one) for name, one in by_name.items()}
    _check_measured(alike)
    _check_files(alike)
    listed = [replace(p, study=name) for name, one in alike.items() for p in one.points]
    return Comparison(
        first.objectives,
        first.constraints,
        undominated(listed, first.objectives),
        alike,
        differences(list(alike.values())),
        _settings([one.study.config.to_dict() for one in reports]),
    )


def _unique(names: Sequence[str]) -> list[str]:
    """Names, with a number after each that occurred before."""
    return [
        name if (before := names[:index].count(name)) == 0 else f"{name} ({before + 1})"
        for index, name in enumerate(names)
    ]


def _by_goals_of(first: Report, report: Report) -> Report:
    """A report made again by the objectives and constraints of the first study."""
    if (report.objectives, report.constraints) == (first.objectives, first.constraints):
        return report
    trials = [record for point in report.points for record in point.records]
    return collect(
        report.study, trials, first.objectives, first.constraints, report.where, report.records
    )


def _settings(configs: Sequence[dict[str, Any]]) -> dict[str, tuple[str | None, ...]]:
    """Key of each setting that differs, in the order of a study file -> its values as JSON."""
    flat = [dict(_flattened(config)) for config in configs]
    values = {key: tuple(one.get(key) for one in flat) for of in flat for key in of}
    return {k: of for k, of in values.items() if k not in _LEFT_OUT and len(set(of)) > 1}


def _flattened(section: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield (key, JSON) for every value that is not a section; keys are joined by dots."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{above}{key}.")
        else:
            yield above + key, json.dumps(value)


def _refusal(rule: str) -> UserError:
    return UserError(rule, "study")


def _check_settings(reports: Mapping[str, Report]) -> None:
    """Check that no study is given twice, and that all have the same split and measurements."""
    first, *others = reports.values()
    seen = {first.study.run_id}
    for one in others:
        if one.study.run_id in seen:
            raise _refusal(f"each study must be named once, but got {quoted(one.study.name)} twice")
        seen.add(one.study.run_id)
    for key in SPLIT:
        _check_same(reports, "data", key, "studies must have the same data and split")
    measured = {o.metric for o in first.objectives} | {c.metric for c in first.constraints}
    for metric in sorted(measured):
        keys = [*first.study.config.to_dict()["evaluation"]] if metric in _OF_THE_INVERSE else []
        # The inverse is measured in float32, whatever the precision of the answers, and at no
        # radius.
        keys = [key for key in keys if key not in (_RADIUS, _PRECISION)]
        for key in [_RADIUS] if first.metrics[metric].is_within_radius else keys:
            _check_same(reports, "evaluation", key, f"studies must measure {metric} alike")


def _check_same(reports: Mapping[str, Report], section: str, key: str, rule: str) -> None:
    """Check that a setting is the same in all studies."""
    first, *others = (
        (name, quoted(one.study.config.to_dict()[section][key])) for name, one in reports.items()
    )
    for name, value in others:
        if value != first[1]:
            place = f"{section}.{key}"
            raise _refusal(f"{rule}, but {place} is {first[1]} in {first[0]} and {value} in {name}")


def _check_measured(reports: Mapping[str, Report]) -> None:
    """Check that completed trials of each study, if any, have the objectives' metrics."""
    for name, report in reports.items():
        completed = [p for p in report.points if p.first.state is TrialStatus.COMPLETED]
        for metric in (objective.metric for objective in report.objectives):
            if completed and not any(metric in point.metrics for point in completed):
                raise _refusal(
                    f"every study must have measured the objectives, but no trial of {name} has "
                    f"{metric}"
                )


def _check_files(reports: Mapping[str, Report]) -> None:
    """Check that studies of an image folder had the same images, which settings do not identify: by
    the digest of the data that the NETWORK file of a network of each front has."""
    if next(iter(reports.values())).study.config.data.name != _OF_FILES:
        return
    # Imports torch, which nothing else here needs.
    from study.tracking.stored_model import data_digest

    # By max_train: the digest is of training images too, of which a study may take a part.
    known = dict[int | None, tuple[str, str]]()
    for name, report in reports.items():
        run_id = report.front[0].first.run_id if report.front else None
        digest = data_digest(report.files, run_id) if run_id else None
        if digest is None or "max_train" in dict(report.study.config.space):
            continue
        other, same = known.setdefault(report.study.config.data.max_train, (name, digest))
        if digest != same:
            raise _refusal(
                "studies must have the same data and split, but the SHA-256 of the images is "
                f"{same[:12]} in {other} and {digest[:12]} in {name}"
            )
