"""A report to look at: as a page, one file that opens without a network and without a server; and
as a table and figures in a notebook.

page_files/ has the code that draws a page, a file for each section, joined in the order of their
names with those in page_files/shared/, which the page of a comparison has too.
"""

import html
import json
import string
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from study.errors import FailedError, UserError, one_of
from study.metrics.definitions import (
    LIPSCHITZ_UPPER_BOUND,
    METRICS,
    TEST_ACCURACY,
    VAL_ACCURACY,
)
from study.metrics.goals import Objective
from study.results import comparison_views as views
from study.results.comparison import Comparison, Member
from study.results.front import Mark, Numbers, Point, finite
from study.results.report import Report
from study.results.sections import MOST_NETWORKS, sections
from study.results.tables import columns_of, counts_of, notes
from study.tracking.pages import run_page

_FOLDER = files("study.results") / "page_files"


def check_files(report: Report) -> None:
    """Whether the networks of the front still have their files.

    Raises:
        FailedError: if one has none, which says that they were deleted.
    """
    for point in report.front[:MOST_NETWORKS]:
        if not report.files.artifacts(point.first.run_id):
            place = report.files.run(point.first.run_id).info.artifact_uri
            raise FailedError(
                f"the files of {point.handle} must be where MLflow keeps them, {place}, but they "
                "are gone",
                "html",
            )


def write_page(path: Path, shown: Report | Comparison) -> None:
    """Write the page of a study, or of several.

    Raises:
        UserError: if the file cannot be written.
    """
    text = page(shown) if isinstance(shown, Report) else comparison_page(shown)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"the file must be writable, but {path} is not: {error}", "html") from error


def page(report: Report) -> str:
    """The page of a study as HTML: all of its points, with their marks."""
    content = {"study": report.study.name, **_common(report.objectives, report.points)}
    of_study = sections(report)
    for section in of_study:
        content |= section.content
    content["absent"] = {section.name: section.absent for section in of_study if section.absent}
    return _assembled(f"{report.study.name}: report", content, _FOLDER, ("points", "all points"))


def comparison_page(comparison: Comparison) -> str:
    """The page of several studies as HTML."""
    points = [p for s in comparison.studies for p in s.report.points if p.is_admitted]
    content = {
        **_common(comparison.objectives, points),
        **_comparison_content(comparison),
    }
    names = ", ".join(study.name for study in comparison.studies)
    skip = ("joint", "the joint front")
    return _assembled(f"{names}: comparison", content, _FOLDER / "comparison", skip)


def _assembled(
    title: str, content: dict[str, Any], parts: Traversable, skip: tuple[str, str]
) -> str:
    """A page as HTML: its content, and the sections of a folder, in what all pages share.

    Args:
        skip: id of the section that a reader may skip to, and of what its table is.
    """
    shared = _FOLDER / "shared"

    def text(part: Traversable) -> str:
        return part.read_text(encoding="utf-8")

    code = sorted(
        (part for folder in (shared, parts) for part in folder.iterdir() if ".js" in part.name),
        key=lambda part: part.name,
    )
    as_json = json.dumps(content, allow_nan=False, separators=(",", ":"), default=asdict)
    return string.Template(text(shared / "page.html")).substitute(
        title=html.escape(title),
        table=skip[0],
        table_of=skip[1],
        sections=text(parts / "sections.html"),
        reading=text(parts / "reading.html") + text(shared / "reading.html"),
        css=text(shared / "page.css"),
        js=f'"use strict";\n(() => {{\n{"".join(map(text, code))}}})();\n',
        plotly=get_plotlyjs(),
        # Text of the study, a name or a reason, must not end the element that it stands in.
        content=as_json.replace("<", "\\u003c"),
    )


def _common(objectives: Sequence[Objective], points: Sequence[Point]) -> dict[str, Any]:
    """What every page has: what is sought, and what each metric is and in how many digits the
    points have it."""
    numbers = Numbers(points)
    return {
        "made": f"Made by study.report at {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, from MLflow.",
        "accuracy": VAL_ACCURACY,
        "objectives": [{"name": o.metric, "direction": o.direction.value} for o in objectives],
        "reference_point": ", ".join(
            f"{METRICS[o.metric].title} {o.reference:g}" for o in objectives
        ),
        "metrics": [
            {
                "name": name,
                "title": metric.title,
                "short": metric.short,
                "description": metric.description,
                "direction": metric.direction.value,
                "decimals": numbers.decimals(name),
            }
            for name, metric in METRICS.items()
        ],
    }


