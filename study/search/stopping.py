"""The stopping criterion of a study: its front stops growing, or its time is up."""

import copy
import time
from typing import Any

from study.config.search import StopConfig
from study.config.study import StudyConfig
from study.pareto import points
from study.pareto.dominance import GrowingFront
from study.search.observation import Outcome


class Stopping:
    """Decides when a study ends, by the hypervolume of its front and by its time.

    Survives a restart by get_state and set_state; the time in between does not count.

    Attributes:
        hypervolumes: exact hypervolume of the front, projections included, after each completed
            trial, in the product of the scales of the objectives. Each repeat is its own trial.
        end_of_search: why the search ended before its last possible trial; None if it has not.
    """

    def __init__(self, study: StudyConfig) -> None:
        self._study = study
        self._front = GrowingFront(points.reference_losses(study.objectives))
        self.hypervolumes: list[float] = []
        self.end_of_search: str | None = None
        self._n_before = 0  # completed trials that the criterion ignores
        self._seconds_before = 0.0
        self._start: float | None = None

    def get_state(self) -> dict[str, Any]:
        """A copy of the state, which `set_state` takes."""
        state = {**vars(self), "_seconds_before": self.seconds}
        del state["_study"], state["_start"]
        return copy.deepcopy(state)

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that `get_state` returned."""
        vars(self).update(state)
        self._start = None if self._start is None else time.monotonic()

    def go_on(self) -> None:
        """Reopen an ended search that was extended; the criterion then ignores earlier trials."""
        self.end_of_search = None
        self._n_before = len(self.hypervolumes)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds since the clock was started, excluding the time between launches."""
        running = 0.0 if self._start is None else time.monotonic() - self._start
        return self._seconds_before + running

    def start_clock(self) -> None:
        """Start the clock, unless it runs already."""
        if self._start is None:
            self._start = time.monotonic()

    def observe(self, outcome: Outcome) -> None:
        """Add the points of a completed trial to the front; other trials do not count."""
        admitted = list(outcome.admitted.values())
        self._front.add(points.scaled_losses(admitted, self._study.objectives))
        self.hypervolumes.append(self._front.hypervolume)

    def gain(self) -> tuple[float, int] | None:
        """(growth, n): the growth of the hypervolume over the last n completed trials, relative to
        its value now. None until more than n have completed, n of them since the last extension."""
        over = (self._study.search.stop or StopConfig()).over_trials
        n_looked_at = len(self.hypervolumes) - max(1, self._n_before)
        if n_looked_at < over or self.hypervolumes[-1] <= 0:
            return None
        now, before = self.hypervolumes[-1], self.hypervolumes[-1 - over]
        return (now - before) / now, over

    def reason(self) -> str | None:
        """Why no further trial may start; None if one may."""
        search = self._study.search
        if search.max_hours is not None and self.seconds >= 3600 * search.max_hours:
            return f"max_hours: {search.max_hours:g} hours are over"
        gain = self.gain()
        if search.stop is None or gain is None or gain[0] >= search.stop.hypervolume_gain:
            return None
        return (
            f"stop: the hypervolume grew by {gain[0]:.2%} over the last {gain[1]} completed "
            f"trials, less than {search.stop.hypervolume_gain:.2%}"
        )
