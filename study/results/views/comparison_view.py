"""The sections of a comparison of studies, printed and in its page."""

import shlex
from collections.abc import Sequence

from study.metrics.definitions import (
    TEST_ACCURACY,
    TEST_CERTIFIED_ACCURACY,
    VAL_ACCURACY,
)
from study.metrics.goals import reference_text
from study.metrics.rounding import radius_text
from study.results.comparison import BEST, Comparison
from study.results.differences import Estimate
from study.results.front import Mark
from study.results.numbers import JustifiedNumbers
from study.results.views.report_table import metric_columns
from study.results.views.sections import Column, Section, Terminal, View, texts

_HERE = Terminal()


def view(comparison: Comparison) -> View[Comparison]:
    """A comparison, to print or as a page."""
    title = f"{', '.join(comparison.reports)}: comparison"
    printed = _studies, _differences, _recommended, _joint, _settings
    drawn = _studies, _differences, _joint, _trade, _growth, _settings
    table = "joint", "the joint front"
    return View(comparison, title, "comparison", table, printed, drawn, _typeset)


def _typeset(comparison: Comparison, every: bool) -> list[Column]:
    """The joint front for a paper."""
    return metric_columns(comparison, comparison.ranked(every), every, JustifiedNumbers)


def _studies(comparison: Comparison, _: Terminal = _HERE) -> Section:
    rows, names, notes = comparison.studies_content(), comparison.reports, _notes(comparison)
    content = {
        # A page is sent to others: it names no folder of this machine.
        "studies": [
            {key: value for key, value in row.items() if key != "tracking_uri"} for row in rows
        ],
        "hypervolume": comparison.hypervolume,
        "summary": notes,
    }
    table = [
        Column("study", texts(rows, "name"), is_text=True),
        Column("networks", texts(rows, "n_networks")),
        Column("front", texts(rows, "n_front")),
        Column("on the joint front", texts(rows, "n_joint_front")),
        Column("hypervolume", texts(rows, "hypervolume", ".4g")),
        Column(f"best {VAL_ACCURACY}", texts(rows, BEST, ".4f")),
    ]
    title = f"{', '.join(names)}: {len(names)} studies"
    return Section("studies", content, "", title, table, notes)


def _notes(comparison: Comparison) -> list[str]:
    """The conditions that selected networks, where each study was read if they come from several
    places, and what is left out since radii differ, one sentence each."""
    notes = []
    for name, report in comparison.reports.items():
        if report.where:
            notes.append(f"{name}: only networks with {report.where}")
        if comparison.is_of_several_places:
            called = "" if report.study.name == name else f"the study {report.study.name} "
            notes.append(f"{name}: {called}in MLflow at {comparison.place(name)}")
    if len(comparison.radii) > 1:
        each = ", ".join(f"{radius_text(r)} in {name}" for r, name in comparison.radii.items())
        notes.append(f"accuracies within a radius are not shown, since evaluation.radius is {each}")
    return notes


def _differences(comparison: Comparison, _: Terminal = _HERE) -> Section:
    apart, rows = comparison.differences, comparison.differences_content()
    is_known = any((*apart.hypervolume, *apart.best_accuracy))
    table = [Column(f"minus {next(iter(comparison.reports))}", texts(rows, "study"), is_text=True)]
    for title, key, form in (
        ("hypervolume", "hypervolume", ".3g"),
        (f"best {VAL_ACCURACY}", BEST, ".4f"),
    ):
        table.append(Column(title, [_difference(row[key], form) for row in rows], is_text=True))
    return Section(
        "differences",
        {"differences": rows, "note": apart.note},
        "" if is_known else "there are no two networks to compare",
        "Differences",
        table,
        [apart.note],
    )


def _difference(estimate: Estimate | None, form: str) -> str:
    """A difference with its interval; empty for None."""
    if estimate is None:
        return ""
    text = f"{estimate.value:+{form}}"
    if estimate.interval is None:
        return text
    low, high = (f"{end:+{form}}" for end in estimate.interval)
    noise = ", within the noise" if estimate.is_within_noise else ""
    return f"{text} ({low} to {high}{noise})"


def _recommended(comparison: Comparison, _: Terminal) -> Section:
    """The recommended networks. Only printed: the page has them in the cards of the studies."""
    lines = [
        f"{name}/{one.point.label}: {', '.join(one.aliases)}"
        for name, report in comparison.reports.items()
        for one in report.recommended
    ]
    return Section(title="Recommended networks of each study", texts=lines)


def _joint(comparison: Comparison, terminal: Terminal = _HERE) -> Section:
    front, joint = comparison.front, comparison.ranked(terminal.every)
    objectives, lines = comparison.objectives, list[str]()
    if front:
        lines.append(f"Check a proof again: {_command(comparison, terminal.options)}")
    if comparison.hypervolume is not None:
        lines.append(
            f"hypervolume of the joint front {comparison.hypervolume:.4g}, reference point of all: "
            f"{reference_text(objectives)}"
        )
    return Section(
        "joint",
        {
            "networks": [comparison.typed(point) for point in front],
            "uris": [comparison.place_to_type(point) for point in front],
            "run_pages": [comparison.run_page(point) for point in front],
        },
        "" if joint else _NO_FRONT,
        "The joint front" + (", and all other networks" if terminal.every else ""),
        metric_columns(comparison, joint, terminal.every),
        lines,
    )


_NO_FRONT = "no study has a network that a front admits"


def _command(comparison: Comparison, uri_option: Sequence[str]) -> str:
    """The command that verifies the first network of the front, with MLflow's address if needed."""
    first = comparison.front[0]
    place = comparison.place_to_type(first)
    to_verify = comparison.reports[first.study].study.config.to_verify
    words = ["python", "-m", "study.verify", comparison.typed(first), *to_verify]
    return shlex.join([*words, *uri_option, place] if uri_option and place else words)


def _trade(comparison: Comparison) -> Section:
    names, objectives = list(comparison.reports), [one.metric for one in comparison.objectives]
    admitted = [point for point in comparison.ranked(every=True) if point.is_admitted]
    also = (VAL_ACCURACY, TEST_ACCURACY, TEST_CERTIFIED_ACCURACY)
    metrics = [*objectives, *(name for name in also if name in comparison.metrics)]
    points = {
        "network": [point.handle for point in admitted],
        "study": [names.index(point.study) for point in admitted],
        "is_joint": [point.mark is Mark.FRONT for point in admitted],
        "metrics": {name: [point.metrics.get(name) for point in admitted] for name in metrics},
    }
    no_front = "" if comparison.front else _NO_FRONT
    why = no_front if len(objectives) > 1 else "there is one objective"
    return Section("trade", {"points": points}, why)


def _growth(comparison: Comparison) -> Section:
    """How the fronts grew; the page draws it from the content of `_studies`."""
    is_known = any(report.growth for report in comparison.reports.values())
    why = "no trial has ended, or an objective has no reference value"
    return Section("growth", absent="" if is_known else why)


def _settings(comparison: Comparison, _: Terminal = _HERE) -> Section:
    settings = comparison.settings
    table = [Column("key", list(settings), is_text=True)]
    for number, name in enumerate(comparison.reports):
        cells = [values[number] or "-" for values in settings.values()]
        table.append(Column(name, cells, is_text=True))
    why = "" if settings else "no setting differs"
    return Section("settings", absent=why, title="Settings that differ", table=table)
