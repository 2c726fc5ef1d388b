"""Adding members of its families to a study that has ended. Imports torch."""

from collections.abc import Mapping
from contextlib import nullcontext

from study.errors import LaunchError
from study.execution.driver.environment import Driver
from study.execution.files import storage
from study.results.report import of_study
from study.results.views.published import publish, publish_page
from study.verification.added import add


def add_members(
    driver: Driver, name: str, conditions: Mapping[str, float], data_root: str | None, trust: bool
) -> None:
    """Add the members with these conditions to a study, and publish its results anew; see
    `Study.add`."""
    records, folder = driver.records, driver.folder(name)
    record = records.find_study(name)
    if record is None:
        raise LaunchError(records.absent(name), "study")
    records.check_files(record)
    # A study that is kept elsewhere is not resumed from here either.
    with storage.locked(folder) if storage.exists(folder) else nullcontext():
        add(records, records.read(record), conditions, data_root, trust)
        # Also if all were there: a command may have been cut off before this.
        report = of_study(records.read(record), records)
        publish(report)
        publish_page(report)
