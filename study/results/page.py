"""A report as a page, one file that needs no network and no server, and as a figure in a notebook.

page_files/ has the code that draws a page, one file per section, joined in the order of names with
those in page_files/shared/, which the page of a comparison has too. They are the body of one
function, which shared/start.js calls.
"""

import base64
import gzip
import html
import json
import string
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from study.errors import FailedError, UserError, printable
from study.metrics.definitions import LIPSCHITZ_UPPER_BOUND, VAL_ACCURACY
from study.results import comparison_views
from study.results.comparison import Comparison
from study.results.front import Mark, Numbers, Ranking
from study.results.report import Report
from study.results.sections import MOST_NETWORKS, sections
from study.results.tables import as_json

_FOLDER = files("study.results") / "page_files"


def check_files(report: Report) -> None:
    """Raise FailedError if the files of a network on the front were deleted."""
    for point in report.front[:MOST_NETWORKS]:
        if not report.files.artifacts(point.first.run_id):
            place = printable(report.files.client.get_run(point.first.run_id).info.artifact_uri)
            raise FailedError(
                f"the files of {point.handle} must be where MLflow keeps them, {place}, but they "
                "are gone",
                "html",
            )


def write_page(path: Path, shown: Report | Comparison) -> None:
    """Write the page of a study or a comparison. Raises UserError if the file cannot be written."""
    text = page(shown, content(shown))
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"the file must be writable, but {path} is not: {error}", "html") from error


def content(shown: Report | Comparison) -> str:
    """What a page draws, as JSON: of a study all of its points and their marks."""
    drawn = sections(shown) if isinstance(shown, Report) else comparison_views.sections(shown)
    parts = {
        **_common(shown),
        **{key: value for section in drawn for key, value in section.content.items()},
        "tables": {section.name: section.table for section in drawn},
        "absent": {section.name: section.absent for section in drawn if section.absent},
    }
    return as_json(parts, indent=None, separators=(",", ":"))


def page(shown: Report | Comparison, drawn: str, live: str = "") -> str:
    """The page of a study or a comparison as HTML.

    Args:
        drawn: its content.
        live: of a page that asks its server for newer content, the tag of this one.
    """
    # skip: id of the section to which readers may skip, and what its table lists.
    if isinstance(shown, Report):
        title, skip, parts = f"{shown.study.name}: report", ("points", "all points"), _FOLDER
    else:
        title, skip = f"{', '.join(shown.reports)}: comparison", ("joint", "the joint front")
        parts = _FOLDER / "comparison"
    shared = _FOLDER / "shared"

    def text(part: Traversable) -> str:
        return part.read_text(encoding="utf-8")

    code = sorted(
        (part for folder in (shared, parts) for part in folder.iterdir() if "-" in part.name),
        key=lambda part: part.name,
    )
    js = f"""\
"use strict";
const LIVE = {json.dumps(live)};
const drawPage = (content, before) => {{
{"".join(map(text, code))}}};
{text(shared / "start.js")}"""
    return string.Template(text(shared / "page.html")).substitute(
        title=html.escape(title),
        made=f"Made by study.report at {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, from MLflow.",
        table=skip[0],
        table_of=skip[1],
        sections=text(parts / "sections.html"),
        reading=text(parts / "reading.html") + text(shared / "reading.html"),
        css=text(shared / "page.css"),
        js=js,
        connect="'self'" if live else "'none'",
        plotly=_packed_plotly(),
        content=_packed(drawn),
    )


def _packed(text: str) -> str:
    """Text as gzip in base 85, without a slash, so that it cannot end its <script> element."""
    return base64.b85encode(gzip.compress(text.encode(), mtime=0)).decode()


@cache
def _packed_plotly() -> str:
    return _packed(_unwrapped(get_plotlyjs()))


def _unwrapped(plotly: str) -> str:
    """Plotly's code without the function that it is wrapped in, if it is: a browser would read all
    of it twice, which takes half a second. The license above it stays."""
    begin, end = plotly.find('"use strict";var Plotly='), plotly.rfind("return Plotly;")
    notice, closed, _ = plotly[: max(begin, 0)].partition("*/")
    code = plotly[begin:end]
    # Strict code keeps its own variables to itself.
    is_whole = closed and begin < end and "window.Plotly = Plotly;" in code
    return f"{notice}*/\n{code}" if is_whole else plotly


def _common(shown: Ranking) -> dict[str, Any]:
    """Content of every page: the goals, and each metric with its number of decimals."""
    numbers = Numbers(shown.points)
    return {
        "accuracy": VAL_ACCURACY,
        "objectives": [
            {"name": one.metric, "direction": one.direction.value} for one in shown.objectives
        ],
        "reference_point": ", ".join(
            f"{shown.metrics[one.metric].title} {one.reference:g}" for one in shown.objectives
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
            for name, metric in shown.metrics.items()
        ],
    }


def figure(report: Report, kind: str) -> go.Figure:
    """A figure of a study for a notebook: "front", the first objective against each of the others.

    Raises:
        UserError: for another kind, or if the study has one objective.
    """
    if kind != "front":
        raise UserError('must be "front"', "kind", kind)
    first, *others = (objective.metric for objective in report.objectives)
    if not others:
        raise UserError(f"a trade must have two objectives, but there is {first} alone", "kind")
    drawn = make_subplots(cols=len(others), shared_yaxes=True, horizontal_spacing=0.03)
    for column, other in enumerate(others, start=1):
        # The symbols of the page.
        for mark, symbol, size, color in (
            (Mark.DOMINATED, "circle-open", 6, "#b0b0b0"),
            (Mark.CONTROL, "square", 8, "#00795a"),
            (Mark.FRONT, "circle", 11, "#0072b2"),
        ):
            networks = report.frame[report.frame["mark"] == mark.value]
            points = go.Scatter(
                x=networks[other],
                y=networks[first],
                text=networks["network"],
                mode="markers",
                name=mark.value,
                legendgroup=mark.value,
                showlegend=column == 1,
                marker={"symbol": symbol, "size": size, "color": color},
            )
            drawn.add_trace(points, 1, column)
        scale = "log" if other == LIPSCHITZ_UPPER_BOUND else "linear"
        drawn.update_xaxes(title=report.metrics[other].title, type=scale, col=column)
    drawn.update_yaxes(title=report.metrics[first].title, col=1)
    return drawn.update_layout(title=report.study.name, template="simple_white")