def _comparison_content(comparison: Comparison) -> dict[str, Any]:
    """What the page of a comparison draws beside what all pages have, for JSON."""
    members = [m for m in comparison.members(every=True) if m.point.is_admitted]
    names = [objective.metric for objective in comparison.objectives]
    shown = dict.fromkeys([*names, VAL_ACCURACY, TEST_ACCURACY])
    numbers = [study.name for study in comparison.studies]
    of_all = views.content(comparison, every=False)
    # A page is sent to others: no folder of this machine is in it.
    studies = [{k: v for k, v in s.items() if k != "tracking_uri"} for s in of_all["studies"]]
    is_empty = "" if comparison.joint_front else "no study has a network that a front admits"
    apart, growths = comparison.differences, [one.report.growth for one in comparison.studies]
    absent = {
        "trade": is_empty if len(names) > 1 else "there is one objective",
        "differences": "" if any((*apart.hypervolume, *apart.best_accuracy)) else "nothing differs",
        "growth": "" if any(growths) else "no trial has ended, or an objective has no reference",
        "settings": "" if comparison.settings else "no setting differs",
        "joint": is_empty,
    }
    return {
        **{key: of_all[key] for key in ("hypervolume", "differences", "note")},
        "studies": studies,
        "summary": list(views.summary(comparison)),
        "legend": list(views.legend(comparison)),
        "points": {
            "network": [member.handle for member in members],
            "study": [numbers.index(member.study.name) for member in members],
            "is_joint": [comparison.is_joint(member.point) for member in members],
            "metrics": {
                name: [finite(member.point.metrics.get(name)) for member in members]
                for name in shown
            },
        },
        "absent": {name: why for name, why in absent.items() if why},
        "networks": [member.point.handle for member in comparison.joint_front],
        "uris": [views.uri_for(comparison, member) for member in comparison.joint_front],
        "run_pages": [_run_page(member) for member in comparison.joint_front],
        "tables": {
            "difference": views.differences_table(comparison),
            "settings": views.settings_table(comparison),
            "joint": views.networks_table(comparison, every=False),
        },
    }


def _run_page(member: Member) -> str | None:
    report = member.study.report
    page = run_page(report.files.client.tracking_uri, report.study.experiment_id)
    return page and page.replace("{run_id}", member.point.first.run_id)


def as_html(report: Report) -> str:
    """The front as a table, and below it which to take, as HTML for a notebook."""
    columns = columns_of(report, report.front, every=False)

    def row(cells: Iterable[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

    head = row((column.head for column in columns), "th")
    cells = zip(*(column.cells for column in columns), strict=True)
    table = f"<table>{head}{''.join(row(one, 'td') for one in cells)}</table>"
    taken = "".join(
        f"<li><code>{html.escape(one.point.handle)}</code>, {', '.join(one.aliases)}: "
        f"{html.escape(one.sentence)}</li>"
        for one in report.recommended
    )
    figures = "<br>".join(map(html.escape, notes(report, columns)))
    return (
        f"<p><b>{html.escape(counts_of(report))}</b></p>{table}"
        f"<ul>{taken}</ul><p><small>{figures}</small></p>"
    )


def figure(report: Report, kind: str) -> go.Figure:
    """A figure of a study for a notebook: "front", its first objective against each other one, or
    "growth", the hypervolume of its front as trials ended.

    Raises:
        UserError: for another kind, or one that the study has nothing for.
    """
    figures = {"front": _front, "growth": _growth}
    if kind not in figures:
        raise UserError(one_of(kind, tuple(figures)), "kind")
    drawn = figures[kind](report)
    return drawn.update_layout(title=report.study.name, template="simple_white")


def _front(report: Report) -> go.Figure:
    first, *others = (objective.metric for objective in report.objectives)
    if not others:
        raise UserError(f"a trade must have two objectives, but there is {first} alone", "kind")
    drawn = make_subplots(cols=len(others), shared_yaxes=True, horizontal_spacing=0.03)
    for column, other in enumerate(others, start=1):
        for mark, size, color in ((Mark.DOMINATED, 6, "#b0b0b0"), (Mark.FRONT, 11, "#0072b2")):
            networks = report.frame[report.frame["mark"] == mark.value]
            points = go.Scatter(
                x=networks[other],
                y=networks[first],
                text=networks["network"],
                mode="markers",
                name=mark.value,
                legendgroup=mark.value,
                showlegend=column == 1,
                marker={"size": size, "color": color},
            )
            drawn.add_trace(points, 1, column)
        scale = "log" if other == LIPSCHITZ_UPPER_BOUND else "linear"
        drawn.update_xaxes(title=METRICS[other].title, type=scale, col=column)
    return drawn.update_yaxes(title=METRICS[first].title, col=1)


def _growth(report: Report) -> go.Figure:
    grown = report.growth
    if grown is None:
        raise UserError(
            "to grow, a front must have a reference value for each objective, and a trial that has "
            "ended",
            "kind",
        )
    line = go.Scatter(x=grown.epochs, y=grown.hypervolume, mode="lines", line={"shape": "hv"})
    return go.Figure(line).update_layout(
        xaxis_title="epochs of all trials", yaxis_title="hypervolume"
    )
