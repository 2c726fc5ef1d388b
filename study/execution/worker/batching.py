"""Which reports of a trial travel to the driver together."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from study.metrics.reports import EpochReport, TrialReport, TrialStatus

# What the driver takes in a second with a tenth of a core, from all trials together.
_MESSAGES_A_SECOND = 25.0
# However large the study, a report waits no longer for those behind it.
_LONGEST_WAIT_SECONDS = 4.0


def longest_wait(n_at_once: int) -> float:
    """Seconds that a report may wait for those behind it, where so many trials run at once."""
    return min(_LONGEST_WAIT_SECONDS, n_at_once / _MESSAGES_A_SECOND)


@dataclass(frozen=True)
class Batching:
    """Lets a trial train on while nobody would decide anything by its report.

    Attributes:
        longest_wait_seconds: from a report to the message with it, unless an epoch is much longer
            than the one before.
        rungs: epochs at which the scheduler decides whether a trial goes on.
    """

    longest_wait_seconds: float
    rungs: frozenset[int]

    def batch(self, next_report: Callable[[], TrialReport], epoch: int) -> TrialReport:
        """The reports of a trial from `epoch` on up to the next that the driver should have: the
        last one, with those before it in `earlier`."""
        earlier: list[EpochReport] = []
        first = None
        while True:
            start = time.monotonic()
            report = next_report()
            now = time.monotonic()
            first = now if first is None else first
            is_late = now - first + (now - start) > self.longest_wait_seconds
            if report.status is not TrialStatus.RUNNING or report.epoch is None or is_late:
                break
            # A report between rungs counts for the rung before it.
            if not self.rungs.isdisjoint(range(epoch + 1, report.epoch.epoch + 1)):
                break
            epoch = report.epoch.epoch
            earlier.append(report.epoch)
        return replace(report, earlier=tuple(earlier))
