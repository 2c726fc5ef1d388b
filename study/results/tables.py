"""The results of a study as a table, as JSON, as CSV, and as a pandas frame."""

import html
import io
import json
import shlex
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from study.config.trial import COEFF
from study.metrics.definitions import (
    LIPSCHITZ_UPPER_BOUND,
    METRICS,
    RECONSTRUCTION_ERROR,
    TEST_ACCURACY,
    VAL_ACCURACY,
)
from study.metrics.reports import REPORTED_METRICS
from study.pareto.repeats import N_DRAWS
from study.results.costs import COSTS, costs
from study.results.front import Mark, Point, Results
from study.results.headings import heading
from study.results.numbers import Numbers, finite
from study.results.recommended import (
    KNEE,
    Recommendation,
    aliases_of,
    interval,
    recommendations,
)
from study.results.table1 import Cell, Column, as_rows, note, table1

if TYPE_CHECKING:
    import pandas as pd

# Of text, and of a table on a terminal that is not wider; in a file a table may be wider.
_WIDTH = 80
_FILE_WIDTH = 150


def as_json(results: Results, every: bool) -> str:
    """One JSON object; a value that is not finite is null."""
    table_1 = table1(results)
    recommended = recommendations(results)
    of_study = costs(results)
    content = {
        "study": results.study.name,
        "experiment_id": results.study.experiment_id,
        "finished": results.study.finished,
        "where": results.where,
        "objectives": {o.metric: o.direction.value for o in results.objectives},
        "constraints": {c.metric: str(c) for c in results.constraints},
        "reference_point": {o.metric: finite(o.reference) for o in results.objectives},
        "hypervolume": results.hypervolume,
        "costs": {name: of_study.get(name) for name in COSTS},
        "n_trials": _counts(p for p in results.points if p.is_trial),
        "n_projections": _counts(p for p in results.points if not p.is_trial),
        "points": [
            {
                "network": results.handle(point),
                "trial_id": point.first.trial_id,
                "run_id": point.first.run_id,
                "run_ids": [record.run_id for record in point.records],
                "projected_to": point.first.projected_to,
                "origin": point.first.origin,
                "mark": point.mark.value,
                "params": dict(point.first.params),
                "metrics": {name: finite(value) for name, value in point.metrics.items()},
                "standard_error": point.standard_error and dict(point.standard_error),
                f"{VAL_ACCURACY}_interval": interval(results, point),
                "front_share": point.front_share,
                "reason": point.first.reason,
            }
            for point in results.ranked(every)
        ],
        "n_val_images": results.n_val_images,
        "unsure": results.unsure,
        "recommended": {
            alias: {"network": results.handle(one.point), "why": one.sentence}
            for one in recommended
            for alias in one.aliases
        },
        "table1": None if table_1 is None else [_as_plain(column) for column in table_1],
    }
    return json.dumps(content, indent=1, allow_nan=False)


def _as_plain(column: Column) -> dict[str, object]:
    """A column of Table 1 for JSON."""

    def plain(cell: Cell | None) -> dict[str, object] | None:
        if cell is None:
            return None
        error = finite(cell.reconstruction_error)
        return {**asdict(cell), RECONSTRUCTION_ERROR: error}

    return {
        "name": column.name,
        "ours": plain(column.ours),
        "paper": plain(column.paper),
        "at_bound": column.at_bound,
    }


def as_frame(results: Results, every: bool) -> "pd.DataFrame":
    """A row a point: its handle, ids, mark, the searched parameters, every metric, what repeats
    add, and last how sure its place is and as what it is recommended."""
    searched = [key for key, _ in results.study.config.space]
    names = [objective.metric for objective in results.objectives]
    aliases = aliases_of(results)
    rows = []
    for point in results.ranked(every):
        first, error = point.first, point.standard_error or {}
        row: list[object] = [results.handle(point), first.trial_id, first.run_id, point.mark.value]
        row += [first.sample.get(key) for key in searched]
        row += [point.metrics.get(name) for name in REPORTED_METRICS]
        row += [first.reason, first.projected_to, first.origin or None, len(point.records)]
        row += [error.get(name) for name in names]
        row += [point.front_share, *(interval(results, point) or (None, None))]
        rows.append([*row, aliases.get(point.label)])
    columns = ["network", "trial_id", "run_id", "mark", *searched, *REPORTED_METRICS, "reason"]
    columns += [
        "projected_to",
        "origin",
        "n_repeats",
        *(f"{name}_se" for name in names),
        "front_share",
    ]
    columns += [f"{VAL_ACCURACY}_low", f"{VAL_ACCURACY}_high", "recommended"]
    # Imported here: a table or JSON need not wait a quarter of a second for it.
    import pandas as pd

    return pd.DataFrame(rows, columns=columns)


