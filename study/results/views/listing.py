"""All studies in MLflow, one line each: their state and their results."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from study.errors import printable
from study.metrics.definitions import HOURS, HYPERVOLUME, N_COMPLETED, N_FRONT
from study.metrics.reports import TrialStatus
from study.results.views.sections import Column, as_csv, as_json, table_of, texts, wide_console
from study.results.views.typeset import typeset
from study.tracking import tags
from study.tracking.records import Records
from study.tracking.server.client import Client
from study.tracking.values import metrics_of, seconds

_DONE = "done"
_WIDTH = 80  # of the table, on a terminal that is not narrower
_KEYS = (
    "study",
    "state",
    "data",
    "n_completed",
    "n_trials",
    "n_front",
    "hypervolume",
    "hours",
    "began",
    "end_of_search",
)


@dataclass(frozen=True)
class Listing:
    """All studies of a server or database, the latest first, shown like a report.

    Attributes:
        lines: for each study its name under "study", and
            state: running, interrupted or done. One whose driver died is still marked as running.
            n_completed: trials that trained for all of their epochs, so far.
            n_trials: trials asked for, including repeats.
            n_front, hypervolume, hours: None unless the study is done and its run has them.
            began: UTC, in ISO 8601; None if its run has no such time.
            end_of_search: why it ended before its last possible trial; None if it did not.
        place: where the studies are, for the message that there is none.
    """

    lines: list[dict[str, Any]]
    place: str

    def as_json(self, every: bool) -> str:
        """All studies, whatever `every` is."""
        return as_json(self.lines)

    def as_csv(self, every: bool) -> str:
        """All studies, whatever `every` is."""
        import pandas as pd

        return as_csv(pd.DataFrame(self.lines, columns=list(_KEYS), dtype=object))

    def as_table(self, form: str, every: bool) -> str:
        """All studies, whatever `every` is."""
        return typeset(self._columns(), form)

    def print_table(self, *, every: bool = False, options: Sequence[str] = ()) -> None:
        """Print all studies in 80 columns, and below the table why studies ended early."""
        console = wide_console()
        if not self.lines:
            console.print(f"there is no study {self.place}", markup=False, soft_wrap=True)
            return

        console.print(table_of(self._columns(), gap=1, width=_WIDTH))
        console.print("volume: hypervolume of the front, each study's by its own reference point")
        for line in self.lines:
            if line["end_of_search"] is not None:
                text = f"{line['study']} ended early: {printable(line['end_of_search'])}"
                console.print(text, markup=False, soft_wrap=True)

    def _columns(self) -> list[Column]:
        lines = self.lines
        began = [
            f"{datetime.fromisoformat(line['began']).astimezone():%Y-%m-%d %H:%M}"
            if line["began"]
            else ""
            for line in lines
        ]
        return [
            Column("study", texts(lines, "study"), is_text=True),
            Column("state", texts(lines, "state")),
            Column("data", texts(lines, "data"), is_text=True),
            Column("trials", [f"{line['n_completed']}/{line['n_trials']}" for line in lines]),
            Column("front", texts(lines, "n_front")),
            Column("volume", texts(lines, "hypervolume", ".4g")),
            Column("hours", texts(lines, "hours", ".2g")),
            Column("began", began),
        ]


def listed(client: Client) -> Listing:
    """All studies, the latest first.

    For a study that is done and published, only the study's own run is read; for any other study,
    its completed trials are read too, to count them. Raises TrackingError if MLflow refuses or
    cannot be reached."""
    records, lines = Records(client), []
    for study, run in records.studies_with_runs():
        of_run = run.data.tags
        logged = metrics_of(run) if study.finished else {}
        figures = {name: value for name, value in logged.items() if math.isfinite(value)}
        began = seconds(run.info.start_time)
        n_completed, n_front = figures.get(N_COMPLETED), figures.get(N_FRONT)
        values = (
            study.name,
            _DONE if study.finished else TrialStatus(of_run[tags.STATE]).value,
            study.config.data.name,
            records.n_completed(study) if n_completed is None else int(n_completed),
            study.config.n_trainings,
            None if n_front is None else int(n_front),
            figures.get(HYPERVOLUME),
            figures.get(HOURS),
            None if began is None else datetime.fromtimestamp(began, UTC).isoformat(),
            (of_run.get(tags.END_OF_SEARCH) or None) if study.finished else None,
        )
        lines.append(dict(zip(_KEYS, values, strict=True)))
    return Listing(lines, client.place)
