"""A report as figures in a notebook; views.plot draws them for print."""

from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from study.errors import UserError
from study.metrics.definitions import BLOCK_LIPSCHITZ_UPPER_BOUND
from study.results.front import Mark
from study.results.report import Report
from study.results.views.report_view import CORRELATIONS_TAKE, GROWTH_TAKES, network_content

# In gray they differ as well: by symbol or dash, and in lightness.
_MARKS = (
    (Mark.DOMINATED, "circle-open", 6, "#b0b0b0"),
    (Mark.CONTROL, "square", 8, "#003d2d"),
    (Mark.FRONT, "circle", 11, "#0072b2"),
)
_LINES = (
    ("#000000", "solid", "circle"),
    ("#d55e00", "dash", "square"),
    ("#00588a", "dot", "diamond"),
    ("#e0a800", "dashdot", "triangle-up"),
)


def figure(report: Report, kind: str) -> go.Figure:
    """A figure of a study, as `Study.figure` describes it. Raises UserError for another kind, or if
    there is nothing to draw."""
    if kind not in KINDS:
        raise UserError(f"must be one of {', '.join(KINDS)}", "kind", kind)
    made = figures(report, [kind])
    if not made:
        _, needed = _KINDS[kind]
        raise UserError(f"a study must have {needed} for it, but has not", "kind", kind)
    return made[kind]


def figures(report: Report, kinds: Iterable[str] | None = None) -> dict[str, go.Figure]:
    """Kind -> figure, for those kinds of which the study has anything to draw; of all by
    default."""
    made = {kind: _KINDS[kind][0](report) for kind in kinds or KINDS}
    title = {"title": report.study.name, "template": "simple_white"}
    return {
        kind: drawn.update_layout(title)
        for kind, drawn in made.items()
        if any(len(trace.x) for trace in drawn.data)
    }


def _front(report: Report) -> go.Figure:
    first, *others = (objective.metric for objective in report.objectives)
    if not others:
        return go.Figure()
    drawn = make_subplots(cols=len(others), shared_yaxes=True, horizontal_spacing=0.03)
    for column, other in enumerate(others, start=1):
        for mark, symbol, size, color in _MARKS:
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
        metric = report.metrics[other]
        is_log = metric.in_decades or other == BLOCK_LIPSCHITZ_UPPER_BOUND
        drawn.update_xaxes(title=metric.title, type="log" if is_log else "linear", col=column)
    return drawn.update_yaxes(title=report.metrics[first].title, col=1)


def _radii(report: Report) -> go.Figure:
    drawn = go.Figure()
    for name, content, color, dash, _ in _recommended(report):
        curve, attack = content["certified"], content["attack"]
        # Between two radii, what is proven at the larger one.
        line = {"color": color, "dash": dash, "shape": "vh"}
        drawn.add_scatter(
            x=curve["radii"], y=curve["accuracies"], name=name, mode="lines", line=line
        )
        if attack is not None and curve["radii"]:
            x, y = [attack["radius"]], [attack["accuracy"]]
            _add_crosses(drawn, x, y, f"{name}: attacked", color)
    drawn.update_xaxes(title=f"radius, l2, {report.study.config.data.unit}")
    return drawn.update_yaxes(title="certified test accuracy", range=[0, 1.02])


def _inverse(report: Report) -> go.Figure:
    drawn = go.Figure()
    for name, content, color, dash, symbol in _recommended(report):
        of, look = content["inverse"], (color, dash, symbol)
        _add_line(drawn, of["n_steps"], of["errors"], name, *look)
    drawn.update_xaxes(title="steps in every block")
    return drawn.update_yaxes(title="reconstruction error, l2", type="log")


def _growth(report: Report) -> go.Figure:
    drawn, grown = go.Figure(), report.growth
    if grown is not None and len(grown.epochs) > 1:
        line = {"color": _LINES[0][0], "dash": "solid", "shape": "hv"}
        x, y = grown.epochs, grown.hypervolume
        drawn.add_scatter(x=x, y=y, name="front", mode="lines", line=line)
    drawn.update_xaxes(title="epochs trained, of all trials")
    return drawn.update_yaxes(title="hypervolume")


def _proofs(report: Report) -> go.Figure:
    drawn = go.Figure()
    for name, content, color, dash, symbol in _recommended(report):
        bounds = [block["upper_bound"] for block in content["blocks"]]
        _add_line(drawn, [*range(1, len(bounds) + 1)], bounds, name, color, dash, symbol)
        if attained := content["attained"]:
            x = [*range(1, len(attained) + 1)]
            _add_crosses(drawn, x, attained, f"{name}: attained", color)
    drawn.update_xaxes(title="block")
    return drawn.update_yaxes(title="Lip(g), l2")


def _hyperparameters(report: Report) -> go.Figure:
    drawn, found = go.Figure(), report.correlated
    names = [*dict.fromkeys(name for of in found.values() for name in of)]
    for k, ((metric, of), (color, _, symbol)) in enumerate(
        zip(found.items(), cycle(_LINES), strict=False)
    ):
        # Beside each other on the line of their hyperparameter.
        shift = 0.5 * ((k + 0.5) / len(found) - 0.5)
        drawn.add_scatter(
            x=[one.value for one in of.values()],
            y=[names.index(name) + shift for name in of],
            name=report.metrics[metric].title,
            mode="markers",
            marker={"symbol": symbol, "size": 9, "color": color},
            error_x={
                "array": [one.high - one.value for one in of.values()],
                "arrayminus": [one.value - one.low for one in of.values()],
            },
        )
    drawn.update_xaxes(title="rank correlation, with its 95 % interval", range=[-1.02, 1.02])
    lines = [*range(len(names))]
    return drawn.update_yaxes(range=[len(names) - 0.5, -0.5], tickvals=lines, ticktext=names)


def _add_line(
    drawn: go.Figure, x: list[float], y: list[float], name: str, color: str, dash: str, symbol: str
) -> None:
    line, marker = {"color": color, "dash": dash}, {"symbol": symbol, "size": 6}
    drawn.add_scatter(x=x, y=y, name=name, line=line, marker=marker, mode="lines+markers")


def _add_crosses(drawn: go.Figure, x: list[float], y: list[float], name: str, color: str) -> None:
    marker = {"symbol": "x", "size": 9, "color": color}
    drawn.add_scatter(x=x, y=y, name=name, mode="markers", marker=marker)


def _recommended(report: Report) -> Iterator[tuple[str, dict[str, Any], str, str, str]]:
    """Yield the name of each recommended network, what is stored with it, and its look."""
    for one, look in zip(report.recommended, _LINES, strict=False):
        yield ", ".join(one.aliases), network_content(report, one.point), *look


# Kind -> how it is drawn, and what that takes.
_WITH_FILES = "a recommended network with its files"
_KINDS: dict[str, tuple[Callable[[Report], go.Figure], str]] = {
    "front": (_front, "two objectives, and a network that meets the constraints,"),
    "growth": (_growth, f"{GROWTH_TAKES},"),
    "hyperparameters": (_hyperparameters, f"{CORRELATIONS_TAKE},"),
    "proofs": (_proofs, _WITH_FILES),
    "radii": (_radii, _WITH_FILES),
    "inverse": (_inverse, _WITH_FILES),
}
KINDS = tuple(_KINDS)
