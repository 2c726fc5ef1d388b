"""How Tune asks the searcher for trials, in a study that may be extended."""

from typing import Any

from ray.tune.search import ConcurrencyLimiter, Searcher
from ray.tune.search.search_generator import SearchGenerator


class StudyGenerator(SearchGenerator):
    """Asks a searcher for trials, up to some number in all and some number at a time.

    Tune keeps with its state how many trials there are to be, and that the search is over. Both may
    have changed when a study goes on, so they are what this is made with.
    """

    def __init__(self, searcher: Searcher, n_trials: int, n_at_once: int) -> None:
        """
        Args:
            n_trials: at most, those that were made before included.
            n_at_once: that may run at a time.
        """
        super().__init__(ConcurrencyLimiter(searcher, max_concurrent=n_at_once))
        self._n_trials = n_trials

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state({**state, "total_samples": self._n_trials, "finished": False})
