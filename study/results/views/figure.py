"""A report as a figure in a notebook."""

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from study.errors import UserError
from study.metrics.definitions import BLOCK_LIPSCHITZ_UPPER_BOUND
from study.results.front import Mark
from study.results.report import Report


def figure(report: Report, kind: str) -> go.Figure:
    """A figure of a study for a notebook: "front", the first objective against each of the others.
    Raises UserError for another kind, or if the study has one objective."""
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
        scale = "log" if other == BLOCK_LIPSCHITZ_UPPER_BOUND else "linear"
        drawn.update_xaxes(title=report.metrics[other].title, type=scale, col=column)
    drawn.update_yaxes(title=report.metrics[first].title, col=1)
    return drawn.update_layout(title=report.study.name, template="simple_white")
