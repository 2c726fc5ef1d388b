"""The front of a study, from MLflow alone: `python -m study.report`."""

import csv
import io
import json
import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from study import pareto, points
from study.errors import TrackingError, UserError
from study.metrics import METRICS, REPORTED_METRICS, TEST_ACCURACY, Direction, TrialStatus
from study.repeats import N_DRAWS, front_shares, spread
from study.study_config import Constraint, Objective
from study.tracking import StudyRecord, Tracker, TrialRecord, default_tracking_uri

_FILE_WIDTH = 150


class Mark(StrEnum):
    """Where a point stands in a report; only `front` is the study's answer."""

    FRONT = "front"
    DOMINATED = "dominated"
    INFEASIBLE = "infeasible"
    STOPPED_EARLY = "stopped_early"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    RUNNING = "running"


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@dataclass(frozen=True)
class Point:
    """What stands at one place of a report: a sample's network, or a projection of it.

    Attributes:
        records: the trainings that it was measured in: one, or, where a sample was trained
            repeatedly, all that completed; one that did not is a point by itself.
        metrics: mean over the records, of each metric that all of them have.
        standard_error: of that mean, for the objectives: estimated from the differences between
            repeats, pooled over all samples; None where nothing was trained twice.
        front_share: how often the point is nondominated if the points are drawn anew with that
            spread, in [0, 1]; an estimate, None where nothing was trained twice.
    """

    records: tuple[TrialRecord, ...]
    mark: Mark
    metrics: Mapping[str, float]
    standard_error: Mapping[str, float] | None = None
    front_share: float | None = None

    @property
    def first(self) -> TrialRecord:
        """The record that stands for all of them: ids and parameters are its."""
        return self.records[0]

    @property
    def label(self) -> str:
        """Trial id, and the coefficient of a projection."""
        coeff = self.first.projected_to
        return self.first.trial_id if coeff is None else f"{self.first.trial_id} at {coeff:g}"


@dataclass(frozen=True)
class Report:
    """A study's trials and their projections, each point with its mark.

    Attributes:
        hypervolume: volume dominated by the front within the reference point, exact, in the
            product of the objectives' units; None where an objective has no reference.
    """

    study: StudyRecord
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    points: tuple[Point, ...]
    hypervolume: float | None

    @property
    def front(self) -> tuple[Point, ...]:
        """The points on the front, the best in the first objective first."""
        first = self.objectives[0]
        sign = -1 if first.direction is Direction.MAXIMIZE else 1
        front = [point for point in self.points if point.mark is Mark.FRONT]
        return tuple(sorted(front, key=lambda point: sign * point.metrics[first.metric]))

    def shown(self, every: bool) -> list[Point]:
        """The front, and behind it, if `every` is set, all other points."""
        others = [point for point in self.points if point.mark is not Mark.FRONT]
        return [*self.front, *(others if every else [])]


def make_report(
    study: StudyRecord,
    records: Sequence[TrialRecord],
    objectives: tuple[Objective, ...] | None = None,
) -> Report:
    """Mark each point: the front admits only what ran its full budget, with finite values,
    within the constraints, and is dominated by no other such point.

    Args:
        records: trials and projections.
        objectives: in place of the study's own.
    """
    objectives = objectives or study.config.objectives
    constraints = study.config.constraints
    groups = _groups(records)
    marks = [_mark_alone(group, objectives, constraints) for group in groups]
    metrics = [_mean(group) for group in groups]
    front = [index for index, mark in enumerate(marks) if mark is Mark.FRONT]
    losses = points.losses([metrics[index] for index in front], objectives)
    for index, kept in zip(front, pareto.nondominated(losses), strict=True):
        if not kept:
            marks[index] = Mark.DOMINATED
    repeats = [points.losses([r.metrics for r in groups[i]], objectives) for i in front]
    errors: dict[int, Mapping[str, float]] = {}
    shares: dict[int, float] = {}
    deviation = spread([dict(enumerate(repeats))])
    if deviation is not None:
        names = [objective.metric for objective in objectives]
        for index, rows in zip(front, repeats, strict=True):
            errors[index] = dict(zip(names, deviation / math.sqrt(len(rows)), strict=True))
        shares = dict(zip(front, front_shares(repeats), strict=True))
    hypervolume = None
    if all(math.isfinite(objective.reference) for objective in objectives):
        hypervolume = pareto.hypervolume(losses, points.reference_losses(objectives))
    return Report(
        study,
        objectives,
        constraints,
        tuple(
            Point(tuple(group), marks[i], metrics[i], errors.get(i), shares.get(i))
            for i, group in enumerate(groups)
        ),
        hypervolume,
    )


