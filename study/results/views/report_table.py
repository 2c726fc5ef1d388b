"""The report of a study as it is printed: a table of networks, which to take, what figures mean."""

import math
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

from rich.text import Text

from study.config.trial import COEFF
from study.errors import count_of
from study.metrics.definitions import (
    BLOCK_LIPSCHITZ_UPPER_BOUND,
    CERTIFIED_ACCURACY,
    LOST_TO_ROUNDING,
    RECONSTRUCTION_ERROR,
    VAL_ACCURACY,
    Metric,
)
from study.metrics.goals import reference_text
from study.pareto.repeats import N_DRAWS
from study.results import paper
from study.results.front import Mark, Point, Ranking
from study.results.numbers import JustifiedNumbers, Numbers, best_beyond_noise, leading_metrics
from study.results.recommended import KNEE
from study.results.report import Report
from study.results.views.sections import Column, Section, Terminal
from study.results.where import LONG, SHORT_DIGITS, heading
from study.tracking.pages import on_the_word_of

# The fraction of the certified answers from which on a loss to rounding is mentioned.
_MUCH_ROUNDING = 0.05
_OF_PAPER = {"paper acc": "test accuracy", "paper rec": "reconstruction error of test images"}


def networks(report: Report, terminal: Terminal) -> Section:
    """The front as a table, then which networks to take and what the figures mean."""
    ranked = report.ranked(terminal.every) or [point for point, _ in report.least_violating]
    every = terminal.every or not report.front
    columns, left, gap = _fitting(columns_of(report, ranked, every), terminal.width)
    return Section(
        title=counts_of(report),
        table=columns if ranked else (),
        texts=[
            *([None] if ranked else []),
            *report.violations,
            *_recommended(report, terminal.options),
            *_notes(report, columns, left),
        ],
        gap=gap,
        dim=[point.mark is not Mark.FRONT for point in ranked],
    )


def typeset(report: Report, every: bool) -> list[Column]:
    """The columns of a report for a paper: no more digits than are justified."""
    return columns_of(report, report.ranked(every), every, JustifiedNumbers)


def _recommended(report: Report, options: Sequence[str]) -> Iterator[str | Text]:
    for one in report.recommended:
        yield Text(f"{one.point.handle}: {', '.join(one.aliases)}", style="bold")
        yield f"  {one.sentence}"
    if KNEE in report.handles:
        words = ("study.verify", report.handles[KNEE], *report.study.config.to_verify, *options)
        yield f"Check a proof again: python -m {shlex.join(words)}"


def metric_columns(
    ranking: Ranking,
    ranked: Sequence[Point],
    every: bool,
    writing: type[Numbers] = Numbers,
    n_val_images: int | None = None,
) -> list[Column]:
    """Columns with the names and metrics of points and, if `every` is set, their marks.

    Args:
        ranking: says what the objectives are, and what the metrics that may have a column mean.
        ranked: its points to list.
        writing: how numbers are written.
        n_val_images: for the confidence intervals beside accuracies; None for no intervals.
    """
    metrics, sought = ranking.metrics, {one.metric: one for one in ranking.objectives}
    numbers = writing(ranked)
    rivals = {p.handle for p in ranked if p.is_admitted} | {p.handle for p in ranking.controls}
    columns = [Column("network", [point.handle for point in ranked], is_text=True)]
    if every:
        columns.append(Column("mark", [point.mark.value for point in ranked], is_text=True))
    within = [name for name in metrics if "@" in name]  # a radius, see study.results.radii
    for name in [*leading_metrics(ranked, ranking.objectives), *within]:
        if name not in metrics or metrics[name].short in (column.head for column in columns):
            continue
        column = _of_metric(metrics[name], name, ranked, numbers)
        if name in sought:
            best = best_beyond_noise(ranked, sought[name], rivals)
            column = replace(column, direction=sought[name].direction, best=best)
        columns.append(column)
        if name == VAL_ACCURACY and n_val_images is not None:
            how = f"its confidence interval, on the {n_val_images} images"
            columns.append(Column("95 %", [_interval_text(point) for point in ranked], how))
    return columns


def _of_metric(metric: Metric, name: str, ranked: Sequence[Point], numbers: Numbers) -> Column:
    cells = [numbers.with_error(point, name) for point in ranked]
    return Column(metric.short, cells, metric.description, symbol=metric.symbol, unit=metric.unit)


