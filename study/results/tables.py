"""The report of a study as a table, and writing of tables, sections, JSON and CSV."""

import io
import json
import shlex
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from study.config.trial import COEFF
from study.errors import count_of, escaped
from study.metrics.definitions import (
    CERTIFIED_ACCURACY,
    LIPSCHITZ_UPPER_BOUND,
    RECONSTRUCTION_ERROR,
    VAL_ACCURACY,
    Metric,
)
from study.metrics.goals import Objective, reference_text
from study.pareto.repeats import N_DRAWS
from study.results import paper
from study.results.front import Mark, Numbers, Point, leading_metrics
from study.results.recommended import KNEE
from study.results.report import Report
from study.results.where import LONG, SHORT_DIGITS, heading
from study.tracking.pages import on_the_word_of

if TYPE_CHECKING:
    import pandas as pd

# Widths in characters: of text, and of tables in a file and in a notebook.
_WIDTH = 80
_FILE_WIDTH, _NOTEBOOK_WIDTH = 150, 110
# The part of the certified answers that is much to lose to rounding.
_MUCH_ROUNDING = 0.05
_OF_PAPER = {"paper acc": "test accuracy", "paper rec": "reconstruction error of test images"}


def as_json(content: object, **options: Any) -> str:
    """JSON, with null for values that are not finite; `options` are those of `json.dumps`."""
    finite = json.loads(json.dumps(content, default=asdict), parse_constant=lambda _: None)
    return json.dumps(finite, **{"indent": 1, "allow_nan": False, **options})