def _groups(records: Sequence[TrialRecord]) -> list[list[TrialRecord]]:
    """The records of each point: completed repeats of a sample, or of one projection of it, are
    one point; what did not complete is one by itself."""
    groups: dict[Hashable, list[TrialRecord]] = defaultdict(list)
    for record in records:
        completed = record.state is TrialStatus.COMPLETED
        key = (record.repeat_of, record.projected_to) if completed else record.run_id
        groups[key].append(record)
    return list(groups.values())


def _mean(group: Sequence[TrialRecord]) -> Mapping[str, float]:
    if len(group) == 1:
        return group[0].metrics
    common = [name for name in group[0].metrics if all(name in r.metrics for r in group)]
    return {name: fmean(r.metrics[name] for r in group) for name in common}


def _mark_alone(
    group: Sequence[TrialRecord],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
) -> Mark:
    """The mark of a point before it is compared: FRONT if it may be on the front at all, which
    each of its networks must."""
    if group[0].state is not TrialStatus.COMPLETED:
        return Mark(group[0].state.value)
    real = all(points.admitted(r.metrics, objectives, constraints) for r in group)
    return Mark.FRONT if real else Mark.INFEASIBLE


def as_json(report: Report, every: bool) -> str:
    """One JSON object; a value that is not finite is null."""
    content = {
        "study": report.study.name,
        "experiment_id": report.study.experiment_id,
        "finished": report.study.finished,
        "objectives": {o.metric: o.direction.value for o in report.objectives},
        "constraints": {c.metric: str(c) for c in report.constraints},
        "reference_point": {o.metric: _finite(o.reference) for o in report.objectives},
        "hypervolume": report.hypervolume,
        "n_trials": _counts(p for p in report.points if _is_trial(p)),
        "n_projections": _counts(p for p in report.points if not _is_trial(p)),
        "points": [
            {
                "trial_id": point.first.trial_id,
                "run_id": point.first.run_id,
                "run_ids": [record.run_id for record in point.records],
                "projected_to": point.first.projected_to,
                "mark": point.mark.value,
                "params": dict(point.first.params),
                "metrics": {name: _finite(value) for name, value in point.metrics.items()},
                "standard_error": point.standard_error and dict(point.standard_error),
                "front_share": point.front_share,
                "reason": point.first.reason,
            }
            for point in report.shown(every)
        ],
    }
    return json.dumps(content, indent=1, allow_nan=False)


def as_csv(report: Report, every: bool) -> str:
    """A line a point: ids, mark, the searched parameters, every metric, and behind them what
    repeats say."""
    searched = [key for key, _ in report.study.config.space]
    names = [objective.metric for objective in report.objectives]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            *("trial_id", "run_id", "mark", *searched, *REPORTED_METRICS, "reason"),
            *("projected_to", "n_repeats", *(f"{name}_se" for name in names), "front_share"),
        ]
    )
    for point in report.shown(every):
        error = point.standard_error or {}
        row: list[object] = [point.first.trial_id, point.first.run_id, point.mark.value]
        row += [point.first.params.get(key) for key in searched]
        row += [point.metrics.get(name) for name in REPORTED_METRICS]
        row += [point.first.reason, point.first.projected_to, len(point.records)]
        row += [error.get(name) for name in names]
        writer.writerow([*row, point.front_share])
    return out.getvalue().rstrip("\n")


def print_table(report: Report, every: bool, console: Console) -> None:
    """For people: the front as a table, then what it was measured by."""
    columns = [o.metric for o in report.objectives]
    columns += [TEST_ACCURACY] if TEST_ACCURACY not in columns else []
    searched = [key for key, _ in report.study.config.space]
    repeated = any(point.standard_error is not None for point in report.points)
    n_of = Counter(point.mark for point in report.points)
    counts = ", ".join(f"{n_of[mark]} {mark.value}" for mark in Mark if n_of[mark])
    table = Table(
        title=f"{report.study.name}: {counts or 'no trials'}",
        title_justify="left",
        header_style="bold",
    )
    table.add_column("trial")
    if every:
        table.add_column("")
    for column in [*columns, *searched]:
        table.add_column(column, justify="right", overflow="fold")
    if repeated:
        table.add_column("trained", justify="right")
        table.add_column("on front", justify="right")
    table.add_column("run")
    for point in report.shown(every):
        table.add_row(
            point.label,
            *([point.mark.value] if every else []),
            *(_with_error(point, name) for name in columns),
            *(_short(point.first.params.get(key)) for key in searched),
            *([str(len(point.records)), _percent(point.front_share)] if repeated else []),
            point.first.run_id[:8],
            style="dim" if every and point.mark is not Mark.FRONT else None,
        )
    console.print(table)
    reference = ", ".join(f"{o.metric} {o.reference:g}" for o in report.objectives)
    if report.hypervolume is None:
        console.print("hypervolume: none, since an objective has no reference value")
    else:
        console.print(f"hypervolume {report.hypervolume:.4g}, reference point: {reference}")
    if report.constraints:
        rules = ", ".join(f"{c.metric} {c}" for c in report.constraints)
        console.print(f"on the front only completed trials with {rules}", markup=False)
    if any(not _is_trial(point) for point in report.front):
        n_steps = report.study.config.search.fine_tune_steps
        how = f"fine-tuned for {n_steps} steps a rung" if n_steps else "not trained further"
        console.print(f"'at c': the trial's network, its layers scaled to at most c, {how}")
    if repeated:
        console.print(
            "+-: standard error of the mean over repeats; on front: how often a point stays there "
            f"in {N_DRAWS} draws with that spread"
        )


