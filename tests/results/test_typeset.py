import csv
import io
import random
import re
import shutil
import string
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from typer.testing import CliRunner

from study.metrics.definitions import METRICS, Direction
from study.metrics.reports import CONTROL
from study.report import app
from study.results.numbers import JustifiedNumbers, best_beyond_noise
from study.results.report import Report, collect
from study.results.views.report_table import typeset
from study.results.views.sections import Column
from study.results.views.typeset import typeset as written
from tests.support.records import STUDY, measured, projection, sought, study_of, trial
from tests.support.records import printed as terminal

N_IMAGES = 288
OBJECTIVES = sought(val_accuracy=0.0, block_lipschitz_upper_bound=1.0, inverse_steps=50.0)
# Every printable character of ASCII, and ends of rows, which LaTeX reads on from.
AWKWARD = [string.printable[:95], "[1pt]", "*", "a--b---c", r"\input{x}", "100 % & #1_2", "a|b"]


def latex(columns: Sequence[Column]) -> str:
    return written(columns, "latex")


def markdown(columns: Sequence[Column]) -> str:
    return written(columns, "markdown")


def counted(records: list, n_images: int | None = N_IMAGES) -> Report:
    """A report whose accuracies are counted on so many validation images."""
    report = collect(study_of(OBJECTIVES), records)
    points = (replace(point, n_val_images=n_images) for point in report.points)
    return replace(report, points=tuple(points))


def cells_of(table: str) -> list[list[str]]:
    """The heading and the rows of a table in LaTeX, each cell as it stands."""
    lines = [line for line in table.splitlines() if line.endswith(r" \\")]
    return [re.split(r"(?<!\\) ?& ?", line.removesuffix(r" \\")) for line in lines]


def numbers_in(cell: str) -> list[Decimal]:
    """The value and, if it has one, the error of a number in LaTeX."""
    assert cell.startswith("$")
    assert cell.endswith("$")
    found = re.fullmatch(r"\(?([^()\\]+)(?: \\pm ([^()\\]+))?\)?(?: \\times 10\^\{(-?\d+)\})?",
                         re.sub(r"\\mathbf\{(.*?)\}", r"\1", cell[1:-1]))  # fmt: skip
    assert found is not None, cell
    scale = Decimal(10) ** int(found[3] or 0)
    return [Decimal(text) * scale for text in found.groups()[:2] if text is not None]


def some_records(seed: int) -> list:
    rng = random.Random(seed)
    return [
        measured(
            number,
            rng.randrange(200, N_IMAGES + 1) / N_IMAGES,
            round(10 ** rng.uniform(-2, -0.01), 4),
            rng.choice([3.0, 3.1, 5.0]),
        )
        for number in range(8)
    ]


@pytest.mark.parametrize("every", [False, True])
def test_a_table_in_latex_has_the_numbers_of_the_frame(every: bool) -> None:
    for seed in range(10):
        report = counted(some_records(seed))
        head, *rows = cells_of(latex(typeset(report, every)))
        frame = report.selected(every)
        assert [row[0] for row in rows] == [*frame["network"]]
        places = {name: column for column, name in enumerate(re.sub(r" \$.*", "", h) for h in head)}
        bound = head.index(r"$\mathrm{Lip}(g) \leq$ $\downarrow$")
        for row, (_, of_frame) in zip(rows, frame.iterrows(), strict=True):
            (accuracy,) = numbers_in(row[places["val acc"]])
            (proven,) = numbers_in(row[bound])
            assert float(proven) == of_frame["block_lipschitz_upper_bound"]
            # The digits: two of the half width of Wilson's interval up to 35, else one.
            right = round(of_frame["val_accuracy"] * N_IMAGES)
            ends = binomtest(right, N_IMAGES).proportion_ci(0.95, "wilson")
            shown = f"{(ends.high - ends.low) / 2:.2e}"
            n = -int(shown[4:].lstrip("e")) + (float(shown[:4]) < 3.55)
            assert -accuracy.as_tuple().exponent == n
            assert abs(float(accuracy) - of_frame["val_accuracy"]) <= 0.5 * 10**-n + 1e-9


def test_only_objectives_have_arrows_and_units_stand_in_the_heading() -> None:
    objectives = sought(val_loss=2.0, val_accuracy=0.0)
    columns = typeset(collect(study_of(objectives), [trial(0)]), every=False)
    assert [column.direction for column in columns if column.direction] == [
        Direction.MAXIMIZE,
        Direction.MINIMIZE,
    ]
    head = cells_of(latex(columns))[0]
    assert {r"val acc $\uparrow$", r"val loss (nats) $\downarrow$"} < set(head)
    assert {"val acc ↑", "val loss (nats) ↓"} < set(split_markdown(markdown(columns))[0])
    assert sum("arrow" in one for one in head) == 2