def as_csv(results: Results, every: bool) -> str:
    """A line a point, with the columns of as_frame."""
    out = io.StringIO()
    as_frame(results, every).to_csv(out, index=False, lineterminator="\n")
    return out.getvalue().rstrip("\n")


@dataclass(frozen=True)
class _Column:
    """One column of the table.

    Attributes:
        head: a few letters.
        legend: what they stand for; empty if they say it.
    """

    head: str
    cells: Sequence[str]
    legend: str = ""

    @property
    def width(self) -> int:
        return max(map(len, [self.head, *self.cells]))


def print_table(
    results: Results, every: bool, console: Console, options: Sequence[str] = ()
) -> None:
    """Print the front as a table, and below it which to take and what the figures mean.

    Args:
        every: also what is not on the front.
        options: of the commands that it prints, such as --tracking-uri.
    """
    console.print(counts_of(results), style="bold", markup=False)
    ranked = results.ranked(every)
    columns, left, gap = _fitting(_columns(results, ranked, every), console.width)
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for index, column in enumerate(columns):
        is_text = index == 0 or column.head in ("mark", "origin")
        table.add_column(column.head, justify="left" if is_text else "right", no_wrap=True)
    for point, *cells in zip(ranked, *(column.cells for column in columns), strict=True):
        table.add_row(*cells, style="dim" if every and point.mark is not Mark.FRONT else None)
    if ranked:
        console.print(table)
        console.print()
    recommended = recommendations(results)
    for one in recommended:
        _print_recommendation(results, one, console)
    knee = next((one.point for one in recommended if KNEE in one.aliases), None)
    if knee is not None:
        command = ("python", "-m", "study.verify", results.handle(knee), *options)
        print_text(console, f"Check a proof again: {shlex.join(command)}")
    for line in _notes(results, columns, left):
        print_text(console, line)
    table_1 = table1(results)
    if table_1 is not None:
        print_table1(table_1, console)


def _columns(results: Results, ranked: Sequence[Point], every: bool) -> list[_Column]:
    """The columns, the most important first."""
    numbers = Numbers(ranked)
    columns = [_Column("network", [results.handle(point) for point in ranked])]
    if every:
        columns.append(_Column("mark", [point.mark.value for point in ranked]))
    for objective in results.objectives:
        name = objective.metric
        cells = [numbers.with_error(point, name) for point in ranked]
        columns.append(_Column(METRICS[name].short, cells, METRICS[name].description))
        if name == VAL_ACCURACY and results.n_val_images is not None:
            columns.append(
                _Column(
                    "95 %",
                    [_interval_text(interval(results, point)) for point in ranked],
                    f"its confidence interval, by the {results.n_val_images} images",
                )
            )
    if TEST_ACCURACY not in (objective.metric for objective in results.objectives):
        cells = [numbers.text(TEST_ACCURACY, p.metrics.get(TEST_ACCURACY)) for p in ranked]
        metric = METRICS[TEST_ACCURACY]
        columns.append(_Column(metric.short, cells, metric.description))
    repeated = any(point.standard_error is not None for point in results.points)
    if any(point.front_share is not None for point in ranked):
        how = (
            f"how often a point stays on the front in {N_DRAWS} draws with the spread of the "
            "repeats; +-: standard error of the mean over them"
            if repeated
            else "how likely on the front, if the validation images were drawn anew and bounds and "
            "steps within 5 % were equal"
        )
        columns.append(_Column("front", [_percent(p.front_share) for p in ranked], how))
    if repeated:
        columns.append(_Column("trained", [str(len(point.records)) for point in ranked]))
    if any(point.first.origin for point in ranked):
        how = "given: a sample of search.first"
        columns.append(_Column("origin", [point.first.origin for point in ranked], how))
    for key, _ in results.study.config.space:
        # The name of a projection says already what it was projected to.
        cells = [_short(point.first.sample.get(key)) for point in ranked]
        head = heading(key)
        legend = "" if head == key else key
        if key == COEFF and not all(point.is_trial for point in ranked):
            legend = "of the training"
        columns.append(_Column(head, cells, legend))
    return columns


def _fitting(columns: list[_Column], width: int) -> tuple[list[_Column], list[_Column], int]:
    """(the first columns that fit a width, those that do not, blanks between two); the first
    always does."""
    for gap in (2, 1):
        if sum(column.width + gap for column in columns) - gap <= width:
            return columns, [], gap
    taken, used = columns[:1], columns[0].width
    for column in columns[1:]:
        used += 1 + column.width
        if used > width:
            break
        taken.append(column)
    return taken, columns[len(taken) :], 1


def _print_recommendation(results: Results, one: Recommendation, console: Console) -> None:
    console.print(
        f"{results.handle(one.point)}: {', '.join(one.aliases)}", style="bold", markup=False
    )
    print_text(console, one.sentence, indent="  ")