def as_csv(frame: "pd.DataFrame") -> str:
    """CSV with a header."""
    return frame.to_csv(index=False, lineterminator="\n").rstrip("\n")


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        head: a few letters.
        legend: what they stand for; empty if that is clear.
        is_text: whether cells are words, not numbers.
    """

    head: str
    cells: Sequence[str]
    legend: str = ""
    is_text: bool = False

    @property
    def width(self) -> int:
        return max(map(len, [self.head, *self.cells]))


def texts(rows: Sequence[Mapping[str, Any]], key: str, form: str = "") -> list[str]:
    """A value of each row as text; empty for None."""
    return ["" if row[key] is None else format(row[key], form) for row in rows]


@dataclass(frozen=True)
class Section:
    """A part of a report or of a comparison, in a terminal and in a page.

    Attributes:
        name: id of its element in a page, or of a figure there.
        content: what the page draws, by name, for JSON.
        absent: why there is nothing to show, a sentence; empty if there is something.
        title: printed above it; empty if it is not printed.
        texts: paragraphs below the table.
    """

    name: str
    content: Mapping[str, Any] = field(default_factory=dict)
    absent: str = ""
    title: str = ""
    table: Sequence[Column] = ()
    texts: Sequence[str] = ()


def print_section(console: Console, section: Section, **options: Any) -> None:
    """Print a section; `options` are those of `table_of`."""
    console.print(section.title, style="bold", markup=False)
    if section.table and not section.absent:
        console.print(table_of(section.table, **options))
    for text in [section.absent] if section.absent else section.texts:
        print_text(console, text)


def table_of(
    columns: Sequence[Column], gap: int = 2, dim: Sequence[bool] = (), **options: Any
) -> Table:
    """Columns as a table.

    Args:
        gap: blanks between two columns.
        dim: which rows are dim; none by default.
        options: of rich's Table.
    """
    look = {"box": None, "pad_edge": False, "padding": (0, gap, 0, 0), "header_style": "bold"}
    table = Table(**{**look, **options})
    for column in columns:
        # Text may be typed into a command: it is folded, never cut.
        table.add_column(
            column.head,
            justify="left" if column.is_text else "right",
            no_wrap=not column.is_text,
            overflow="fold",
        )
    for number, row in enumerate(zip(*(column.cells for column in columns), strict=True)):
        style = "dim" if number < len(dim) and dim[number] else None
        table.add_row(*(Text(escaped(cell)) for cell in row), style=style)  # Text has no markup
    return table


def print_table(report: Report, every: bool, console: Console, options: Sequence[str] = ()) -> None:
    """Print the front as a table, then which networks to take and what the figures mean.

    Args:
        every: include networks that are not on the front.
        options: of the printed commands, such as MLflow's address.
    """
    console.print(counts_of(report), style="bold", markup=False)
    ranked = report.ranked(every)
    columns, left, gap = _fitting(columns_of(report, ranked, every), console.width)
    if ranked:
        console.print(table_of(columns, gap, [p.mark is not Mark.FRONT for p in ranked]))
        console.print()
    for one in report.recommended:
        title = f"{one.point.handle}: {', '.join(one.aliases)}"
        console.print(title, style="bold", markup=False)
        print_text(console, one.sentence, indent="  ")
    if KNEE in report.handles:
        words = ("study.verify", report.handles[KNEE], *report.study.config.to_verify, *options)
        print_text(console, f"Check a proof again: python -m {shlex.join(words)}")
    for line in notes(report, columns, left):
        print_text(console, line)


def metric_columns(
    ranked: Sequence[Point],
    objectives: Sequence[Objective],
    metrics: Mapping[str, Metric],
    every: bool,
    n_val_images: int | None = None,
) -> list[Column]:
    """Names and metrics of points, and, if `every` is set, their marks.

    Args:
        metrics: those that may have a column.
        n_val_images: of the confidence intervals beside accuracies; None for no intervals.
    """
    numbers = Numbers(ranked)
    columns = [Column("network", [point.handle for point in ranked], is_text=True)]
    if every:
        columns.append(Column("mark", [point.mark.value for point in ranked], is_text=True))
    for name in leading_metrics(ranked, objectives):
        if name not in metrics:
            continue
        cells = [numbers.with_error(point, name) for point in ranked]
        columns.append(Column(metrics[name].short, cells, metrics[name].description))
        if name == VAL_ACCURACY and n_val_images is not None:
            how = f"its confidence interval, on the {n_val_images} images"
            columns.append(Column("95 %", [_interval_text(point) for point in ranked], how))
    return columns


def columns_of(report: Report, ranked: Sequence[Point], every: bool) -> list[Column]:
    """The columns of a report's points, the most important first."""
    columns = metric_columns(ranked, report.objectives, report.metrics, every, report.n_val_images)
    config, numbers = report.study.config, Numbers(ranked)
    if paper.is_table1(config):
        metric = report.metrics[RECONSTRUCTION_ERROR]
        cells = [numbers.with_error(point, RECONSTRUCTION_ERROR) for point in ranked]
        columns.append(Column(metric.short, cells, metric.description))
        columns += [
            Column(head, cells, f"{_OF_PAPER[head]} in Table 1 of the paper, after 200 epochs")
            for head, cells in paper.figures(config, ranked).items()
        ]
    repeated = any(point.standard_error is not None for point in report.points)
    if any(point.front_share is not None for point in ranked):
        how = (
            f"how often a point stays on the front in {N_DRAWS} draws with the spread of the "
            "repeats; +-: standard error of the mean over them"
            if repeated
            else "how likely on the front, if the validation images were drawn anew and bounds and "
            "steps within 5 % were equal"
        )
        shares = [p.front_share for p in ranked]
        columns.append(Column("front", ["" if s is None else f"{s:.0%}" for s in shares], how))
    if repeated:
        columns.append(Column("trained", [str(len(point.records)) for point in ranked]))
    if any(point.first.origin for point in ranked):
        how = "given: a sample of search.first; told: a network that its user trained"
        cells = [point.first.origin for point in ranked]
        columns.append(Column("origin", cells, how, is_text=True))
    for key, _ in config.space:
        # The name of a projection already has its bound.
        cells = [_short(point.first.sample.get(key)) for point in ranked]
        head = heading(key)
        legend = "" if head == key else key
        if key == COEFF and not all(point.is_trial for point in ranked):
            legend = "of the training"
        columns.append(Column(head, cells, legend))
    return columns


def _interval_text(point: Point) -> str:
    ends = point.interval
    return "" if ends is None else f"{ends[0]:.3f}-{ends[1]:.3f}".replace("0.", ".")


def _short(value: object) -> str:
    if value is None:
        return ""
    try:
        number = float(str(value))
    except ValueError:
        return str(value)
    return (
        str(value) if number.is_integer() and abs(number) < LONG else f"{number:.{SHORT_DIGITS}g}"
    )


def _fitting(columns: list[Column], width: int) -> tuple[list[Column], list[Column], int]:
    """(the first columns that fit, at least one; the others; blanks between two columns)."""
    for gap in (2, 1):
        if sum(column.width + gap for column in columns) - gap <= width:
            return columns, [], gap
    ends = accumulate(column.width + 1 for column in columns)
    n = max(1, sum(end - 1 <= width for end in ends))
    return columns[:n], columns[n:], 1