def best_by_hand(report: Report, name: str) -> int | None:
    """By comparing each network that counts with all others."""
    ranked = report.ranked(every=True)
    sign = 1 if METRICS[name].direction is Direction.MAXIMIZE else -1
    controls = {point.handle for point in report.controls}
    rows = {
        row: sign * point.metrics[name]
        for row, point in enumerate(ranked)
        if point.mark.value in ("front", "dominated") or point.handle in controls
    }
    for row, value in rows.items():
        others = [other for one, other in rows.items() if one != row]
        if name == "val_accuracy":
            ends = binomtest(round(value * N_IMAGES), N_IMAGES).proportion_ci(0.95, "wilson")
            beyond = [other < ends.low for other in others]
        elif name == "block_lipschitz_upper_bound":
            beyond = [value > other for other in others]
        else:
            beyond = [-other > -value * 1.05 for other in others]
        if others and all(beyond):
            return row
    return None


def test_the_best_is_bold_only_beyond_the_noise() -> None:
    seen = set()
    for seed in range(60):
        records = some_records(seed)[: random.Random(seed).choice([1, 2, 8])]
        smallest = min(one.metrics["block_lipschitz_upper_bound"] for one in records)
        bound = smallest if seed % 3 else 0.0
        control = projection(0, 0.5, val_accuracy=0.99, block_lipschitz_upper_bound=bound)
        control = replace(control, variant=CONTROL) if seed % 2 else control
        report = counted([*records, control])
        columns = {column.head: column for column in typeset(report, every=True)}
        for name in ("val_accuracy", "block_lipschitz_upper_bound", "inverse_steps"):
            best = best_by_hand(report, name)
            assert columns[METRICS[name].short].best == best
            seen.add((name, best is None))
            bold = [r"\mathbf" in row for row in latex([columns[METRICS[name].short]]).splitlines()]
            assert bold[4:-2] == [row == best for row in range(len(report.points))]
    assert len(seen) == 6


def test_without_the_number_of_images_no_accuracy_is_bold() -> None:
    records = [measured(0, 0.9), measured(1, 0.1, 0.1)]
    for n_images, best in ((N_IMAGES, 0), (None, None)):
        points = counted(records, n_images).ranked(every=True)
        assert best_beyond_noise(points, OBJECTIVES[0], {p.handle for p in points}) == best


@pytest.mark.parametrize(
    ("name", "value", "error", "text"),
    [
        ("certified_accuracy", 0.7569, 0.02, "0.756 +-0.020"),
        ("certified_accuracy", 0.75, 0.02, "0.750 +-0.020"),
        ("attacked_accuracy", 0.7569, 0.02, "0.757 +-0.020"),
        ("val_accuracy", 0.7569, 0.02, "0.757 +-0.020"),
        ("inverse_lipschitz_upper_bound", 14.44, 2.0, "14.5 +-2.0"),
        ("inverse_lipschitz_upper_bound", 1.2301e8, 2e7, "(1.24 +-0.20)e+08"),
    ],
)
def test_what_is_proven_is_proven_as_it_is_printed(
    name: str, value: float, error: float, text: str
) -> None:
    (point,) = collect(STUDY, [measured(0, 0.5)]).points
    point = replace(point, metrics={name: value}, standard_error={name: error})
    assert JustifiedNumbers([point]).with_error(point, name) == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.92, 0.01634, "0.920 +-0.016"),
        (0.92, 0.0963, "0.92 +-0.10"),
        (0.92, 0.004, "0.920 +-0.004"),
        (12345.0, 400.0, "12300 +-400"),
        (2.14e-7, 3e-8, "(2.14 +-0.30)e-07"),
        (1.234e8, 2e7, "(1.23 +-0.20)e+08"),
        (0.92, 0.0, "0.9200 +-0"),
        (0.92, 1e-17, "0.92000 +-0.00000"),
    ],
)
def test_a_mean_has_the_digits_of_its_error(value: float, error: float, text: str) -> None:
    (point,) = collect(STUDY, [measured(0, 0.5)]).points
    name = "val_accuracy"
    point = replace(point, metrics={name: value}, standard_error={name: error})
    assert JustifiedNumbers([point]).with_error(point, name) == text
    found = numbers_in(latex([Column("x", [text])]).splitlines()[4].removesuffix(r" \\"))
    assert float(found[0]) == pytest.approx(value, abs=0.4 * error + 1e-12)
    assert float(found[1]) == pytest.approx(error, rel=0.2, abs=1e-9)
    assert "±" in markdown([Column("x", [text])])


