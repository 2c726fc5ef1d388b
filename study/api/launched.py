"""Running and resuming a study, and publishing its results in MLflow. Imports Ray and torch."""

from collections.abc import Iterator
from contextlib import contextmanager

from study.config.file import Asked
from study.errors import FailedError, TrackingError, UserError
from study.execution.driver import beginning, own_loop, running
from study.execution.driver.beginning import rehearse
from study.execution.driver.own_loop import Loop
from study.execution.driver.place import Driver
from study.execution.driver.resuming import Resumption, planned_resume
from study.execution.driver.running import Outcome
from study.results.published import publish, publish_page
from study.results.report import Report, read

__all__ = ["Loop", "Outcome", "Report", "planned_resume", "rehearse", "resume", "start"]


def start(driver: Driver, asked: Asked) -> tuple[Outcome, Report | None]:
    """Check a study and run it until it ends or is interrupted.

    Returns:
        The outcome, and the report, which is None if the study is unfinished.

    Raises:
        UserError: if it cannot begin; nothing was started then.
        FailedError: if it began and cannot go on; it can be resumed.
    """
    return _ended(driver, running.begin(driver, beginning.plan_new(driver, asked)))


def resume(driver: Driver, plan: Resumption) -> tuple[Outcome, Report | None]:
    """Resume a study as planned, or publish its results. Returns and raises as `start` does."""
    if plan.only_publishes:
        return _ended(driver, running.outcome(driver, plan.record))
    return _ended(driver, running.resume(driver, plan))


@contextmanager
def loop(driver: Driver, asked: Asked) -> Iterator[Loop]:
    """A new study that is told its networks, whose results are published at its end."""
    with own_loop.opened(driver, asked) as opened:
        yield opened
    _published(driver, opened.name)


def _ended(driver: Driver, outcome: Outcome) -> tuple[Outcome, Report | None]:
    return outcome, _published(driver, outcome.record.name) if outcome.is_done else None


def _published(driver: Driver, name: str) -> Report:
    """The report of a study that is done, after publishing it in MLflow."""
    try:
        report = read(driver.records, name)
    except TrackingError as error:
        raise FailedError(f"the study is done, but its results cannot be read: {error}") from error
    try:
        publish(report)
        publish_page(report)
    except UserError as error:
        # The study is done nevertheless, and its report can be made at any time.
        driver.say(f"its results were not put into MLflow: {error}")
        if not report.study.is_told:
            driver.say(f"publish them with {driver.how_to_resume(name)}")
    return report
