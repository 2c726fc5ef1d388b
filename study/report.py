"""The front of a study, from MLflow alone: `python -m study.report`."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from study import pareto
from study.config import Constraint, Objective
from study.errors import TrackingError, UserError
from study.metrics import METRICS, REPORTED_METRICS, TEST_ACCURACY, Direction, TrialStatus
from study.tracking import StudyRecord, Tracker, TrialRecord, default_tracking_uri

_FILE_WIDTH = 150


class Mark(StrEnum):
    """Where a trial stands in a report; only `front` is the study's answer."""

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
class Report:
    """A study's trials, each with its mark.

    Attributes:
        hypervolume: volume dominated by the front within the reference point, exact, in the
            product of the objectives' units; None where an objective has no reference.
    """

    study: StudyRecord
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    trials: tuple[tuple[TrialRecord, Mark], ...]
    hypervolume: float | None

    @property
    def front(self) -> tuple[TrialRecord, ...]:
        """The trials on the front, the best in the first objective first."""
        first = self.objectives[0]
        sign = -1 if first.direction is Direction.MAXIMIZE else 1
        front = [trial for trial, mark in self.trials if mark is Mark.FRONT]
        return tuple(sorted(front, key=lambda trial: sign * trial.metrics[first.metric]))

    def shown(self, every: bool) -> list[tuple[TrialRecord, Mark]]:
        """The front, and behind it, if `every` is set, all other trials."""
        shown: list[tuple[TrialRecord, Mark]] = [(trial, Mark.FRONT) for trial in self.front]
        if every:
            shown += [(trial, mark) for trial, mark in self.trials if mark is not Mark.FRONT]
        return shown


def make_report(
    study: StudyRecord,
    trials: Sequence[TrialRecord],
    objectives: tuple[Objective, ...] | None = None,
) -> Report:
    """Mark each trial: the front admits only what ran its full budget, with finite values,
    within the constraints, and is dominated by no other such trial."""
    objectives = objectives or study.config.objectives
    constraints = study.config.constraints
    marks = {trial.trial_id: _mark_alone(trial, objectives, constraints) for trial in trials}
    admitted = [trial for trial in trials if marks[trial.trial_id] is Mark.FRONT]
    directions = [objective.direction for objective in objectives]
    losses = pareto.losses(
        [[trial.metrics[o.metric] for o in objectives] for trial in admitted], directions
    )
    for trial, kept in zip(admitted, pareto.nondominated(losses), strict=True):
        if not kept:
            marks[trial.trial_id] = Mark.DOMINATED
    references = [objective.reference for objective in objectives]
    hypervolume = None
    if all(math.isfinite(reference) for reference in references):
        hypervolume = pareto.hypervolume(losses, pareto.losses([references], directions)[0])
    return Report(
        study,
        objectives,
        constraints,
        tuple((trial, marks[trial.trial_id]) for trial in trials),
        hypervolume,
    )


def _mark_alone(
    trial: TrialRecord, objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> Mark:
    """The mark of a trial before it is compared: FRONT if it may be on the front at all."""
    if trial.state is not TrialStatus.COMPLETED:
        return Mark(trial.state.value)
    finite = all(math.isfinite(trial.metrics.get(o.metric, math.nan)) for o in objectives)
    met = all(c.holds(trial.metrics.get(c.metric, math.nan)) for c in constraints)
    return Mark.FRONT if finite and met else Mark.INFEASIBLE


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
        "n_trials": dict(Counter(mark.value for _, mark in report.trials)),
        "points": [
            {
                "trial_id": trial.trial_id,
                "run_id": trial.run_id,
                "mark": mark.value,
                "params": dict(trial.params),
                "metrics": {name: _finite(value) for name, value in trial.metrics.items()},
                "reason": trial.reason,
            }
            for trial, mark in report.shown(every)
        ],
    }
    return json.dumps(content, indent=1, allow_nan=False)


def as_csv(report: Report, every: bool) -> str:
    """A line a trial: ids, mark, the searched parameters, every metric."""
    searched = [key for key, _ in report.study.config.space]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["trial_id", "run_id", "mark", *searched, *REPORTED_METRICS, "reason"])
    for trial, mark in report.shown(every):
        writer.writerow(
            [
                trial.trial_id,
                trial.run_id,
                mark.value,
                *(trial.params.get(key, "") for key in searched),
                *(trial.metrics.get(name, "") for name in REPORTED_METRICS),
                trial.reason or "",
            ]
        )
    return out.getvalue().rstrip("\n")


def print_table(report: Report, every: bool, console: Console) -> None:
    """For people: the front as a table, then what it was measured by."""
    columns = [o.metric for o in report.objectives]
    columns += [TEST_ACCURACY] if TEST_ACCURACY not in columns else []
    searched = [key for key, _ in report.study.config.space]
    n_of = Counter(mark for _, mark in report.trials)
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
    table.add_column("run")
    for trial, mark in report.shown(every):
        table.add_row(
            trial.trial_id,
            *([mark.value] if every else []),
            *(_short(trial.metrics.get(name)) for name in columns),
            *(_short(trial.params.get(key)) for key in searched),
            trial.run_id[:8],
            style="dim" if every and mark is not Mark.FRONT else None,
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
        report = make_report(
            record, tracker.trials(record, where), parse_objectives(objective or (), record)
        )
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
