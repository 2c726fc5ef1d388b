"""What is shown of a study or a comparison: sections, printed or drawn in a page."""

import io
import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from study.errors import escaped
from study.metrics.definitions import VAL_ACCURACY, Direction
from study.results.front import Ranking
from study.results.numbers import Numbers

if TYPE_CHECKING:
    import pandas as pd

# Widths in characters: of text, and of tables in a file and in a notebook.
_WIDTH = 80
FILE_WIDTH, _NOTEBOOK_WIDTH = 150, 110

R = TypeVar("R", bound=Ranking)


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        head: the heading, a few letters.
        legend: what the heading stands for; empty if that is clear.
        is_text: whether cells are words, not numbers.
        symbol, unit: of a metric, for papers; see Metric.
        direction: which way an objective goes; None for other columns.
        best: row of the best value of an objective, if it is best beyond the noise.
    """

    head: str
    cells: Sequence[str]
    legend: str = ""
    is_text: bool = False
    symbol: str = ""
    unit: str = ""
    direction: Direction | None = None
    best: int | None = None

    @property
    def width(self) -> int:
        return max(map(len, [self.head, *self.cells]))


def texts(rows: Sequence[Mapping[str, Any]], key: str, form: str = "") -> list[str]:
    """The values at one key of all rows as text, formatted by `form`; empty for None."""
    return ["" if row[key] is None else format(row[key], form) for row in rows]


@dataclass(frozen=True)
class Section:
    """A part of what is shown, as it is printed and as a page draws it.

    Attributes:
        name: id of its element in a page; empty if it has none.
        content: what the page draws, by name, for JSON.
        absent: why there is nothing to show, a sentence; empty if there is something.
        title: printed above it; empty if it is not printed.
        table: printed below the title, and in the page.
        texts: paragraphs below the table; blanks at the beginning of one indent all its lines; None
            is a blank line.
        gap: blanks between two printed columns.
        dim: which printed rows are dim; none by default.
    """

    name: str = ""
    content: Mapping[str, Any] = field(default_factory=dict)
    absent: str = ""
    title: str = ""
    table: Sequence[Column] = ()
    texts: Sequence[str | Text | None] = ()
    gap: int = 2
    dim: Sequence[bool] = ()


@dataclass(frozen=True)
class Terminal:
    """How sections are printed.

    Attributes:
        every: whether to include networks that are not on the front.
        options: added to the commands in the text, such as MLflow's address; for a comparison, the
            option alone, without its value.
        width: of a table, in characters.
    """

    every: bool = False
    options: Sequence[str] = ()
    width: int = FILE_WIDTH


@dataclass(frozen=True)
class View(Generic[R]):
    """A report or a comparison as sections. Each section is a function that computes its content
    from the results and says when it applies; nothing else knows what the section is about.

    Attributes:
        title: of its page.
        folder: below page_files/, of the code that draws its sections.
        table: id of the section to which readers of the page may skip, and what its table lists.
        printed, drawn: the sections in a terminal, and in a page, in order.
        typeset: the columns of its table for a paper, of all networks or those of the front.
        check: raises FailedError if files that the page shows were deleted.
    """

    results: R
    title: str
    folder: str
    table: tuple[str, str]
    printed: Sequence[Callable[[R, Terminal], Section]]
    drawn: Sequence[Callable[[R], Section]]
    typeset: Callable[[R, bool], Sequence[Column]]
    check: Callable[[], None] = lambda: None

    def content(self) -> str:
        """What a page draws, as JSON."""
        sections = [section(self.results) for section in self.drawn]
        parts = {
            **_goals(self.results),
            **{key: value for one in sections for key, value in one.content.items()},
            "tables": {one.name: one.table for one in sections if one.table},
            "absent": {one.name: one.absent for one in sections if one.absent},
        }
        return as_json(parts, indent=None, separators=(",", ":"))

    def print_to(self, console: Console, every: bool = False, options: Sequence[str] = ()) -> None:
        """Print the sections; arguments as for Terminal."""
        terminal = Terminal(every, options, console.width)
        for number, section in enumerate(self.printed):
            if number:
                console.print()
            one = section(self.results, terminal)
            console.print(one.title, style="bold", markup=False)
            if one.table and not one.absent:
                console.print(table_of(one.table, one.gap, one.dim))
            for text in [one.absent] if one.absent else one.texts:
                print_text(console, text)


def _goals(ranking: Ranking) -> dict[str, Any]:
    """Content of every page: the goals, and each metric with its number of decimals."""
    objectives, metrics, numbers = ranking.objectives, ranking.metrics, Numbers(ranking.points)
    return {
        "accuracy": VAL_ACCURACY,
        "objectives": [
            {"name": one.metric, "direction": one.direction.value} for one in objectives
        ],
        "reference_point": ", ".join(
            f"{metrics[one.metric].title} {one.reference:g}" for one in objectives
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
            for name, metric in metrics.items()
        ],
    }


def table_of(
    columns: Sequence[Column], gap: int = 2, dim: Sequence[bool] = (), **options: Any
) -> Table:
    """Columns as a table; `gap` and `dim` as in Section, `options` of rich's Table."""
    look = {"box": None, "pad_edge": False, "padding": (0, gap, 0, 0), "header_style": "bold"}
    table = Table(**{**look, **options})
    for column in columns:
        # Text may be typed into a command: it is folded, never cut.
        table.add_column(
            column.head,
            justify="left" if column.is_text else "right",
            no_wrap=not column.is_text,
            overflow="fold",
        )
    for number, row in enumerate(zip(*(column.cells for column in columns), strict=True)):
        style = "dim" if number < len(dim) and dim[number] else None
        table.add_row(*(Text(escaped(cell)) for cell in row), style=style)  # Text has no markup
    return table


def print_text(console: Console, text: str | Text | None) -> None:
    """Print a paragraph, wrapped between words; commands and addresses stay whole."""
    if not isinstance(text, str):
        console.print(text or "")
        return
    words = text.lstrip()
    indent = text[: len(text) - len(words)]
    lines = textwrap.wrap(
        words,
        min(console.width, _WIDTH),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    for line in lines:
        console.print(escaped(line), markup=False, soft_wrap=True)


def as_json(content: object, **options: Any) -> str:
    """JSON, with null for values that are not finite; `options` are those of `json.dumps`."""
    finite = json.loads(json.dumps(content, default=asdict), parse_constant=lambda _: None)
    return json.dumps(finite, **{"indent": 1, "allow_nan": False, **options})


def as_csv(frame: "pd.DataFrame") -> str:
    """CSV with a header."""
    return frame.to_csv(index=False, lineterminator="\n").rstrip("\n")


def recording_console() -> Console:
    """A console that records its output, for a notebook."""
    return Console(
        record=True, file=io.StringIO(), width=_NOTEBOOK_WIDTH, highlight=False, force_jupyter=False
    )


def wide_console() -> Console:
    """Standard output, with room for a table even if it is not a terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=FILE_WIDTH)
