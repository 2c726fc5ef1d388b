"""Running and resuming a study, and publishing its results in MLflow. Imports Ray and torch."""

from contextlib import AbstractContextManager
from functools import partial

from study.config.file import Asked
from study.errors import FailedError, TrackingError, UserError
from study.execution.driver import own_loop, running
from study.execution.driver.dry_run import rehearse
from study.execution.driver.environment import Driver
from study.execution.driver.own_loop import Loop
from study.execution.driver.planning import Resumption, plan_new, planned_resume
from study.execution.driver.running import Outcome
from study.results.report import Report, of_study
from study.results.views.published import publish, publish_page
from study.tracking.study_record import StudyRead

__all__ = ["Loop", "Outcome", "Report", "planned_resume", "rehearse", "resume", "start"]


def start(driver: Driver, asked: Asked) -> tuple[Outcome, Report | None]:
    """Check a study and run it until it ends or is interrupted.

    Returns:
        The outcome, and the report, which is None if the study is unfinished.

    Raises:
        UserError: if it cannot begin; nothing was started then.
        FailedError: if it began and cannot go on; it can be resumed.
    """
    return _ended(driver, running.begin(driver, plan_new(driver, asked)))


def resume(driver: Driver, plan: Resumption) -> tuple[Outcome, Report | None]:
    """Resume a study as planned; if only its results are missing, publish them. Returns and raises
    as `start` does."""
    outcome = running.resume(driver, plan)
    return _ended(driver, outcome)


def _ended(driver: Driver, outcome: Outcome) -> tuple[Outcome, Report | None]:
    """The outcome, and the report after publishing it; None unless the study is done."""
    return outcome, published(driver, outcome.study) if outcome.is_done else None


def loop(driver: Driver, asked: Asked) -> AbstractContextManager[Loop]:
    """A new study whose networks its user trains, and whose results are published at its end."""
    return own_loop.opened(driver, asked, partial(published, driver))


def published(driver: Driver, study: StudyRead) -> Report:
    """The report of a study that is done, after publishing it in MLflow."""
    try:
        report = of_study(study, driver.records)
    except TrackingError as error:
        raise FailedError(f"the study is done, but its results cannot be read: {error}") from error
    try:
        publish(report)
        publish_page(report)
    except UserError as error:
        # The study is done nevertheless, and its report can be made at any time.
        driver.say(f"its results were not put into MLflow: {error}")
        if not report.study.is_told:
            driver.say(f"publish them with {driver.how_to_resume(report.study.name)}")
    return report
