"""Several studies: all of a tracking server, and some side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from study.api.study import Study
from study.errors import renamed
from study.execution.driver import Driver
from study.results import comparison, comparison_views, listing, tables
from study.results.comparison import Comparison

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Listing:
    """All studies of a server or database, the latest first.

    Attributes:
        lines: a mapping for each; see `results.listing.listed`.
        place: where they are, for a message.
    """

    lines: list[dict[str, Any]]
    place: str

    @classmethod
    def of(cls, tracking_uri: str | None = None) -> "Listing":
        """Those in MLflow there; arguments and errors as of `study.open`."""
        client = Driver.of(tracking_uri).client
        return cls(listing.listed(client), client.place)

    def as_json(self, every: bool) -> str:
        """All of them, whatever `every` is."""
        return tables.as_json(self.lines)

    def as_csv(self, every: bool) -> str:
        """Likewise."""
        return tables.as_csv(listing.frame(self.lines))

    def print_table(self, *, every: bool = False, options: object = ()) -> None:
        """Likewise."""
        listing.print_list(self.lines, tables.wide_console(), self.place)


@renamed({"study": "studies"})
def compare(*studies: "Study") -> "ComparedStudies":
    """Several studies side by side, by the objectives, the constraints and the reference point of
    the first.

    Args:
        studies: two or more.

    Raises:
        UserError: if a study is there twice, their data, validation split or measurements differ,
            or one has not measured an objective.
    """
    return ComparedStudies(comparison.compare([one.results for one in studies]))


@dataclass(frozen=True, repr=False)
class ComparedStudies:
    """Several studies side by side.

    Attributes:
        content: all of it: each study, differences with their intervals, settings that differ.
    """

    content: Comparison

    @property
    def front(self) -> "pd.DataFrame":
        """The joint front, a row a network, with the study that it comes from."""
        return comparison_views.frame(self.content, every=False)

    @property
    def hypervolume(self) -> float | None:
        """Of the joint front, as `Study.hypervolume`."""
        return self.content.hypervolume

    def as_json(self, every: bool) -> str:
        """All of it as JSON; of its networks the joint front, or every one."""
        return tables.as_json(comparison_views.content(self.content, every))

    def as_csv(self, every: bool) -> str:
        """Its networks as CSV, likewise."""
        return tables.as_csv(comparison_views.frame(self.content, every))

    def print_table(self, *, every: bool = False, options: Sequence[str] = ()) -> None:
        """As `python -m study.report` prints it, likewise; `options` has the option that says where
        MLflow is, without its value."""
        comparison_views.print_comparison(self.content, every, tables.wide_console(), options)

    @renamed({"html": "path"})
    def write_page(self, path: str | Path) -> None:
        """Write the comparison as a page, one HTML file.

        Raises:
            UserError: if the file cannot be written.
        """
        from study.results.page import write_page

        write_page(Path(path), self.content)

    def __repr__(self) -> str:
        return self._printed().export_text()

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return tables.as_html(self._printed())

    def _printed(self) -> Console:
        return tables.recorded(
            lambda console: comparison_views.print_comparison(self.content, False, console)
        )
