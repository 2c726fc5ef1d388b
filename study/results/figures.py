"""Figures of a study for a notebook."""

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from study.errors import UserError, one_of
from study.metrics.definitions import LIPSCHITZ_UPPER_BOUND, METRICS
from study.results.front import Mark, Point, Results
from study.results.growth import growth

KINDS = ("front", "growth")


def figure(results: Results, kind: str) -> go.Figure:
    """A figure of a study: "front", its first objective against each other one, or "growth", the
    hypervolume of its front as trials ended.

    Raises:
        UserError: for another kind, or one that the study has nothing for.
    """
    if kind not in KINDS:
        raise UserError(f"kind: {one_of(kind, KINDS)}")
    return _front(results) if kind == "front" else _growth(results)


def _front(results: Results) -> go.Figure:
    first, *others = (objective.metric for objective in results.objectives)
    if not others:
        raise UserError(f"kind: a trade must have two objectives, but there is {first} alone")
    drawn = make_subplots(cols=len(others), shared_yaxes=True, horizontal_spacing=0.03)
    for column, other in enumerate(others, start=1):
        for mark in (Mark.DOMINATED, Mark.FRONT):
            points = [point for point in results.ranked(every=True) if point.mark is mark]
            drawn.add_trace(_scatter(results, points, mark, other, first, column == 1), 1, column)
        is_bound = other == LIPSCHITZ_UPPER_BOUND
        title = METRICS[other].title
        drawn.update_xaxes(title=title, type="log" if is_bound else "linear", col=column)
    drawn.update_yaxes(title=METRICS[first].title, col=1)
    return drawn.update_layout(title=results.study.name, template="simple_white")


def _scatter(
    results: Results, points: list[Point], mark: Mark, x: str, y: str, in_legend: bool
) -> go.Scatter:
    is_front = mark is Mark.FRONT
    return go.Scatter(
        x=[point.metrics[x] for point in points],
        y=[point.metrics[y] for point in points],
        text=[results.handle(point) for point in points],
        mode="markers",
        name=mark.value,
        legendgroup=mark.value,
        showlegend=in_legend,
        marker={"size": 11 if is_front else 6, "color": "#0072b2" if is_front else "#b0b0b0"},
    )


def _growth(results: Results) -> go.Figure:
    grown = growth(results)
    if grown is None:
        raise UserError(
            "kind: to grow, a front must have a reference value for each objective, and a trial "
            "that has ended"
        )
    line = go.Scatter(x=grown.epochs, y=grown.hypervolume, mode="lines", line={"shape": "hv"})
    return go.Figure(line).update_layout(
        title=results.study.name,
        template="simple_white",
        xaxis_title="epochs of all trials",
        yaxis_title="hypervolume",
    )
