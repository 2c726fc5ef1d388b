"""Figures for a notebook and for print: the same points, readable in gray, as files."""

import json
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from scipy.stats import spearmanr

from study.errors import UserError
from study.results.report import Report, collect
from study.results.views.figure import _LINES, KINDS, figure, figures
from study.results.views.plot import plotted, write
from tests.support.records import STUDY, Kept, projection, sought, study_of, trial

CURVES = {
    "run0": [0.9, 0.5, 0.0],
    "run1": [0.8, 0.7, 0.1],
    "run2": [0.7, 0.6, 0.3],
}
BOUNDS = {"run0": [0.9, 0.8], "run1": [0.5, 0.6], "run2": [0.1, 0.2]}


def report_of(**changes: Any) -> Report:
    """Three networks on the front, all recommended, with files; and dominated ones: a projection,
    and trials that are the less accurate the more dropout they have."""
    goals = sought(val_accuracy=0.1, certified_accuracy=0.0, inverse_lipschitz_upper_bound=1e4)
    records = [
        trial(
            number,
            val_accuracy=(0.9, 0.88, 0.8)[number],
            certified_accuracy=(0.3, 0.5, 0.45)[number],
            inverse_lipschitz_upper_bound=(1e3, 10.0, 1.0)[number],
            block_lipschitz_upper_bound=0.9 - number / 10,
            **({"attacked_accuracy": 0.6} if number == 0 else {}),
        )
        for number in range(3)
    ]
    worse = {"certified_accuracy": 0.1, "inverse_lipschitz_upper_bound": 2e3}
    records.append(projection(0, 0.2, val_accuracy=0.2, **worse))
    for k in range(5):
        sample = {"coeff": (0.5, 0.2, 0.3)[k % 3], "n_power_iterations": 1, "dropout": k / 10 + 0.2}
        records.append(trial(3 + k, sample=sample, val_accuracy=0.6 - k / 10, **worse))
    files = {
        run: {
            "certificate.json": json.dumps(
                {
                    "on_test_split": {"radius": [0.0, 2.0, 4.0], "certified_accuracy": curve},
                    "blocks": [
                        {"name": f"body.{k}", "upper_bound": bound}
                        for k, bound in enumerate(BOUNDS[run])
                    ],
                    "empirical_lipschitz": [bound / 2 for bound in BOUNDS[run]],
                }
            ).encode(),
            "inverse.json": json.dumps(
                {"n_steps": [1, 2, 3], "reconstruction_error": [1e-2, 1e-5, None]}
            ).encode(),
        }
        for run, curve in CURVES.items()
    }
    made = collect(study_of(goals, **changes), records)
    return replace(made, records=Kept(files))


REPORT = report_of()