def test_means_of_repeats_have_their_standard_error_in_every_table() -> None:
    rng = np.random.default_rng(0)
    accuracies = rng.integers(80, 100, (4, 3)) / 100
    steps = rng.integers(300, 900, (4, 3)) / 100
    records = [
        replace(measured(3 * of + k, accuracies[of, k], 0.5, steps[of, k]), repeat_of=f"{3 * of}")
        for of in range(4)
        for k in range(3)
    ]
    report = collect(study_of(OBJECTIVES), records)
    columns = {column.head: column for column in typeset(report, every=True)}
    handles, text = columns["network"].cells, terminal(report, every=True)
    in_latex = cells_of(latex([*columns.values()]))[1:]
    in_markdown = split_markdown(markdown([*columns.values()]))[2:]
    for head, values, n in (("val acc", accuracies, 4), ("steps", steps, 2)):
        # Four samples of three: the pooled variance is the mean of the samples' own.
        error = np.sqrt(values.var(axis=1, ddof=1).mean() / 3)
        for of, mean in enumerate(values.mean(axis=1)):
            row = handles.index(f"tiny/{3 * of:04d}")
            (line,) = (one for one in text.splitlines() if one.startswith(handles[row] + " "))
            assert f" {mean:.{n}f} +-{error:.2g} " in line
            column = [*columns].index(head)
            ours = [float(one) for one in numbers_in(in_latex[row][column])]
            assert ours == pytest.approx([mean, error], abs=error / 5)
            shown = [float(one) for one in in_markdown[row][column].replace("*", "").split(" ± ")]
            assert shown == ours
    assert "one seed" not in text
    once = collect(study_of(OBJECTIVES), records[::3])
    assert [line for line in terminal(once).splitlines() if "one seed" in line] == [
        "each network was trained with one seed; search.repeats trains it with several"
    ]
    assert "one seed" not in terminal(collect(STUDY, []))


def split_markdown(table: str) -> list[list[str]]:
    """Rows of cells, as GitHub's Markdown reads them: a pipe without a backslash ends a cell."""
    rows = []
    for line in table.splitlines():
        cells = re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1]
        rows.append([re.sub(r"\\([!-/:-@[-`{-~])", r"\1", cell[1:-1]) for cell in cells])
    return rows


def test_markdown_has_the_same_cells_and_numbers_to_the_right() -> None:
    columns = typeset(counted(some_records(0)), every=True)
    head, line, *rows = split_markdown(markdown(columns))
    assert line == [":--" if column.is_text else "--:" for column in columns]
    for column, cells in zip(columns, zip(*rows, strict=True), strict=True):
        assert [cell.strip("*") for cell in cells] == [*column.cells]
    assert [one.split(" ")[0] for one in head] == [one.head.split(" ")[0] for one in columns]
    awkward = [text for text in AWKWARD if "\\" not in text]
    assert [
        row[0] for row in split_markdown(markdown([Column("x", awkward, is_text=True)]))[2:]
    ] == awkward


def test_infinite_and_absent_values_are_written() -> None:
    rows = latex([Column("x", ["inf", "", "1.234e+08", "97%", ".95-.99"])]).splitlines()[4:-2]
    assert rows == [
        r"$\infty$ \\",
        r" \\",
        r"$1.234 \times 10^{8}$ \\",
        r"97\% \\",
        r".95-.99 \\",
    ]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs TeX")
def test_latex_compiles_whatever_names_are(tmp_path: Path) -> None:
    table = latex([Column("a_b", AWKWARD, is_text=True), Column("100%", AWKWARD)])
    whole = latex(typeset(counted(some_records(0)), every=True))
    text = rf"""\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}
{table}
{whole}
{latex(typeset(counted([]), every=False))}
\end{{document}}"""
    (tmp_path / "x.tex").write_text(text)
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "x.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize("options", [[], ["--all"], ["--where", "coeff > 2"], ["--list"]])
def test_standard_output_is_the_table_alone(finished: Path, options: list[str]) -> None:
    uri = ["--tracking-uri", f"sqlite:///{finished}/mlflow.db"]
    name = [] if options == ["--list"] else ["tiny"]

    def printed(form: str) -> str:
        done = CliRunner().invoke(app, [*name, *options, *uri, "--format", form])
        assert done.exit_code == 0, done.output
        return done.stdout

    listed = [*csv.DictReader(io.StringIO(printed("csv")))]
    names = [next(iter(row.values())) for row in listed]
    in_latex = printed("latex")
    assert in_latex.startswith(r"\begin{tabular}{l")
    assert in_latex.endswith("\\end{tabular}\n")
    assert [row[0] for row in cells_of(in_latex)[1:]] == names
    in_markdown = printed("markdown")
    assert all(re.fullmatch(r"\|.*\|", line) for line in in_markdown.splitlines())
    assert [row[0] for row in split_markdown(in_markdown)[2:]] == names
