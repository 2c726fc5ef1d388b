"""The studies that MLflow has, a line each: how they stand, and what came out."""

import csv
import io
import json
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from study.errors import printable
from study.metrics.definitions import HOURS, HYPERVOLUME, N_COMPLETED, N_FRONT
from study.metrics.reports import TrialStatus
from study.tracking import tags
from study.tracking.records import Records

_DONE = "done"
# Of the table on a terminal that is not narrower.
_WIDTH = 80


@dataclass(frozen=True)
class Listed:
    """A study in one line.

    Attributes:
        state: running, interrupted or done. One whose driver died is still marked as running.
        n_completed: trials that trained for all of their epochs, so far.
        n_trials: that were asked for, with their repeats.
        n_front, hypervolume, hours: of a study that is done; None before, and where the study's run
            has none.
        began: seconds since 1970-01-01 UTC.
        end_of_search: why it ended before its last possible trial; None if it did not.
    """

    study: str
    state: str
    data: str
    n_completed: int
    n_trials: int
    n_front: int | None
    hypervolume: float | None
    hours: float | None
    began: float
    end_of_search: str | None


def listed(records: Records) -> list[Listed]:
    """All studies, the latest first.

    Of a study that is done its own run alone is read. Of one that is not, or that an earlier
    version ended, the trials that completed are read too, to be counted.

    Raises:
        TrackingError: if MLflow refuses or cannot be reached.
    """
    lines = []
    for study, run in records.studies_with_runs():
        of_run = run.data.tags
        figures = run.data.metrics if study.finished else {}
        n_completed, n_front = figures.get(N_COMPLETED), figures.get(N_FRONT)
        line = Listed(
            study=study.name,
            state=_DONE if study.finished else TrialStatus(of_run[tags.STATE]).value,
            data=study.config.data.name,
            n_completed=records.n_completed(study) if n_completed is None else int(n_completed),
            n_trials=study.config.n_trainings,
            n_front=None if n_front is None else int(n_front),
            hypervolume=figures.get(HYPERVOLUME),
            hours=figures.get(HOURS),
            began=run.info.start_time / 1000,
            end_of_search=(of_run.get(tags.END_OF_SEARCH) or None) if study.finished else None,
        )
        lines.append(line)
    return lines


def as_json(lines: list[Listed]) -> str:
    """A list with an object a study."""
    return json.dumps([_plain(line) for line in lines], indent=1)


def as_csv(lines: list[Listed]) -> str:
    """A head, and a line a study."""
    text = io.StringIO()
    names = [field.name for field in fields(Listed)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_plain(line) for line in lines)
    return text.getvalue().rstrip("\n")


def _plain(line: Listed) -> dict[str, object]:
    return {**asdict(line), "began": datetime.fromtimestamp(line.began, UTC).isoformat()}


def print_list(lines: list[Listed], console: Console, place: str) -> None:
    """A table of 80 columns, and below it why studies ended early.

    Args:
        place: where they were looked for, for the message that there is none.
    """
    if not lines:
        console.print(f"there is no study {place}", markup=False, soft_wrap=True)
        return
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, width=_WIDTH)
    # A name is typed as it is printed: a long one is broken, and not cut.
    table.add_column("study", overflow="fold", min_width=10)
    table.add_column("state", no_wrap=True)
    table.add_column("data", overflow="fold", min_width=6)
    for head in ("trials", "front", "volume", "hours"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("began", no_wrap=True)
    for line in lines:
        table.add_row(
            line.study,
            line.state,
            line.data,
            f"{line.n_completed}/{line.n_trials}",
            "" if line.n_front is None else str(line.n_front),
            "" if line.hypervolume is None else f"{line.hypervolume:.4g}",
            "" if line.hours is None else f"{line.hours:.2g}",
            f"{datetime.fromtimestamp(line.began):%Y-%m-%d %H:%M}",
        )
    console.print(table)
    console.print("volume: hypervolume of the front, each study's by its own reference point")
    for line in lines:
        if line.end_of_search is not None:
            text = f"{line.study} ended early: {printable(line.end_of_search)}"
            console.print(text, markup=False, soft_wrap=True)
