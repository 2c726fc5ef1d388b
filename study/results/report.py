"""The report of a study, read once: its networks with their marks, and what follows from them, each
computed once. Every table, page and file of a study is a view of its report."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from study.errors import FailedError, OutageError, TrackingError, UserError, printable
from study.metrics.definitions import (
    ATTACKED_ACCURACY,
    METRICS,
    TEST_CERTIFIED_ACCURACY,
    VAL_ACCURACY,
    Metric,
)
from study.metrics.goals import Constraint, Objective, as_in_a_file, relative_violations
from study.metrics.reports import TrialStatus
from study.results import spent
from study.results.answers import with_answers
from study.results.correlations import Correlation, correlations
from study.results.front import Point, Ranking, marked
from study.results.least_violating import least, sentences
from study.results.objectives import parse_objectives
from study.results.radii import checked, name_within, with_radii
from study.results.recommended import Recommendation, recommendations
from study.results.where import parse
from study.tracking.handles import runs_by_label
from study.tracking.records import Records
from study.tracking.study_record import StudyRead, StudyRecord, TrialRecord

# Imported where it is needed: pandas takes tenths of a second.
if TYPE_CHECKING:
    import pandas as pd


MOST_NETWORKS = 40
"""A page shows certificate, inverse and reconstructions of at most this many of the front."""


@dataclass(frozen=True)
class Report(Ranking):
    """A study's trials and their projections, each point with its mark.

    Attributes:
        where: the conditions that selected its networks, as given; empty for all.
        unsure: why the certainty of the front, or a part of it, is unknown, a sentence; None if it
            is known.
        records: where the report was read; None if it was made from given records.
        radii: besides the study's own, at which networks have the certified accuracy of the test
            images; it steers nothing.
    """

    study: StudyRecord
    where: str = ""
    unsure: str | None = None
    records: Records | None = field(default=None, repr=False, compare=False)
    radii: tuple[float, ...] = ()

    @property
    def metrics(self) -> Mapping[str, Metric]:
        certified, unit = METRICS[TEST_CERTIFIED_ACCURACY], self.study.config.data.unit
        within = {name_within(radius): certified.at(radius, unit) for radius in self.radii}
        return {**self.study.config.known_metrics, **within}

    def within(self, radii: Sequence[float | str]) -> "Report":
        """The report with these `radii`. Raises UserError if one is bad, or if files cannot be
        read."""
        wanted = checked(radii)
        return replace(self, points=with_radii(self.points, wanted, self.files), radii=wanted)

    def by_radius(self) -> "pd.DataFrame":
        """A row for each network, the front first, and each of `radii`; see `Study.radii`."""
        import pandas as pd

        own = self.study.config.evaluation.radius
        rows = [
            (point.handle, radius, point.metrics.get(name_within(radius)), attacked)
            for point in self.ranked(every=True)
            for radius in self.radii
            for attacked in [point.metrics.get(ATTACKED_ACCURACY) if radius == own else None]
        ]
        frame = pd.DataFrame(rows, columns=["network", "radius", "certified", "attacked"])
        return frame.astype({"certified": float, "attacked": float})

    @property
    def files(self) -> Records:
        """Where the files of its networks are."""
        assert self.records is not None, "a report that was not read has no files"
        return self.records

    def check_files(self) -> None:
        """Raise FailedError if files that its page shows were deleted."""
        for point in self.front[:MOST_NETWORKS]:
            if not self.files.artifacts(point.first.run_id):
                place = self.files.client.get_run(point.first.run_id).info.artifact_uri
                raise FailedError(
                    f"the files of {point.handle} must be where MLflow keeps them, "
                    f"{printable(place)}, but they are gone",
                    "html",
                )

    @property
    def trainings(self) -> list[TrialRecord]:
        """The record of every trial, including repeats."""
        return [record for point in self.points if point.is_trial for record in point.records]

    @property
    def n_val_images(self) -> int | None:
        """Images of the validation split; None if unknown."""
        return self.points[0].n_val_images if self.points else None

    @cached_property
    def recommended(self) -> list[Recommendation]:
        """The networks to take, the most accurate first."""
        authors = self.study.config.proven_by
        found = recommendations(self.front, self.objectives, self.metrics, authors)
        return [one.beside(self.dominating_control(one.point)) for one in found]

    @property
    def handles(self) -> dict[str, str]:
        """Alias -> the handle of the network recommended as it."""
        return {alias: one.point.handle for one in self.recommended for alias in one.aliases}

    @cached_property
    def aliases(self) -> dict[str, str]:
        """Handle of a recommended network -> its aliases, joined by commas."""
        return {one.point.handle: ",".join(one.aliases) for one in self.recommended}

    @cached_property
    def costs(self) -> dict[str, float]:
        """What the study cost, by name; unknown costs are absent."""
        return spent.costs(self.trainings, self.study.config.resources)

    @cached_property
    def growth(self) -> spent.Growth | None:
        """How the front grew; None if an objective has no reference, or no trial has ended."""
        return spent.growth(self.points, self.objectives, self.constraints)

    @cached_property
    def correlated(self) -> dict[str, dict[str, Correlation]]:
        """Objective -> hyperparameter -> their rank correlation over the completed trials."""
        samples, found = [point.first.sample for point in self.searched], {}
        for name in (objective.metric for objective in self.objectives):
            values = [point.metrics.get(name, math.nan) for point in self.searched]
            found[name] = correlations(samples, values)
        return {metric: of for metric, of in found.items() if of}

    @cached_property
    def searched(self) -> list[Point]:
        """The samples that were trained to their end. Projections do not count: no hyperparameter
        was chosen for them."""
        completed = [p for p in self.points if p.first.state is TrialStatus.COMPLETED]
        return [point for point in completed if point.is_trial]

    @cached_property
    def least_violating(self) -> list[tuple[Point, dict[Constraint, float]]]:
        """The networks that violate the constraints least, where none meets them: see `least`."""
        return [] if self.front else least(self.points, self.constraints)

    @property
    def violations(self) -> list[str]:
        """What is said of `least_violating`, a line for all and one for each; empty without any."""
        return sentences(self.least_violating, is_filtered=bool(self.where))

    @cached_property
    def frame(self) -> "pd.DataFrame":
        """All networks, a row each, the front first: handle, ids, mark, searched parameters, every
        metric, figures of repeats, how certain the place is, and recommendations."""
        import pandas as pd

        searched = [key for key, _ in self.study.config.space]
        family = [key for key, _ in self.study.config.family]
        goals = [objective.metric for objective in self.objectives]
        columns = ["network", "trial_id", "run_id", "mark", *searched, *family]
        columns += [*self.metrics, "reason"]
        columns += ["projected_to", "origin", "n_repeats", *(f"{name}_se" for name in goals)]
        columns += ["front_share", f"{VAL_ACCURACY}_low", f"{VAL_ACCURACY}_high", "recommended"]
        rows = []
        for point in self.ranked(every=True):
            first, error = point.first, point.standard_error or {}
            row: list[object] = [point.handle, first.trial_id, first.run_id, point.mark.value]
            row += [first.sample.get(key) for key in searched]
            row += [float(first.params[key]) for key in family]
            row += [point.metrics.get(name) for name in self.metrics]
            row += [first.reason, first.projected_to, first.origin or None, len(point.records)]
            row += [error.get(name) for name in goals]
            row += [point.front_share, *(point.interval or (None, None))]
            rows.append([*row, self.aliases.get(point.handle)])
        return pd.DataFrame(rows, columns=columns)

    def selected(self, every: bool) -> "pd.DataFrame":
        return self.frame if every else self.frame.head(len(self.front))

    def content(self, every: bool) -> dict[str, Any]:
        return {
            "study": self.study.name,
            "experiment_id": self.study.experiment_id,
            "finished": self.study.finished,
            "where": self.where,
            "proven_by": list(self.study.config.proven_by),
            "radius": self.study.config.evaluation.radius,
            **goals(self),
            "hypervolume": self.hypervolume,
            "added_to_controls": self.added_to_controls,
            "costs": {name: self.costs.get(name) for name in spent.COSTS},
            "n_trials": Counter(p.mark for p in self.points if p.is_trial for _ in p.records),
            "n_projections": Counter(
                p.mark for p in self.points if not p.is_trial for _ in p.records
            ),
            "points": [point_content(point) for point in self.ranked(every)],
            "least_violating": [
                {**point_content(point), "violation": sum(missed.values()), "broken": missed}
                for point, broken in self.least_violating
                for missed in [relative_violations(broken)]
            ],
            "n_val_images": self.n_val_images,
            "unsure": self.unsure,
            "recommended": {
                alias: {"network": one.point.handle, "why": one.sentence}
                for one in self.recommended
                for alias in one.aliases
            },
        }


def collect(
    study: StudyRecord,
    trials: Sequence[TrialRecord],
    objectives: tuple[Objective, ...] | None = None,
    constraints: tuple[Constraint, ...] | None = None,
    where: str = "",
    records: Records | None = None,
) -> Report:
    """The report of a study from its records.

    Args:
        trials: trials and their projections.
        objectives, constraints: in place of the study's own.
        where: the conditions that selected the records.
        records: where the networks' files are read, to estimate how certain the front is; None to
            leave that out.
    """
    objectives = objectives or study.config.objectives
    if constraints is None:
        constraints = study.config.constraints
    listed, unsure = marked(study.name, trials, objectives, constraints), None
    if records is not None:
        listed, unsure = with_answers(listed, objectives, records)
    return Report(objectives, constraints, listed, study, where.strip(), unsure, records)


def of_study(study: StudyRead, records: Records) -> Report:
    """The report of a study that was read whole. Raises TrackingError if two of its runs have one
    name, or a file of a network cannot be read."""
    runs_by_label(study.networks, study.record.name)
    return collect(study.record, study.networks, records=records)


def read(
    records: Records, name: str | None, conditions: str = "", objectives: Sequence[str] = ()
) -> Report:
    """The report of a study in MLflow.

    Args:
        name: None for the latest.
        conditions: on trials and projections, see study.results.where.
        objectives: such as "val_loss:minimize", in place of the study's own.

    Raises:
        UserError: if there is no such study, two of its runs have one name, or a condition or an
            objective cannot be read.
    """
    study = find_study(records, name)
    chosen = parse_objectives(objectives, study)
    searched = [key for key, _ in study.config.space]
    wanted = parse(conditions, searched, study.config.known_metrics)
    try:
        matching = records.trials_and_projections(study, wanted.of_mlflow)
    except TrackingError as error:
        if not wanted.of_mlflow or isinstance(error, OutageError):
            raise
        raise UserError(
            f"MLflow must be able to read it, but got {wanted.of_mlflow!r}: {error}", "where"
        ) from error
    runs_by_label(matching, study.name)
    marks = {}
    if wanted.need_marks:
        everything = records.trials_and_projections(study) if wanted.of_mlflow else matching
        whole = collect(study, everything, chosen)
        marks = {run.run_id: point.mark.value for point in whole.points for run in point.records}
    kept = wanted.keep(matching, study.name, marks)
    return collect(study, kept, chosen, where=conditions, records=records)


def find_study(records: Records, name: str | None) -> StudyRecord:
    """The study with this name, or the latest. Raises TrackingError if there is none."""
    study = records.find_study(name) if name else next(records.studies(), None)
    if study is None:
        if name:
            raise TrackingError(records.absent(name), "study")
        raise TrackingError(f"a study must be {records.client.place}, but there is none", "study")
    return study


def point_content(point: Point) -> dict[str, Any]:
    """A network, for JSON."""
    return {
        "network": point.handle,
        "trial_id": point.first.trial_id,
        "run_id": point.first.run_id,
        "run_ids": [record.run_id for record in point.records],
        "projected_to": point.first.projected_to,
        "origin": point.first.origin,
        "mark": point.mark.value,
        "params": dict(point.first.params),
        "metrics": dict(point.metrics),
        "standard_error": point.standard_error and dict(point.standard_error),
        f"{VAL_ACCURACY}_interval": point.interval,
        "front_share": point.front_share,
        "reason": point.first.reason,
    }


def goals(ranking: Ranking) -> dict[str, dict[str, Any]]:
    """The objectives, constraints and reference point, for JSON."""
    return {
        "objectives": {o.metric: o.direction.value for o in ranking.objectives},
        "constraints": as_in_a_file(ranking.constraints),
        "reference_point": {o.metric: o.reference for o in ranking.objectives},
    }