def notes(report: Report, columns: Sequence[Column], left: Sequence[Column] = ()) -> list[str]:
    """What the figures of a table mean, one line each; `left` are columns that did not fit."""
    lines = []
    if report.hypervolume is None:
        lines.append("hypervolume: none, since an objective has no reference value")
    else:
        reference = reference_text(report.objectives)
        lines.append(f"hypervolume {report.hypervolume:.4g}, reference point: {reference}")
        if report.front and report.hypervolume == 0:
            lines[-1] += "; no network is better than that in every objective"
    if report.missing:
        lines.append(f"not measured: {missing_text(report)}")
    controls = [point for point in report.points if point.mark is Mark.CONTROL]
    if controls:
        best = [
            f"{report.metrics[name].short} {max(point.metrics[name] for point in controls):.4f}"
            for name in (VAL_ACCURACY, CERTIFIED_ACCURACY)
        ]
        lines.append(
            f"control: the classifier alone, {controls[0].handle} and so on, at best "
            f"{' and '.join(best)}"
        )
    if report.study.config.proven_by:
        authors = ", ".join(report.study.config.proven_by)
        lines.append(
            f"bounds of blocks by {authors} are the word of their author, and so is all that is "
            "proven with them"
        )
    if report.constraints:
        rules = ", ".join(c.phrase(c.metric) for c in report.constraints)
        word = on_the_word_of(report.study.config.proven_by)
        lines.append(f"on the front only completed trials with {rules}{word}{_remedy(report)}")
    legends = "; ".join(f"{column.head}: {column.legend}" for column in columns if column.legend)
    if legends and report.points:
        lines.append(legends)
    if left:
        names = ", ".join(column.legend or column.head for column in left)
        lines.append(f"not shown for the width: {names}; the CSV has all")
    if report.unsure is not None:
        lines.append(report.unsure)
    if any(not point.is_trial for point in report.front):
        n_steps = report.study.config.search.fine_tune_steps
        how = f"fine-tuned for {n_steps} steps a rung" if n_steps else "not trained further"
        lines.append(f"@b: the trial's network, the bound of each block's g at most b, {how}")
    return lines


def missing_text(report: Report) -> str:
    """How many networks lack a metric that decides who is on the front."""
    listed = report.missing.items()
    return ", ".join(f"{name} of {count_of(n, 'network')}" for name, n in listed)


def _remedy(report: Report) -> str:
    """What to do if networks were trained to their end and none meets the constraints."""
    marks = {point.mark for point in report.points}
    if report.where or Mark.FRONT in marks or Mark.INFEASIBLE not in marks:
        return ""
    metrics = [constraint.metric for constraint in report.constraints]
    smaller = "a search.ladder, a lower coeff or " if LIPSCHITZ_UPPER_BOUND in metrics else ""
    return f"; there are none: start a study with {smaller}a looser constraint"


def print_text(console: Console, text: str, indent: str = "") -> None:
    """Print a paragraph, wrapped between words; commands and addresses stay whole."""
    lines = textwrap.wrap(
        text,
        min(console.width, _WIDTH),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    for line in lines:
        console.print(escaped(line), markup=False, soft_wrap=True)


def counts_of(report: Report) -> str:
    """The study's name, the conditions on its networks, how many have each mark, and what rounding
    takes of their certified answers if that is much."""
    name, counts = report.study.name, marks_of(report)
    if not report.where:
        return f"{name}: {counts or 'no trials'}{rounding_of(report)}"
    if not counts:
        return f"{name}: no network has {report.where}"
    return f"{name}, only networks with {report.where}: {counts}{rounding_of(report)}"


def rounding_of(report: Report) -> str:
    """What rounding takes of the certified answers, and what to do about it, after a semicolon;
    empty if it takes little."""
    lost, config = report.lost_to_rounding, report.study.config
    if lost < _MUCH_ROUNDING:
        return ""
    precision = config.evaluation.precision_with(config.model.head)
    remedy = "" if precision == "float64" else ": set evaluation.precision: float64 in a new study"
    return f"; rounding in {precision} takes {lost:.0%} of the certified answers{remedy}"


def marks_of(report: Report) -> str:
    """How many networks have each mark; empty if there are none."""
    n_of = Counter(point.mark for point in report.points)
    return ", ".join(f"{n_of[mark]} {mark.value}" for mark in Mark if n_of[mark])


def recording_console() -> Console:
    """A console that records its output, for a notebook."""
    return Console(
        record=True, file=io.StringIO(), width=_NOTEBOOK_WIDTH, highlight=False, force_jupyter=False
    )


def wide_console() -> Console:
    """Standard output, with room for a table even if it is not a terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_FILE_WIDTH)
