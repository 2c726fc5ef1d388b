"""How Tune asks the searcher for trials, in a study that may be extended."""

from typing import Any

from ray.tune.search import ConcurrencyLimiter, Searcher
from ray.tune.search.search_generator import SearchGenerator


class StudyGenerator(SearchGenerator):
    """Asks a searcher for trials, up to a number in all and a number at a time.

    Tune restores these numbers, and that the search is over, from its state. They may have changed
    since, so those that this is made with count.
    """

    def __init__(self, searcher: Searcher, n_trials: int, n_at_once: int) -> None:
        """
        Args:
            n_trials: at most, those that were made before included.
            n_at_once: that may run at a time.
        """
        self._limiter = ConcurrencyLimiter(searcher, max_concurrent=n_at_once)
        super().__init__(self._limiter)
        self._n_trials, self._n_at_once = n_trials, n_at_once

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state({**state, "total_samples": self._n_trials, "finished": False})
        # Tune has restored it just before.
        self._limiter.max_concurrent = self._n_at_once
