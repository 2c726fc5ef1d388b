"""Figures of a report for print: those of plotly, drawn by matplotlib."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure

from study.errors import UserError

# The width of a column of a paper and the height of a panel, in inches; sizes of text, in points.
_WIDTH, _HEIGHT, _TEXT, _SMALL = 3.25, 2.3, 8, 7
# PDF embeds its fonts as TrueType, as journals ask. SVG has text as outlines, which look the same
# where a font is missing. The same figure gives the same files.
_FILES: dict[Any, Any] = {"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "study"}
_UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
_DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
_STEPS = {"vh": "steps-pre", "hv": "steps-post"}
_SYMBOLS = {"circle": "o", "circle-open": "o", "square": "s", "diamond": "D", "triangle-up": "^"}


def write(folder: Path, figures: dict[str, go.Figure]) -> list[Path]:
    """Write figures by name into a folder, each as SVG and PDF; returns the files. Raises UserError
    if there is none, or one cannot be written."""
    if not figures:
        raise UserError("a study must have networks to draw, but has none", "folder")
    plots = {name: plotted(figure) for name, figure in figures.items()}
    written = [folder / f"{name}.{form}" for name in plots for form in _UNDATED]
    try:
        folder.mkdir(exist_ok=True)
        with mpl.rc_context(_FILES):
            for path in written:
                plots[path.stem].savefig(path, metadata=_UNDATED[path.suffix[1:]])
    except OSError as error:
        rule = f"the folder must be writable, but {folder} is not: {error}"
        raise UserError(rule, "folder") from error
    return written


def plotted(figure: go.Figure) -> Figure:
    """A figure of plotly as one of matplotlib, a column wide, its panels below each other."""
    layout, n_panels = figure.layout, len([*figure.select_xaxes()])
    drawn = Figure(figsize=(_WIDTH, n_panels * _HEIGHT), layout="constrained")
    panels = drawn.subplots(n_panels, squeeze=False)[:, 0]
    for number, panel in enumerate(panels):
        x, y = layout[f"xaxis{number + 1 if number else ''}"], layout.yaxis
        panel.set(xscale=x.type or "linear", yscale=y.type or "linear")
        # Without a range matplotlib fits the axis to the points.
        if x.range:
            panel.set_xlim(x.range)
        if y.range:
            panel.set_ylim(y.range)
        if y.ticktext:
            panel.set_yticks(y.tickvals, y.ticktext)
        panel.set_xlabel(x.title.text, fontsize=_TEXT)
        panel.set_ylabel(y.title.text, fontsize=_TEXT)
        panel.tick_params(which="both", labelsize=_SMALL)
    for trace in figure.data:
        symbol, color = trace.marker.symbol, trace.marker.color or trace.line.color
        panel = panels[int((trace.xaxis or "x")[1:] or 1) - 1]
        x, y = (np.array(values, np.float64) for values in (trace.x, trace.y))
        if trace.error_x.array:
            low, high = x - trace.error_x.arrayminus, x + trace.error_x.array
            panel.hlines(y, low, high, color, linewidth=1.2)
        panel.plot(
            x,
            y,
            color=color,
            label=trace.name,
            linestyle=_DASHES[trace.line.dash] if trace.line.dash else "",
            linewidth=1.2,
            drawstyle=_STEPS.get(trace.line.shape, "default"),
            marker=_SYMBOLS.get(symbol, symbol),
            markersize=(trace.marker.size or 0) / 2,
            markerfacecolor="none" if symbol == "circle-open" else color,
        )
    handles, names = panels[0].get_legend_handles_labels()
    n_columns = 1 if max(map(len, names)) > 15 else len(names)
    look: dict[str, Any] = {"ncols": n_columns, "fontsize": _SMALL, "frameon": False}
    drawn.legend(handles, names, loc="outside lower center", **look)
    return drawn
