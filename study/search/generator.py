"""Tune's access to the searcher of a study that may be extended."""

from typing import Any

from ray.tune.search import ConcurrencyLimiter, Searcher
from ray.tune.search.search_generator import SearchGenerator


class StudyGenerator(SearchGenerator):
    """Asks a searcher for trials, up to a total and a number at a time.

    Tune restores both limits, and the end of the search, from its state. The limits given here
    replace the restored ones, since the study may have been extended.
    """

    def __init__(self, searcher: Searcher, n_trials: int, n_at_once: int) -> None:
        """`n_trials` includes the trials made before."""
        self._limiter = ConcurrencyLimiter(searcher, max_concurrent=n_at_once)
        super().__init__(self._limiter)
        self._n_trials, self._n_at_once = n_trials, n_at_once

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state({**state, "total_samples": self._n_trials, "finished": False})
        # Tune has just restored it.
        self._limiter.max_concurrent = self._n_at_once
