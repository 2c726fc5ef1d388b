"""The front of a study, from MLflow alone: `python -m study.report`, and `load` in Python."""

import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from study import registry
from study.errors import TrackingError, UserError, shown
from study.front import Mark, Point, Report, make_report, parse_objectives
from study.metrics import REPORTED_METRICS, TEST_ACCURACY
from study.records import Records, StudyRecord, default_tracking_uri
from study.repeats import N_DRAWS
from study.table1 import Cell, Column, as_rows, note, table1
from study.tracking import Tracker

if TYPE_CHECKING:
    import pandas as pd

_FILE_WIDTH = 150


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def load(
    study: str | None = None,
    *,
    where: str = "",
    objectives: Sequence[str] = (),
    tracking_uri: str | None = None,
) -> "pd.DataFrame":
    """The points of a study as a frame, a row each: those of the front first, best first.

    Args:
        study: its name; None for the latest.
        where: an MLflow search filter, which MLflow applies: "metrics.val_accuracy > 0.9".
        objectives: such as "val_loss:minimize", in place of the study's own.
        tracking_uri: None for MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.

    Returns:
        A frame with the columns of `--format csv`; `mark` is "front" for what is on the front.
        Its `attrs` have the study's name and the hypervolume.

    Raises:
        UserError: if there is no such study, or a filter or an objective cannot be read.
    """
    report = _read(Records(tracking_uri or default_tracking_uri()), study, where, objectives)
    frame = as_frame(report, every=True)
    frame.attrs.update(study=report.study.name, hypervolume=report.hypervolume)
    return frame


def _read(records: Records, study: str | None, where: str, objectives: Sequence[str]) -> Report:
    record = find_study(records, study)
    chosen = parse_objectives(objectives, record)
    return make_report(record, records.records(record, where), chosen)


def as_json(report: Report, every: bool) -> str:
    """One JSON object; a value that is not finite is null."""
    table_1 = table1(report)
    content = {
        "study": report.study.name,
        "experiment_id": report.study.experiment_id,
        "finished": report.study.finished,
        "objectives": {o.metric: o.direction.value for o in report.objectives},
        "constraints": {c.metric: str(c) for c in report.constraints},
        "reference_point": {o.metric: _finite(o.reference) for o in report.objectives},
        "hypervolume": report.hypervolume,
        "n_trials": _counts(p for p in report.points if p.is_trial),
        "n_projections": _counts(p for p in report.points if not p.is_trial),
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
        "table1": None if table_1 is None else [_as_plain(column) for column in table_1],
    }
    return json.dumps(content, indent=1, allow_nan=False)


def _as_plain(column: Column) -> dict[str, object]:
    """A column of Table 1 for JSON."""

    def plain(cell: Cell | None) -> dict[str, object] | None:
        if cell is None:
            return None
        error = _finite(cell.reconstruction_error)
        return {**asdict(cell), "reconstruction_error": error}

    return {"name": column.name, "ours": plain(column.ours), "paper": plain(column.paper)}


def as_frame(report: Report, every: bool) -> "pd.DataFrame":
    """A row a point: ids, mark, the searched parameters, every metric, and behind them what
    repeats say."""
    searched = [key for key, _ in report.study.config.space]
    names = [objective.metric for objective in report.objectives]
    rows = []
    for point in report.shown(every):
        first, error = point.first, point.standard_error or {}
        row: list[object] = [first.trial_id, first.run_id, point.mark.value]
        row += [point.setting(key) for key in searched]
        row += [point.metrics.get(name) for name in REPORTED_METRICS]
        row += [first.reason, first.projected_to, len(point.records)]
        row += [error.get(name) for name in names]
        rows.append([*row, point.front_share])
    columns = ["trial_id", "run_id", "mark", *searched, *REPORTED_METRICS, "reason"]
    columns += ["projected_to", "n_repeats", *(f"{name}_se" for name in names), "front_share"]
    import pandas as pd  # a quarter of a second, for which a table or JSON need not wait

    return pd.DataFrame(rows, columns=columns)


def as_csv(report: Report, every: bool) -> str:
    """A line a point, with the columns of as_frame."""
    out = io.StringIO()
    as_frame(report, every).to_csv(out, index=False, lineterminator="\n")
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
            *(_short(point.setting(key)) for key in searched),
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
    if any(not point.is_trial for point in report.front):
        n_steps = report.study.config.search.fine_tune_steps
        how = f"fine-tuned for {n_steps} steps a rung" if n_steps else "not trained further"
        console.print(f"'at c': the trial's network, its layers scaled to at most c, {how}")
    if repeated:
        console.print(
            "+-: standard error of the mean over repeats; on front: how often a point stays there "
            f"in {N_DRAWS} draws with that spread"
        )
    table_1 = table1(report)
    if table_1 is not None:
        print_table1(report, table_1, console)


def print_table1(report: Report, table: list[Column], console: Console) -> None:
    """Table 1 of the paper, ours and the paper's."""
    shown = Table(title="Table 1 of the paper", title_justify="left", header_style="bold")
    shown.add_column("")
    for column in table:
        shown.add_column(column.name, justify="right")
    for title, cells in as_rows(table):
        shown.add_row(title, *cells, style="dim" if title.startswith(" ") else None)
    console.print(shown)
    console.print(note(report, table), soft_wrap=True)


def _counts(points: Iterable[Point]) -> dict[str, int]:
    """Mark -> how many runs have it."""
    counts: Counter[str] = Counter()
    for point in points:
        counts[point.mark.value] += len(point.records)
    return dict(counts)


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


def find_study(records: Records, name: str | None) -> StudyRecord:
    """The study of that name, or the latest.

    Raises:
        TrackingError: if there is none.
    """
    study = records.find_study(name) if name else next(records.studies(), None)
    if study is None:
        what = f"a study named {shown(name)}" if name else "a study"
        raise TrackingError(
            f"STUDY: {what} must be in MLflow at {records.tracking_uri}, but there is none"
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
    html: Annotated[
        Path | None, typer.Option(help="Also write a page with all points, to open in a browser.")
    ] = None,
    register: Annotated[
        str | None,
        typer.Option(help="Also verify points of the front, and register them under this name."),
    ] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="Else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.")
    ] = None,
) -> None:
    """Print the Pareto front of a study, read from MLflow."""
    try:
        tracker = Tracker(tracking_uri or default_tracking_uri())
        report = _read(tracker, study, where, objective or ())
        if register is not None:
            registry.check(report, register)
        if html is not None:
            from study.page import write_page  # with Optuna and plotly: the others need not wait

            write_page(html, tracker, report)
        registered = _register(tracker, report, register) if register is not None else []
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    if format is Format.JSON:
        typer.echo(as_json(report, every))
    elif format is Format.CSV:
        typer.echo(as_csv(report, every))
    else:
        print_table(report, every, wide_console())
    if html is not None:
        typer.echo(f"written: {html}", err=True)
    for line in registered:
        typer.echo(line, err=True)


def _register(tracker: Tracker, report: Report, name: str) -> list[str]:
    """Lines that say what was registered; leaves with exit code 1 where a proof does not hold."""
    from study.verify import verify  # with torch, for which a report alone need not wait

    try:
        found = registry.register(tracker, report, name, verify)
    except registry.UnverifiedError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    return [
        f"registered: {name} version {one.version}, {', '.join(one.aliases)}: {one.point.label}"
        for one in found
    ]


if __name__ == "__main__":
    app(prog_name="python -m study.report")