def numbers(values: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(values, np.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_print_has_the_points_and_titles_of_the_notebook(kind: str) -> None:
    made = figure(REPORT, kind)
    drawn = plotted(made)
    axes = ["x" if number == 0 else f"x{number + 1}" for number in range(len(drawn.axes))]
    for axis, panel in zip(axes, drawn.axes, strict=True):
        traces = [trace for trace in made.data if (trace.xaxis or "x") == axis]
        assert len(traces) == len(panel.lines) > 0
        for trace, line in zip(traces, panel.lines, strict=True):
            np.testing.assert_array_equal(numbers(trace.x), line.get_xdata())
            np.testing.assert_array_equal(numbers(trace.y), line.get_ydata())
            assert trace.name == line.get_label()
        of_plotly = made.layout[f"xaxis{axis[1:]}"]
        assert panel.get_xlabel() == of_plotly.title.text
        assert panel.get_xscale() == (of_plotly.type or "linear")
        assert panel.get_ylabel() == (made.layout.yaxis.title.text or "")
        assert panel.get_yscale() == (made.layout.yaxis.type or "linear")
        if made.layout.yaxis.range is None:
            # The axis fits the points: they take most of its length.
            scaled = np.log10 if panel.get_yscale() == "log" else np.asarray
            values = scaled(np.concatenate([line.get_ydata() for line in panel.lines]))
            assert np.ptp(values[np.isfinite(values)]) > 0.8 * np.ptp(scaled(panel.get_ylim()))
    (legend,) = drawn.legends
    assert {text.get_text() for text in legend.get_texts()} == {t.name for t in made.data}


def test_the_front_has_every_network_by_its_mark() -> None:
    made, frame = figure(REPORT, "front"), REPORT.frame
    columns = ["certified_accuracy", "inverse_lipschitz_upper_bound"]
    assert len(made.data) == 3 * len(columns)
    for trace in made.data:
        of_mark = frame[frame["mark"] == trace.name]
        other = columns[0 if trace.xaxis == "x" else 1]
        assert list(trace.x) == list(of_mark[other])
        assert list(trace.y) == list(of_mark["val_accuracy"])
        assert list(trace.text) == list(of_mark["network"])
    assert [len(trace.x) for trace in made.data[:3]] == [6, 0, 3]
    # It runs over decades.
    assert [made.layout.xaxis.type, made.layout.xaxis2.type] == ["linear", "log"]


def test_the_radii_are_those_of_the_recommended_networks_with_the_attack() -> None:
    lines = {trace.name: trace for trace in figure(REPORT, "radii").data if trace.mode == "lines"}
    assert len(REPORT.recommended) == len(lines) == 3
    for one in REPORT.recommended:
        line = lines[", ".join(one.aliases)]
        assert list(line.x) == [0.0, 2.0, 4.0]
        assert list(line.y) == CURVES[one.point.first.run_id]
        assert line.line.shape == "vh"
    (cross,) = (trace for trace in figure(REPORT, "radii").data if trace.mode == "markers")
    assert (cross.name, cross.x[0], cross.y[0]) == ("most-accurate: attacked", 4.0, 0.6)
    # What is proven at 2 is proven between 0 and 2.
    assert {
        line.get_drawstyle() for line in plotted(figure(REPORT, "radii")).axes[0].lines[:1]
    } == {"steps-pre"}


def test_growth_is_the_hypervolume_after_each_trial() -> None:
    (line,) = figure(REPORT, "growth").data
    assert list(line.x) == [3 * number for number in range(1, 9)]
    # By inclusion and exclusion over the boxes of three points, the decades of the inverse as one
    # axis. No later trial adds to it.
    boxes = [(0.9 - 0.1, 0.3, 1.0), (0.88 - 0.1, 0.5, 3.0), (0.8 - 0.1, 0.45, 4.0)]
    volumes = []
    for n in (1, 2, 3):
        parts = [
            (-1) ** (size + 1) * float(np.prod(np.min(some, axis=0)))
            for size in range(1, n + 1)
            for some in combinations(boxes[:n], size)
        ]
        volumes.append(sum(parts))
    ratios = np.array(line.y) / line.y[-1]
    np.testing.assert_allclose(ratios, [*volumes, *[volumes[-1]] * 5] / np.float64(volumes[-1]))
    assert plotted(figure(REPORT, "growth")).axes[0].lines[0].get_drawstyle() == "steps-post"


def test_proofs_are_the_bounds_of_the_blocks_with_what_they_attain() -> None:
    bounds, found = (
        {trace.name: trace for trace in figure(REPORT, "proofs").data if trace.mode == mode}
        for mode in ("lines+markers", "markers")
    )
    for one in REPORT.recommended:
        name, of_run = ", ".join(one.aliases), BOUNDS[one.point.first.run_id]
        assert list(bounds[name].x) == list(found[f"{name}: attained"].x) == [1, 2]
        assert list(bounds[name].y) == of_run
        assert list(found[f"{name}: attained"].y) == [bound / 2 for bound in of_run]


def test_hyperparameters_have_their_rank_correlation_on_a_line_of_their_own() -> None:
    made = figure(REPORT, "hyperparameters")
    names = list(made.layout.yaxis.ticktext)
    assert set(names) == {"coeff", "dropout"}  # the count of power iterations does not vary
    points = list(REPORT.searched)
    for trace, objective in zip(made.data, REPORT.objectives, strict=True):
        assert trace.name == REPORT.metrics[objective.metric].title
        for name, x, y in zip(np.round(trace.y).astype(int), trace.x, trace.y, strict=True):
            values = [point.metrics[objective.metric] for point in points]
            of_name = [point.first.sample[names[name]] for point in points]
            assert x == pytest.approx(spearmanr(of_name, values).statistic)
            assert abs(y - name) < 0.5
    (panel,) = plotted(made).axes
    bars = [segment for lines in panel.collections for segment in lines.get_segments()]
    ends = [
        (x - low, x + high)
        for trace in made.data
        for x, low, high in zip(trace.x, trace.error_x.arrayminus, trace.error_x.array, strict=True)
    ]
    np.testing.assert_allclose([bar[:, 0] for bar in bars], ends)
    assert [text.get_text() for text in panel.get_yticklabels()] == names


def lightness(color: str) -> float:
    """L* of CIELAB, in [0, 100], of an sRGB color such as #0072b2."""
    channels = np.array([int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    return 116 * luminance ** (1 / 3) - 16 if luminance > 0.008856 else 903.3 * luminance


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "growth"])
def test_in_gray_no_two_look_alike(kind: str) -> None:
    (panel, *_) = plotted(figure(REPORT, kind)).axes
    looks = {
        str(line.get_label()): (
            str(line.get_color()),
            line.get_marker(),
            line.get_linestyle(),
            line.get_markerfacecolor() == "none",
        )
        for line in panel.lines
        if ": " not in str(line.get_label())  # attacked, or attained
    }
    assert len(looks) == 3
    for one, other in combinations(looks.values(), 2):
        assert abs(lightness(one[0]) - lightness(other[0])) > 15
        assert one[1:] != other[1:]
    for (one, *_), (other, *_) in combinations(_LINES, 2):
        assert abs(lightness(one) - lightness(other)) > 15
    # Darker than the paper.
    assert all(lightness(color) < 80 for color, *_ in looks.values())


def test_files_are_a_column_wide_with_their_fonts_and_the_same_each_time(tmp_path: Path) -> None:
    written = write(tmp_path / "once", figures(REPORT))
    names = [f"{kind}.{form}" for kind in KINDS for form in ("svg", "pdf")]
    assert [path.name for path in written] == names
    again = write(tmp_path / "again", figures(report_of()))
    for one, other in zip(written, again, strict=True):
        content = one.read_bytes()
        assert content == other.read_bytes()
        if one.suffix == ".pdf":
            assert b"/MediaBox [ 0 0 234 " in content  # points: 3.25 inches
            assert b"/FontFile2" in content
            assert b"/Type3" not in content
            assert b"CreationDate" not in content
        else:
            assert re.search(rb'<svg [^>]*\bwidth="234pt"', content)
            assert b"<text" not in content  # outlines
            assert b"<dc:date>" not in content
            assert b"http://" not in re.sub(
                rb'(xmlns[:\w]*|rdf:\w+)="[^"]*"|<!DOCTYPE[^>]*>', b"", content
            )


def test_what_a_study_lacks_is_not_drawn(tmp_path: Path) -> None:
    bare = replace(REPORT, records=Kept())
    assert [*figures(bare)] == ["front", "growth", "hyperparameters"]
    alone = replace(report_of(), objectives=REPORT.objectives[:1])
    assert [*figures(alone)] == ["growth", "hyperparameters", "proofs", "radii", "inverse"]
    for report, kind, says in (
        (bare, "radii", "a study must have a recommended network with its files for it"),
        (alone, "front", "a study must have two objectives, and"),
        (
            replace(REPORT, points=REPORT.points[:1]),
            "growth",
            "a study must have a reference value",
        ),
        (replace(REPORT, points=REPORT.points[:7]), "hyperparameters", "a study must have 8 comp"),
        (REPORT, "pie", "must be one of front, growth, hyperparameters, proofs, radii, inverse, "),
    ):
        with pytest.raises(UserError, match=rf"^kind: {says}"):
            figure(report, kind)
    empty = collect(STUDY, [])
    assert figures(replace(empty, records=Kept())) == {}
    with pytest.raises(
        UserError, match=r"^folder: a study must have networks to draw, but has none"
    ):
        write(tmp_path / "figures", {})
    assert not (tmp_path / "figures").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    one = {"one": go.Figure().add_scatter(x=[1], y=[2], name="a", mode="markers")}
    for folder in (tmp_path / "file", tmp_path / "no" / "folder"):
        with pytest.raises(
            UserError, match=r"^folder: the folder must be writable, but "
        ) as raised:
            write(folder, one)
        assert "\n" not in str(raised.value)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "one.pdf").mkdir()
    with pytest.raises(UserError, match=r"but .*there is not: "):
        write(tmp_path / "there", one)
