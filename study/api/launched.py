"""Running and resuming a study, and publishing its results in MLflow. Imports Ray and torch."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from study.config.file import Asked
from study.errors import FailedError, TrackingError, UserError
from study.execution import beginning, own_loop, running
from study.execution.beginning import rehearse
from study.execution.driver import Driver
from study.execution.own_loop import Loop
from study.execution.resuming import Resumption, planned_resume
from study.execution.running import Outcome
from study.metrics.artifacts import PAGE
from study.results import report_view
from study.results.page import write_page
from study.results.published import publish
from study.results.report import Report, read
from study.tracking import files, studies

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


def _ended(driver: Driver, outcome: Outcome) -> tuple[Outcome, Report | None]:
    """The outcome, and the report of a study that is done."""
    return outcome, published(driver, outcome.record.name) if outcome.is_done else None


@contextmanager
def loop(driver: Driver, asked: Asked) -> Iterator[Loop]:
    """A new study that is told its networks, whose results are published at its end."""
    with own_loop.opened(driver, asked) as opened:
        yield opened
    published(driver, opened.name)


def published(driver: Driver, name: str) -> Report:
    """The report of a study that is done, after publishing it in MLflow."""
    try:
        report = read(driver.records, name)
    except TrackingError as error:
        raise FailedError(f"the study is done, but its results cannot be read: {error}") from error
    try:
        publish(report)
        client = driver.client
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / PAGE
            write_page(path, report_view.view(report))
            files.log_file(client, client.get_run(report.study.run_id), path)
        studies.note_published(client, report.study)
    except UserError as error:
        # The study is done nevertheless, and its report can be made at any time.
        driver.say(f"its results were not put into MLflow: {error}")
        if not report.study.is_told:
            driver.say(f"publish them with {driver.how_to_resume(name)}")
    return report