def _notes(results: Results, columns: list[_Column], left: list[_Column]) -> list[str]:
    """What the figures are, a line each."""
    notes = []
    if results.hypervolume is None:
        notes.append("hypervolume: none, since an objective has no reference value")
    else:
        reference = ", ".join(f"{o.metric} {o.reference:g}" for o in results.objectives)
        notes.append(f"hypervolume {results.hypervolume:.4g}, reference point: {reference}")
        if results.front and results.hypervolume == 0:
            notes[-1] += "; no network is better than that in every objective"
    if results.constraints:
        rules = ", ".join(f"{c.metric} {c}" for c in results.constraints)
        notes.append(f"on the front only completed trials with {rules}{_remedy(results)}")
    legends = "; ".join(f"{column.head}: {column.legend}" for column in columns if column.legend)
    if legends and results.points:
        notes.append(legends)
    if left:
        names = ", ".join(column.legend or column.head for column in left)
        notes.append(f"not shown for the width: {names}; --format csv has all")
    if results.unsure is not None:
        notes.append(results.unsure)
    if any(not point.is_trial for point in results.front):
        n_steps = results.study.config.search.fine_tune_steps
        how = f"fine-tuned for {n_steps} steps a rung" if n_steps else "not trained further"
        notes.append(f"@c: the trial's network, the bound of each block at most c^3, {how}")
    return notes


def _remedy(results: Results) -> str:
    """What to do where networks were trained to their end and none meets the constraints."""
    marks = {point.mark for point in results.points}
    if results.where or Mark.FRONT in marks or Mark.INFEASIBLE not in marks:
        return ""
    metrics = [constraint.metric for constraint in results.constraints]
    smaller = "a search.ladder, a lower coeff or " if LIPSCHITZ_UPPER_BOUND in metrics else ""
    return f"; there are none: start a study with {smaller}a looser constraint"


def print_text(console: Console, text: str, indent: str = "") -> None:
    """A paragraph, wrapped between words; a command or an address in it stays whole."""
    width = min(console.width, _WIDTH)
    lines = textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _interval_text(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"{ends[0]:.3f}-{ends[1]:.3f}".replace("0.", ".")


def as_html(results: Results) -> str:
    """The front as a table, and below it which to take, as HTML for a notebook."""
    ranked = results.ranked(every=False)
    columns = _columns(results, ranked, every=False)

    def row(cells: Iterable[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

    head = row((column.head for column in columns), "th")
    body = "".join(row(cells, "td") for cells in zip(*(c.cells for c in columns), strict=True))
    taken = "".join(
        f"<li><code>{html.escape(results.handle(one.point))}</code>, "
        f"{html.escape(', '.join(one.aliases))}: {html.escape(one.sentence)}</li>"
        for one in recommendations(results)
    )
    notes = "<br>".join(map(html.escape, _notes(results, columns, [])))
    return (
        f"<p><b>{html.escape(counts_of(results))}</b></p><table>{head}{body}</table>"
        f"<ul>{taken}</ul><p><small>{notes}</small></p>"
    )


def counts_of(results: Results) -> str:
    """The study's name, what its networks were chosen by, and how many have each mark."""
    n_of = Counter(point.mark for point in results.points)
    counts = ", ".join(f"{n_of[mark]} {mark.value}" for mark in Mark if n_of[mark])
    if not results.where:
        return f"{results.study.name}: {counts or 'no trials'}"
    if not counts:
        return f"{results.study.name}: no network has {results.where}"
    return f"{results.study.name}, only networks with {results.where}: {counts}"


def print_table1(table: list[Column], console: Console) -> None:
    """Table 1 of the paper, ours and the paper's."""
    printed = Table(title="Table 1 of the paper", title_justify="left", header_style="bold")
    printed.add_column("")
    for column in table:
        printed.add_column(column.name, justify="right")
    for title, cells in as_rows(table):
        printed.add_row(title, *cells, style="dim" if title.startswith(" ") else None)
    console.print(printed)
    print_text(console, note(table))


def _counts(points: Iterable[Point]) -> dict[str, int]:
    """Mark -> how many runs have it."""
    counts: Counter[str] = Counter()
    for point in points:
        counts[point.mark.value] += len(point.records)
    return dict(counts)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def wide_console(on_stderr: bool = False) -> Console:
    """Standard output, or standard error; where it is no terminal, with room for a table all the
    same."""
    console = Console(highlight=False, stderr=on_stderr)
    if console.is_terminal:
        return console
    return Console(highlight=False, stderr=on_stderr, width=_FILE_WIDTH)


def _short(value: object) -> str:
    if value is None:
        return ""
    try:
        number = float(str(value))
    except ValueError:
        return str(value)
    return str(value) if number == int(number) and abs(number) < 1e6 else f"{number:.3g}"
