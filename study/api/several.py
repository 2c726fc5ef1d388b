"""Several studies: the list of all, and comparisons."""

from study.api.shown import Shown
from study.api.study import Study
from study.errors import renamed
from study.execution.driver.environment import Driver
from study.results import comparison
from study.results.comparison import Comparison
from study.results.views import comparison_view
from study.results.views.listing import Listing, listed
from study.results.views.sections import View

__all__ = ["ComparedStudies", "Listing", "compare", "listing"]


def listing(tracking_uri: str | None = None) -> Listing:
    """All studies in MLflow; arguments and errors as for `study.open`."""
    return listed(Driver.of(tracking_uri).client)


@renamed({"study": "studies"})
def compare(*studies: Study) -> "ComparedStudies":
    """Compare two or more studies by the objectives, constraints and reference point of the first.

    Raises:
        UserError: if a study is given twice; if data, validation splits or settings by which goals
            are measured differ; if a study has not measured an objective.
    """
    return ComparedStudies(comparison.compare([one.results for one in studies]))


class ComparedStudies(Shown):
    """Several studies: their joint front, differences with intervals, and differing settings."""

    results: Comparison

    def __init__(self, results: Comparison) -> None:
        self.results = results

    @property
    def view(self) -> View[Comparison]:
        return comparison_view.view(self.results)

    def __repr__(self) -> str:
        return self._printed().export_text()
