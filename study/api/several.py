"""Several studies: all of a tracking server, and some side by side."""

from collections.abc import Sequence

from rich.console import Console

from study.api.study import Shown, Study
from study.errors import renamed
from study.execution.driver import Driver
from study.results import comparison, comparison_views
from study.results.comparison import Comparison
from study.results.listing import Listing, listed

__all__ = ["ComparedStudies", "Listing", "compare", "listing"]


def listing(tracking_uri: str | None = None) -> Listing:
    """All studies in MLflow there; arguments and errors as of `study.open`."""
    return listed(Driver.of(tracking_uri).client)


@renamed({"study": "studies"})
def compare(*studies: Study) -> "ComparedStudies":
    """Several studies side by side, by the objectives, the constraints and the reference point of
    the first.

    Args:
        studies: two or more.

    Raises:
        UserError: if a study is there twice, their data, validation split or measurements differ,
            or one has not measured an objective.
    """
    return ComparedStudies(comparison.compare([one.results for one in studies]))


class ComparedStudies(Shown):
    """Several studies side by side; the front is the joint one, with the study of each network.

    Attributes:
        results: each study, differences with their intervals, settings that differ.
    """

    results: Comparison

    def __init__(self, results: Comparison) -> None:
        self.results = results

    def _print_to(self, console: Console, every: bool, options: Sequence[str] = ()) -> None:
        comparison_views.print_comparison(self.results, every, console, options)

    def __repr__(self) -> str:
        return self._printed().export_text()
