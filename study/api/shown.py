"""What a study and a comparison of several have in common: each is printed, written and drawn."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from study.errors import renamed
from study.results.front import Ranking
from study.results.views.sections import View, as_csv, as_json, recording_console, wide_console
from study.results.views.typeset import typeset

# Imported where they are needed: opening a study must not wait for pandas.
if TYPE_CHECKING:
    import pandas as pd


class Shown(ABC):
    """A study, or several compared; `results` has every network with its mark."""

    results: Ranking

    @property
    def front(self) -> "pd.DataFrame":
        """The front, one row per network, as in the report's CSV; for one study, best first."""
        return self.results.selected(every=False).copy()

    @property
    def hypervolume(self) -> float | None:
        """Volume dominated by the front within the reference point, exact, on the objectives'
        scales (log10 for bounds of the inverse); None if an objective has no reference value."""
        return self.results.hypervolume

    def as_json(self, every: bool) -> str:
        """The front, or every network, and the rest of the report, as JSON."""
        return as_json(self.results.content(every))

    def as_csv(self, every: bool) -> str:
        """The front, or every network, as CSV."""
        return as_csv(self.results.selected(every))

    def as_table(self, form: str, every: bool) -> str:
        """The front, or every network, as a table for a paper, in "latex" or "markdown"."""
        return typeset(self.view.typeset(self.results, every), form)

    def print_table(self, *, every: bool = False, options: Sequence[str] = ()) -> None:
        """Print the front and the recommended networks, as `python -m study.report` does.

        Args:
            every: include networks that are not on the front, each with its mark.
            options: added to the commands that are printed; for several studies, the option for
                MLflow's address without its value.
        """
        self.view.print_to(wide_console(), every, options)

    @property
    @abstractmethod
    def view(self) -> View[Any]:
        """The sections that are printed, and drawn in a page."""

    @renamed({"html": "path"})
    def write_page(self, path: str | Path) -> None:
        """Write the report as a page, one HTML file.

        Raises:
            UserError: if the file cannot be written.
            FailedError: if the files of a network on the front were deleted.
        """
        from study.results.views.page import write_page

        self.view.check()
        write_page(Path(path), self.view)

    def _repr_html_(self) -> str:
        return self._printed().export_html(inline_styles=True, code_format="<pre>{code}</pre>")

    def _printed(self) -> Console:
        console = recording_console()
        self.view.print_to(console)
        return console