def columns_of(
    report: Report, ranked: Sequence[Point], every: bool, writing: type[Numbers] = Numbers
) -> list[Column]:
    """The columns of a report's points, the most important first."""
    columns = metric_columns(report, ranked, every, writing, report.n_val_images)
    config = report.study.config
    if paper.is_table1(config):
        metric = report.metrics[RECONSTRUCTION_ERROR]
        columns.append(_of_metric(metric, RECONSTRUCTION_ERROR, ranked, writing(ranked)))
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
    for key, _ in config.family:
        cells = [_short(float(point.first.params[key])) for point in ranked]
        columns.append(Column(heading(key), cells, "" if heading(key) == key else key))
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
    """Returns (fitting, left, gap): the first columns that fit into `width` characters, at least
    one; the others; the number of blanks between two columns."""
    for gap in (2, 1):
        if sum(column.width + gap for column in columns) - gap <= width:
            return columns, [], gap
    ends = accumulate(column.width + 1 for column in columns)
    n = max(1, sum(end - 1 <= width for end in ends))
    return columns[:n], columns[n:], 1


def _notes(report: Report, columns: Sequence[Column], left: Sequence[Column]) -> Iterator[str]:
    """What the figures of a table mean, one line each; `left` are columns that did not fit."""
    config = report.study.config
    if report.hypervolume is None:
        yield "hypervolume: none, since an objective has no reference value"
    else:
        is_none = report.front and report.hypervolume == 0
        why = "; no network is better than that in every objective" if is_none else ""
        reference = reference_text(report.objectives)
        yield f"hypervolume {report.hypervolume:.4g}, reference point: {reference}{why}"
    if report.missing:
        listed = report.missing.items()
        missing = ", ".join(f"{name} of {count_of(n, 'network')}" for name, n in listed)
        yield f"not measured: {missing}"
    controls = [point for point in report.points if point.mark is Mark.CONTROL]
    if controls:
        best = " and ".join(
            f"{report.metrics[name].short} {max(point.metrics[name] for point in controls):.4f}"
            for name in (VAL_ACCURACY, CERTIFIED_ACCURACY)
        )
        yield f"control: the classifier alone, {controls[0].handle} and so on, at best {best}"
        if report.added_to_controls is not None:
            yield f"hypervolume that networks add to the controls': {report.added_to_controls:.4g}"
    if config.proven_by:
        yield (
            f"bounds of blocks by {', '.join(config.proven_by)} are the word of their author, and "
            "so is all that is proven with them"
        )
    if report.constraints:
        rules = ", ".join(c.phrase(c.metric) for c in report.constraints)
        word = on_the_word_of(config.proven_by)
        yield f"on the front only completed trials with {rules}{word}{_remedy(report)}"
    if report.points and all(len(point.records) == 1 for point in report.points):
        yield "each network was trained with one seed; search.repeats trains it with several"
    legends = "; ".join(f"{column.head}: {column.legend}" for column in columns if column.legend)
    if legends and report.points:
        yield legends
    if left:
        names = ", ".join(column.legend or column.head for column in left)
        yield f"not shown for the width: {names}; the CSV has all"
    if report.unsure is not None:
        yield report.unsure
    if config.family:
        names = ",".join(name for name, _ in config.family)
        own = "the trial's own network is the one in the middle"
        yield f"@{names}: the member of its family with these values; {own}"
    elif any(not point.is_trial for point in report.front):
        n_steps = config.search.fine_tune_steps
        how = f"fine-tuned for {n_steps} steps a rung" if n_steps else "not trained further"
        yield f"@b: the trial's network, the bound of each block's g at most b, {how}"


def _remedy(report: Report) -> str:
    """What to do if trained networks exist but none meets the constraints, as text; else empty."""
    marks = {point.mark for point in report.points}
    if report.where or Mark.FRONT in marks or Mark.INFEASIBLE not in marks:
        return ""
    metrics = [constraint.metric for constraint in report.constraints]
    smaller = "a search.ladder, a lower coeff or " if BLOCK_LIPSCHITZ_UPPER_BOUND in metrics else ""
    return f"; there are none: start a study with {smaller}a looser constraint"


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
    config = report.study.config
    measured = [p.metrics for p in report.points if LOST_TO_ROUNDING in p.metrics]
    lost = math.fsum(metrics[LOST_TO_ROUNDING] for metrics in measured)
    kept = math.fsum(metrics[CERTIFIED_ACCURACY] for metrics in measured)
    # As a fraction of the answers that are certified in exact arithmetic.
    lost /= (lost + kept) or 1
    if lost < _MUCH_ROUNDING:
        return ""
    precision = config.evaluation.precision_with(config.model.head)
    remedy = "" if precision == "float64" else ": set evaluation.precision: float64 in a new study"
    return f"; rounding in {precision} takes {lost:.0%} of the certified answers{remedy}"


def marks_of(report: Report) -> str:
    """How many networks have each mark; empty if there are none."""
    n_of = Counter(point.mark for point in report.points)
    return ", ".join(f"{n_of[mark]} {mark.value}" for mark in Mark if n_of[mark])