def _counts(points: Iterable[Point]) -> dict[str, int]:
    """Mark -> how many runs have it."""
    counts: Counter[str] = Counter()
    for point in points:
        counts[point.mark.value] += len(point.records)
    return dict(counts)


def _is_trial(point: Point) -> bool:
    return point.first.projected_to is None


def _with_error(point: Point, name: str) -> str:
    value = _short(point.metrics.get(name))
    error = (point.standard_error or {}).get(name)
    return value if error is None else f"{value} +-{error:.2g}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def wide_console() -> Console:
    """Standard output; where it is no terminal, with room for a table all the same."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_FILE_WIDTH)


def parse_objectives(texts: Sequence[str], study: StudyRecord) -> tuple[Objective, ...] | None:
    """--objective NAME:DIRECTION options; None without any, which means the study's own.

    Raises:
        UserError: if one cannot be read.
    """
    known = {o.metric: o for o in study.config.objectives}
    parsed = []
    for text in texts:
        metric, _, direction = text.partition(":")
        if metric not in METRICS or direction not in tuple(Direction):
            raise UserError(
                f"--objective: NAME:maximize or NAME:minimize must be given, with one of "
                f"{', '.join(METRICS)}, but got '{text}'"
            )
        own = known.get(metric)
        if own is not None and own.direction == direction:
            parsed.append(own)
            continue
        worst = METRICS[metric].worst if METRICS[metric].direction == direction else None
        reference = math.nan if worst is None else worst
        parsed.append(Objective(metric, Direction(direction), reference))
    return tuple(parsed) or None


def find_study(tracker: Tracker, name: str | None) -> StudyRecord:
    """The study of that name, or the latest.

    Raises:
        TrackingError: if there is none.
    """
    study = tracker.find_study(name) if name else next(tracker.studies(), None)
    if study is None:
        what = f"a study named '{name}'" if name else "a study"
        raise TrackingError(
            f"STUDY: {what} must be in MLflow at {tracker.tracking_uri}, but there is none"
        )
    return study


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _short(value: object) -> str:
    if value is None:
        return ""
    try:
        number = float(str(value))
    except ValueError:
        return str(value)
    return str(value) if number == int(number) and abs(number) < 1e6 else f"{number:.4g}"


app = typer.Typer(add_completion=False)


@app.command()
def main(
    study: Annotated[str | None, typer.Argument(help="Name of a study; else the latest.")] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(help="NAME:maximize or NAME:minimize, in place of the study's own."),
    ] = None,
    where: Annotated[str, typer.Option(help="An MLflow search filter on trials.")] = "",
    every: Annotated[
        bool, typer.Option("--all", help="Also the trials that are not on the front, marked.")
    ] = False,
    format: Annotated[Format, typer.Option(help="How to print it.")] = Format.TABLE,
    tracking_uri: Annotated[
        str | None, typer.Option(help="Else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.")
    ] = None,
) -> None:
    """Print the Pareto front of a study, read from MLflow."""
    try:
        tracker = Tracker(tracking_uri or default_tracking_uri())
        record = find_study(tracker, study)
        records = [*tracker.trials(record, where), *tracker.projections(record, where)]
        report = make_report(record, records, parse_objectives(objective or (), record))
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    if format is Format.JSON:
        typer.echo(as_json(report, every))
    elif format is Format.CSV:
        typer.echo(as_csv(report, every))
    else:
        print_table(report, every, wide_console())


if __name__ == "__main__":
    app(prog_name="python -m study.report")
