"""A table for a paper: LaTeX, with the package booktabs, or Markdown in GitHub's form."""

import re
from collections.abc import Callable, Sequence

from study.errors import escaped
from study.metrics.definitions import Direction
from study.results.views.sections import Column

# As `Numbers` writes it: a value, its standard error, and a power of ten that both have.
_NUMBER = re.compile(r"(\(?)(-?[\d.]+|inf)( \+-[\d.]+)?\)?(e[+-]\d+)?")
_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "{}$&#%_"}
    # After the end of a row, a bracket or a star would be its argument.
    | {c: f"{{{c}}}" for c in "[*"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
)


def typeset(columns: Sequence[Column], form: str) -> str:
    """Columns as `form` "latex" or "markdown". The best value of an objective is bold if it is best
    beyond the noise."""
    return _latex(columns) if form == "latex" else _markdown(columns)


def _latex(columns: Sequence[Column]) -> str:
    def text(plain: str) -> str:
        # Two hyphens would become a dash.
        return re.sub("-(?=-)", "-{}", escaped(plain).translate(_LATEX))

    def number(plain: str) -> str:
        plain = plain.replace("+-", r"\pm ").replace("inf", r"\infty")
        return "$" + re.sub(r"e\+?(-?)0*(\d+)$", r" \\times 10^{\1\2}", plain) + "$"

    heads = [f"${one.symbol}$" if one.symbol else text(one.head) for one in columns]
    rows = _rows(columns, heads, (r" $\uparrow$", r" $\downarrow$"), r"\mathbf{%s}", text, number)
    head, *body = (" & ".join(row) + r" \\" for row in rows)
    places = "".join("l" if one.is_text else "r" for one in columns)
    begin, end = rf"\begin{{tabular}}{{{places}}}", r"\end{tabular}"
    return "\n".join([begin, r"\toprule", head, r"\midrule", *body, r"\bottomrule", end])


def _markdown(columns: Sequence[Column]) -> str:
    def text(plain: str) -> str:
        return re.sub(r"([\\`*_\[\]<>#|~$&])", r"\\\1", escaped(plain))

    def number(plain: str) -> str:
        return plain.replace("+-", "± ")

    heads = [text(one.head) for one in columns]
    head, *body = _rows(columns, heads, (" ↑", " ↓"), "**%s**", text, number)
    line = [":--" if one.is_text else "--:" for one in columns]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, line, *body))


def _rows(
    columns: Sequence[Column],
    heads: Sequence[str],
    arrows: tuple[str, str],
    bold: str,
    text: Callable[[str], str],
    number: Callable[[str], str],
) -> list[list[str]]:
    """The heads with units and arrows (up, down), then the cells of each row."""

    def cell(column: Column, row: int) -> str:
        plain = column.cells[row]
        found = None if column.is_text else _NUMBER.fullmatch(plain)
        if found is None:
            return text(plain)
        value = found[2]
        return number(plain.replace(value, bold % value, 1) if row == column.best else plain)

    arrow = {Direction.MAXIMIZE: arrows[0], Direction.MINIMIZE: arrows[1], None: ""}
    units = [f" ({one.unit})" if one.unit else "" for one in columns]
    goals = [arrow[one.direction] for one in columns]
    rows = range(len(columns[0].cells))
    head = ["".join(parts) for parts in zip(heads, units, goals, strict=True)]
    return [head, *([cell(one, row) for one in columns] for row in rows)]
