"""The time that intervals cover, each moment once."""

from bisect import bisect_right
from collections.abc import Sequence


class Covered:
    """The union of intervals, in seconds of some clock."""

    def __init__(self, times: Sequence[tuple[float, float]]) -> None:
        """
        Args:
            times: (start, end) of each.
        """
        self._starts, self._ends = list[float](), list[float]()
        for start, end in sorted(times):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)
        self._before = [0.0]  # what the parts before each cover
        for start, end in zip(self._starts, self._ends, strict=True):
            self._before.append(self._before[-1] + end - start)

    @property
    def seconds(self) -> float:
        """All that they cover."""
        return self._before[-1]

    def until(self, moment: float) -> float:
        """What they cover before a moment, seconds."""
        part = bisect_right(self._starts, moment) - 1
        if part < 0:
            return 0.0
        return self._before[part] + min(moment, self._ends[part]) - self._starts[part]
