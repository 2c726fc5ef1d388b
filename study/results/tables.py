"""The results of a study as a table, as JSON, as CSV, and as a pandas frame."""

import io
import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from study.metrics import RECONSTRUCTION_ERROR, REPORTED_METRICS, TEST_ACCURACY
from study.pareto.repeats import N_DRAWS
from study.results.front import Mark, Point, Results
from study.results.table1 import Cell, Column, as_rows, note, table1

if TYPE_CHECKING:
    import pandas as pd

_FILE_WIDTH = 150


def as_json(results: Results, every: bool) -> str:
    """One JSON object; a value that is not finite is null."""
    table_1 = table1(results)
    content = {
        "study": results.study.name,
        "experiment_id": results.study.experiment_id,
        "finished": results.study.finished,
        "objectives": {o.metric: o.direction.value for o in results.objectives},
        "constraints": {c.metric: str(c) for c in results.constraints},
        "reference_point": {o.metric: _finite(o.reference) for o in results.objectives},
        "hypervolume": results.hypervolume,
        "n_trials": _counts(p for p in results.points if p.is_trial),
        "n_projections": _counts(p for p in results.points if not p.is_trial),
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
            for point in results.ranked(every)
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
        return {**asdict(cell), RECONSTRUCTION_ERROR: error}

    return {
        "name": column.name,
        "ours": plain(column.ours),
        "paper": plain(column.paper),
        "at_bound": column.at_bound,
    }


def as_frame(results: Results, every: bool) -> "pd.DataFrame":
    """A row a point: ids, mark, the searched parameters, every metric, and last what repeats
    add."""
    searched = [key for key, _ in results.study.config.space]
    names = [objective.metric for objective in results.objectives]
    rows = []
    for point in results.ranked(every):
        first, error = point.first, point.standard_error or {}
        row: list[object] = [first.trial_id, first.run_id, point.mark.value]
        row += [point.setting(key) for key in searched]
        row += [point.metrics.get(name) for name in REPORTED_METRICS]
        row += [first.reason, first.projected_to, len(point.records)]
        row += [error.get(name) for name in names]
        rows.append([*row, point.front_share])
    columns = ["trial_id", "run_id", "mark", *searched, *REPORTED_METRICS, "reason"]
    columns += ["projected_to", "n_repeats", *(f"{name}_se" for name in names), "front_share"]
    # Imported here: a table or JSON need not wait a quarter of a second for it.
    import pandas as pd

    return pd.DataFrame(rows, columns=columns)


def as_csv(results: Results, every: bool) -> str:
    """A line a point, with the columns of as_frame."""
    out = io.StringIO()
    as_frame(results, every).to_csv(out, index=False, lineterminator="\n")
    return out.getvalue().rstrip("\n")


def print_table(results: Results, every: bool, console: Console) -> None:
    """Print the front as a table, and below it what its figures mean."""
    columns = [o.metric for o in results.objectives]
    columns += [TEST_ACCURACY] if TEST_ACCURACY not in columns else []
    searched = [key for key, _ in results.study.config.space]
    repeated = any(point.standard_error is not None for point in results.points)
    n_of = Counter(point.mark for point in results.points)
    counts = ", ".join(f"{n_of[mark]} {mark.value}" for mark in Mark if n_of[mark])
    table = Table(
        title=f"{results.study.name}: {counts or 'no trials'}",
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
    for point in results.ranked(every):
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
    reference = ", ".join(f"{o.metric} {o.reference:g}" for o in results.objectives)
    if results.hypervolume is None:
        console.print("hypervolume: none, since an objective has no reference value")
    else:
        console.print(f"hypervolume {results.hypervolume:.4g}, reference point: {reference}")
    if results.constraints:
        rules = ", ".join(f"{c.metric} {c}" for c in results.constraints)
        console.print(f"on the front only completed trials with {rules}", markup=False)
    if any(not point.is_trial for point in results.front):
        n_steps = results.study.config.search.fine_tune_steps
        how = f"fine-tuned for {n_steps} steps a rung" if n_steps else "not trained further"
        console.print(f"'at c': the trial's network, the bound of each block at most c^3, {how}")
    if repeated:
        console.print(
            "+-: standard error of the mean over repeats; on front: how often a point stays there "
            f"in {N_DRAWS} draws with that spread"
        )
    table_1 = table1(results)
    if table_1 is not None:
        print_table1(table_1, console)


def print_table1(table: list[Column], console: Console) -> None:
    """Table 1 of the paper, ours and the paper's."""
    printed = Table(title="Table 1 of the paper", title_justify="left", header_style="bold")
    printed.add_column("")
    for column in table:
        printed.add_column(column.name, justify="right")
    for title, cells in as_rows(table):
        printed.add_row(title, *cells, style="dim" if title.startswith(" ") else None)
    console.print(printed)
    console.print(note(table), soft_wrap=True)


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
