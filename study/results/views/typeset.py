"""A table for a paper: LaTeX, with the package booktabs, or Markdown in GitHub's form."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from study.errors import escaped
from study.metrics.definitions import Direction
from study.results.views.sections import Column

# What `Numbers` writes: a value, its standard error, a power of ten that both have.
_NUMBER = re.compile(r"\(?(-?(?:[\d.]+|inf))(?: \+-([\d.]+))?\)?(?:e([+-]\d+))?")
_RANGE = re.compile(r"^([\d.]+)-([\d.]+)$")  # an interval
_NAMED = {"\\": "backslash", "~": "asciitilde", "^": "asciicircum", "<": "less", ">": "greater"}
_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "{}$&#%_"}
    # After the end of a row, a bracket or a star would be its argument.
    | {c: f"{{{c}}}" for c in "[*"}
    | {c: f"\\text{name}{{}}" for c, name in {**_NAMED, "|": "bar"}.items()}
)


@dataclass(frozen=True)
class _Markup:
    """How a cell is written: `text` escapes words; the others are patterns."""

    text: Callable[[str], str]
    number: str
    bold: str
    error: str
    power: str
    symbol: str
    arrows: dict[Direction, str]

    def head(self, column: Column) -> str:
        head = self.symbol.format(column.symbol) if self.symbol and column.symbol else ""
        unit = f" ({column.unit})" if column.unit else ""
        arrow = "" if column.direction is None else f" {self.arrows[column.direction]}"
        return (head or self.text(column.head)) + unit + arrow

    def cell(self, column: Column, row: int) -> str:
        found = None if column.is_text else _NUMBER.fullmatch(column.cells[row])
        if found is None:
            return self.text(_RANGE.sub("\\1\N{EN DASH}\\2", column.cells[row]))
        value, error, exponent = found.groups()
        number = self.bold.format(value) if row == column.best else value
        if error is not None:
            number += self.error.format(error)
        if exponent is not None:
            number = f"({number})" if error is not None else number
            number += self.power.format(int(exponent))
        return self.number.format(number)

    def rows(self, columns: Sequence[Column]) -> list[list[str]]:
        """The heading, then a list of cells for each row."""
        body = range(len(columns[0].cells))
        return [
            [self.head(one) for one in columns],
            *([self.cell(one, row) for one in columns] for row in body),
        ]


_IN_LATEX = _Markup(
    # Two hyphens would become a dash.
    text=lambda plain: re.sub("-(?=-)", "-{}", escaped(plain).translate(_LATEX)),
    number="${}$",
    bold=r"\mathbf{{{}}}",
    error=r" \pm {}",
    power=r" \times 10^{{{}}}",
    symbol="${}$",
    arrows={Direction.MAXIMIZE: r"$\uparrow$", Direction.MINIMIZE: r"$\downarrow$"},
)
_IN_MARKDOWN = _Markup(
    text=lambda plain: re.sub(r"([\\`*_\[\]<>#|~$&])", r"\\\1", escaped(plain)),
    number="{}",
    bold="**{}**",
    error=" ± {}",
    power="e{:+03d}",
    symbol="",
    arrows={Direction.MAXIMIZE: "↑", Direction.MINIMIZE: "↓"},
)


def latex(columns: Sequence[Column]) -> str:
    """A tabular. The best value of an objective is bold if it is best beyond the noise."""
    places = "".join("l" if one.is_text else "r" for one in columns)
    head, *body = (" & ".join(row) + r" \\" for row in _IN_LATEX.rows(columns))
    lines = [rf"\begin{{tabular}}{{{places}}}", r"\toprule", head, r"\midrule", *body]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]).replace("$inf$", r"$\infty$")


def markdown(columns: Sequence[Column]) -> str:
    """The same table as in LaTeX."""
    head, *body = _IN_MARKDOWN.rows(columns)
    line = [":--" if one.is_text else "--:" for one in columns]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, line, *body))
