"""What a study and a comparison of several have in common: each is printed, written and drawn."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from study.errors import renamed
from study.results import tables
from study.results.report import Report

# Imported where they are needed: opening a study must not wait for pandas.
if TYPE_CHECKING:
    import pandas as pd

    from study.results.comparison import Comparison


class Shown(ABC):
    """A study, or several compared; `results` has every network with its mark."""

    results: "Report | Comparison"

    @property
    def front(self) -> "pd.DataFrame":
        """The front, one row per network, as in the report's CSV; of one study the best first."""
        return self.results.selected(every=False).copy()

    @property
    def hypervolume(self) -> float | None:
        """Volume dominated by the front within the reference point, exact, in the product of the
        objectives' scales, log10 for bounds of the inverse; None if one has no reference value."""
        return self.results.hypervolume

    def as_json(self, every: bool) -> str:
        """The front, or every network, and the rest of the report, as JSON."""
        return tables.as_json(self.results.content(every))

    def as_csv(self, every: bool) -> str:
        """The front, or every network, as CSV."""
        return tables.as_csv(self.results.selected(every))

    def print_table(self, *, every: bool = False, options: Sequence[str] = ()) -> None:
        """Print the front and the recommended networks, as `python -m study.report` does.

        Args:
            every: include networks that are not on the front, each with its mark.
            options: of the commands printed for the user; for several studies, the option for
                MLflow's address without its value.
        """
        self._print_to(tables.wide_console(), every, options)

    @abstractmethod
    def _print_to(self, console: Console, every: bool, options: Sequence[str] = ()) -> None:
        """Print as `print_table` does, to a console."""

    @renamed({"html": "path"})
    def write_page(self, path: str | Path) -> None:
        """Write the report as a page, one HTML file.

        Raises:
            UserError: if the file cannot be written.
            FailedError: if the files of a network on the front were deleted.
        """
        from study.results.page import check_files, write_page

        if isinstance(self.results, Report):
            check_files(self.results)
        write_page(Path(path), self.results)

    def _repr_html_(self) -> str:
        return self._printed().export_html(inline_styles=True, code_format="<pre>{code}</pre>")

    def _printed(self) -> Console:
        console = tables.recording_console()
        self._print_to(console, every=False)
        return console
